//! Signal-driven I/O (fcntl(2) `O_ASYNC`, `F_SETOWN`, `F_SETSIG`): whoever a file belongs to gets a signal when it becomes ready.

use crate::file::{FileRef, OpenFile};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use kernel::cred::Cred;
use kernel::poll::{PollEvents, PollTable};
use kernel::signal::{self, SIGIO, SIGURG, SigInfo, si};
use kernel::task::calls::Call;
use kernel::task::{self, Pid, PidSpace, Task, ThreadGroup};
use kernel::wait::{Told, Wake};
use linux_raw_sys::general as raw;

/// Whom a file's signals go to. Processes are held as such: a number that is used again means somebody else.
#[derive(Clone, Default)]
pub enum Recipient {
    /// Nobody.
    #[default]
    Nobody,
    /// A thread (`F_OWNER_TID`).
    Task(Weak<Task>),
    /// A process (`F_OWNER_PID`).
    Process(Weak<ThreadGroup>),
    /// A process group (`F_OWNER_PGRP`).
    ProcessGroup(Pid),
}

impl Recipient {
    /// From fcntl(2)'s kind and number, as a program of a space means it, 0 for nobody: `EINVAL` for a kind that is none, `ESRCH`.
    pub fn find(space: PidSpace, kind: u32, id: i32) -> Result<Recipient> {
        if kind > raw::F_OWNER_PGRP {
            return Err(Errno::EINVAL);
        }
        if id == 0 {
            return Ok(Recipient::Nobody);
        }
        let id = space.named(id).ok_or(Errno::ESRCH)?;
        let table = task::lock_table()?;
        match kind {
            raw::F_OWNER_TID => table.task(id).map(|task| Recipient::Task(Arc::downgrade(&task))),
            raw::F_OWNER_PID => table.group(id).map(|group| Recipient::Process(Arc::downgrade(&group))),
            _ => {
                let there = !table.process_group(id).is_empty();
                there.then_some(Recipient::ProcessGroup(id))
            }
        }
        .ok_or(Errno::ESRCH)
    }

    /// Kind and id, as `F_GETOWN_EX` tells them; none for who is gone: no longer in the process table, whoever still holds a
    /// reference. Takes the table's lock.
    pub fn told(&self) -> (u32, Pid) {
        match self {
            Recipient::Nobody => (raw::F_OWNER_TID, Pid::NONE),
            Recipient::Task(task) => {
                let task = task.upgrade();
                let listed = task.as_ref().and_then(|task| task::lock_table().ok()?.task(task.tid()));
                let same =
                    listed.filter(|listed| task.as_ref().is_some_and(|task| Arc::ptr_eq(task, listed)));
                (raw::F_OWNER_TID, same.map_or(Pid::NONE, |task| task.tid()))
            }
            Recipient::Process(group) => {
                let group = group.upgrade();
                let listed = group.as_ref().and_then(|group| task::lock_table().ok()?.group(group.tgid));
                let same =
                    listed.filter(|listed| group.as_ref().is_some_and(|group| Arc::ptr_eq(group, listed)));
                (raw::F_OWNER_PID, same.map_or(Pid::NONE, |group| group.tgid))
            }
            Recipient::ProcessGroup(id) => (raw::F_OWNER_PGRP, *id),
        }
    }
}

/// Who gets the signals of a file, and which.
#[derive(Clone, Default)]
pub struct Owner {
    /// To whom they go.
    pub to: Recipient,
    /// Real and effective user of who said so: signals are sent in their name.
    pub users: (u32, u32),
    /// Signal (`F_SETSIG`); 0 for SIGIO without further information.
    pub signal: i32,
}

impl Owner {
    /// Whether signals may be sent to somebody (`sigio_perm`).
    fn may_signal(&self, cred: &Cred) -> bool {
        let (real, effective) = self.users;
        effective == 0 || [real, effective].iter().any(|user| [cred.uid, cred.suid].contains(user))
    }
}

/// Listens to the queues of a file.
struct Listener {
    file: Weak<OpenFile>,
    /// Descriptor that was used to ask.
    fd: i32,
}

impl Wake for Listener {
    fn tell(&self, events: PollEvents) -> Told {
        if let Some(file) = self.file.upgrade() {
            let owner = file.owner.lock().clone();
            send(&owner, events, self.fd);
        }
        Told { taken: true, sleeps: false }
    }
}

