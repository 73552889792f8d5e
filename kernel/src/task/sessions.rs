//! Process groups, sessions and the terminals that control them (setpgid(2), setsid(2), tty(4)).

use super::{Pid, Table, ThreadGroup, lock_table};
use crate::signal::{self, SigInfo};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// The terminal of a session, as far as the kernel below it has to know. Terminals themselves are files (crate `vfs`).
pub trait ControllingTerminal: Send + Sync {
    /// For the crate that made it.
    fn as_any(&self) -> &dyn Any;

    /// Its device number, as `st_rdev` encodes it (`tty_nr` of `/proc/PID/stat`).
    fn device(&self) -> u64;

    /// Its foreground process group, or [`Pid::NONE`]. Takes no lock above an open file's.
    fn foreground(&self) -> Pid;
}

impl Table {
    /// The processes of a process group, zombies included.
    pub fn process_group(&self, pgid: Pid) -> Vec<Arc<ThreadGroup>> {
        self.members(pgid).cloned().collect()
    }

    /// The same, by id.
    fn members(&self, pgid: Pid) -> impl Iterator<Item = &Arc<ThreadGroup>> {
        let members = self.process_groups.get(&pgid).into_iter().flat_map(BTreeMap::values);
        members.filter(|group| !group.is_sandbox)
    }

    /// The processes of a session, zombies included.
    pub fn session(&self, sid: Pid) -> Vec<Arc<ThreadGroup>> {
        self.groups()
            .into_iter()
            .filter(|group| !group.is_sandbox && group.family.lock().sid == sid)
            .collect()
    }

    /// Whether no member of a process group has a parent in another group of the same session (POSIX 3.246, "orphaned process
    /// group"): nobody is there who could continue its members. `without` is left out.
    pub fn is_orphaned(&self, pgid: Pid, without: Option<&Arc<ThreadGroup>>) -> bool {
        let connects = |member: &Arc<ThreadGroup>| {
            let (parent, sid) = {
                let family = member.family.lock();
                if family.zombie.is_some() {
                    return false;
                }
                (family.parent.upgrade(), family.sid)
            };
            parent.is_some_and(|parent| {
                let family = parent.family.lock();
                !parent.is_sandbox && family.pgid != pgid && family.sid == sid
            })
        };
        !self
            .members(pgid)
            .any(|member| without.is_none_or(|without| !Arc::ptr_eq(member, without)) && connects(member))
    }
}

/// Whether the process group is orphaned now; see [`Table::is_orphaned`].
pub fn is_orphaned(pgid: Pid) -> bool {
    lock_table().is_ok_and(|table| table.is_orphaned(pgid, None))
}

/// Sends a signal to every process of a group. Nothing for [`Pid::NONE`].
pub fn signal_process_group(pgid: Pid, info: SigInfo) {
    if pgid.is_none() {
        return;
    }
    let Ok(table) = lock_table() else { return };
    let members = table.process_group(pgid);
    drop(table);
    for member in members {
        let _ = signal::send_to_group(&member, info);
    }
}