/// Tells the owner of a file that its lease is to be given up, or that something happened in it; `fd` is what was asked with.
pub(crate) fn message(file: &OpenFile, fd: i32) {
    const POLL_MSG: i32 = 3;
    /// `EPOLLIN | EPOLLRDNORM | EPOLLMSG`.
    const BAND: u64 = 0x1 | 0x40 | 0x400;
    let owner = file.owner.lock().clone();
    let mut info = SigInfo::new(SIGIO, si::KERNEL);
    if owner.signal != 0 {
        info = SigInfo::new(owner.signal, POLL_MSG);
        (info.fields[0], info.fields[1]) = (BAND, u64::from(fd as u32));
    }
    deliver(&owner, info);
}

/// Starts or stops sending, by the `O_ASYNC` that the file's flags have now. Only for files that send
/// ([`crate::file::FileOps::signals_io`]).
pub fn follow_flags(file: &FileRef, fd: i32) {
    if !file.ops.signals_io() {
        return;
    }
    let table = (file.flags() & raw::FASYNC != 0).then(|| {
        let mut table = PollTable::deferred(Arc::new(Listener { file: Arc::downgrade(file), fd }));
        file.ops.poll(&mut table);
        table
    });
    let old = core::mem::replace(&mut *file.listening.lock(), table);
    drop(old);
}

/// `si_code` (`POLL_*`) and `si_band` of what a file has become ready for.
fn band(events: PollEvents) -> (i32, u64) {
    const POLL_IN: i32 = 1;
    const POLL_OUT: i32 = 2;
    const POLL_PRI: i32 = 5;
    if events.contains(PollEvents::PRI) {
        (POLL_PRI, u64::from((PollEvents::PRI | PollEvents::RDBAND).bits()))
    } else if events.intersects(PollEvents::IN | PollEvents::HUP) {
        (POLL_IN, u64::from(PollEvents::READABLE.bits()))
    } else {
        (POLL_OUT, u64::from((PollEvents::WRITABLE | PollEvents::WRBAND).bits()))
    }
}

fn information(owner: &Owner, events: PollEvents, fd: i32) -> SigInfo {
    if owner.signal == 0 {
        return SigInfo::new(SIGIO, si::KERNEL);
    }
    let (code, band) = band(events);
    let mut info = SigInfo::new(owner.signal, code);
    (info.fields[0], info.fields[1]) = (band, u64::from(fd as u32));
    info
}

fn send(owner: &Owner, events: PollEvents, fd: i32) {
    deliver(owner, information(owner, events, fd));
}

/// Urgent data have come (socket(7)): whether or not there is `O_ASYNC`, whatever `F_SETSIG` says.
pub fn urgent(owner: &Owner) {
    deliver(owner, SigInfo::new(SIGURG, si::KERNEL));
}

/// A signal for a process group, whose members only the process table knows: its lock stands above all that a file's news are
/// told under.
struct ToProcessGroup {
    id: Pid,
    owner: Owner,
    info: SigInfo,
}

impl Call for ToProcessGroup {
    fn run(&self) {
        let Ok(table) = task::lock_table() else { return };
        let members = table.process_group(self.id);
        drop(table);
        members.iter().for_each(|group| send_to_process(&self.owner, group, self.info));
    }
}

fn send_to_process(owner: &Owner, group: &Arc<ThreadGroup>, info: SigInfo) {
    if group.leader().is_some_and(|task| owner.may_signal(&task.cred())) {
        let _ = signal::send_to_group(group, info);
    }
}

fn deliver(owner: &Owner, info: SigInfo) {
    let to_task = |task: &Arc<Task>| {
        if owner.may_signal(&task.cred()) {
            let _ = signal::send_to_task(task, info);
        }
    };
    match &owner.to {
        Recipient::Nobody => {}
        Recipient::Task(task) => task.upgrade().iter().for_each(to_task),
        Recipient::Process(group) => {
            group.upgrade().iter().for_each(|group| send_to_process(owner, group, info));
        }
        Recipient::ProcessGroup(id) => {
            let call = ToProcessGroup { id: *id, owner: owner.clone(), info };
            match task::current_if_any() {
                Some(task) => task.postpone(Box::new(call)),
                // The warden holds no lock when it tells of what the host has brought.
                None => call.run(),
            }
        }
    }
}
