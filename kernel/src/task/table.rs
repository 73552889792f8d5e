//! The process table: every task and group by its virtual id. Its lock also guards all family relations.

use super::{Pid, PidSpace, Task, ThreadGroup};
use crate::sync::{BootCell, Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hashbrown::HashMap;

/// Where ids start again after the highest (`RESERVED_PIDS`).
const PID_RESTART: i32 = 300;

/// A [`PidSpace`] that is in use.
struct UsedSpace {
    space: PidSpace,
    /// The id that was given last, as it is shown there.
    last: i32,
}

/// All ids.
pub struct Table {
    tasks: HashMap<Pid, Arc<Task>>,
    groups: HashMap<Pid, Arc<ThreadGroup>>,
    /// Members of each process group by their ids, and the number of members of each session: a free id is found, a group
    /// signalled and a member taken out without a look at every process. Changed by [`Table::place`] and where a process comes or goes.
    pub(super) process_groups: HashMap<Pid, BTreeMap<Pid, Arc<ThreadGroup>>>,
    sessions: HashMap<Pid, usize>,
    last: i32,
    /// Spaces that are not [`PidSpace::ALL`].
    spaces: Vec<UsedSpace>,
    /// The first id of the one that was made last.
    newest: Pid,
    sandbox: Arc<ThreadGroup>,
    limit: usize,
}

static TABLE: BootCell<Box<Mutex<Table>>> = BootCell::new();

/// Sets the table up with the group that stands for the sandbox, which is process 1 or, where the first process is to be that,
/// 0 and none of the table's. `limit` bounds the number of tasks. Called once, at boot.
pub fn init_table(sandbox: Arc<ThreadGroup>, limit: usize) {
    let mut table = Table {
        tasks: HashMap::new(),
        groups: HashMap::new(),
        process_groups: HashMap::new(),
        sessions: HashMap::new(),
        last: sandbox.tgid.0,
        spaces: Vec::new(),
        newest: Pid::NONE,
        sandbox: sandbox.clone(),
        limit,
    };
    if !sandbox.tgid.is_none() {
        table.groups.insert(sandbox.tgid, sandbox.clone());
        table.join(&sandbox);
    }
    TABLE.set(Box::new(Mutex::new(table)));
}

/// The table's lock object; `None` only before boot has set it up.
pub fn table() -> Option<&'static Mutex<Table>> {
    TABLE.get().map(|table| &**table)
}

/// The table, locked.
pub fn lock_table() -> Result<MutexGuard<'static, Table>> {
    table().map(Mutex::lock).ok_or(Errno::ESRCH)
}

impl Table {
    /// A task by its id.
    pub fn task(&self, tid: Pid) -> Option<Arc<Task>> {
        self.tasks.get(&tid).cloned()
    }

    /// A process by its id (also a zombie).
    pub fn group(&self, tgid: Pid) -> Option<Arc<ThreadGroup>> {
        self.groups.get(&tgid).cloned()
    }

    /// All processes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ThreadGroup>> {
        self.groups.values()
    }

    /// All processes, by id.
    pub fn groups(&self) -> Vec<Arc<ThreadGroup>> {
        let mut groups: Vec<_> = self.groups.values().cloned().collect();
        groups.sort_by_key(|group| group.tgid);
        groups
    }

    /// The parent of processes that nobody inside has made.
    pub fn sandbox(&self) -> &Arc<ThreadGroup> {
        &self.sandbox
    }

    /// The process that adopts the orphans of a space when nobody else does: number 1 there; once that has ended, nobody inside.
    pub fn adopter(&self, space: PidSpace) -> &Arc<ThreadGroup> {
        let first = self.groups.get(&space.first());
        let lives = |first: &&Arc<ThreadGroup>| space.is_all() || first.alive.load(Ordering::SeqCst) != 0;
        first.filter(lives).unwrap_or(&self.sandbox)
    }

    /// Tasks at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes that. Tasks that are too many stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task lives.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Makes a space: one whose numbers name nobody, and where possible not the one that was given up last. `EAGAIN` if there are too many.
    pub fn new_space(&mut self) -> Result<PidSpace> {
        let ids = || self.tasks.keys().chain(self.groups.keys()).chain(self.process_groups.keys());
        let taken = |space: &PidSpace| {
            self.spaces.iter().any(|used| used.space == *space)
                || ids().chain(self.sessions.keys()).any(|id| space.contains(*id))
        };
        let after = PidSpace::ranges().filter(|space| space.first() > self.newest);
        let mut free = after.chain(PidSpace::ranges()).filter(|space| !taken(space));
        let space = free.next().ok_or(Errno::EAGAIN)?;
        self.newest = space.first();
        self.spaces.push(UsedSpace { space, last: 0 });
        Ok(space)
    }

    /// Nobody is in a space any more, and nobody will be.
    pub fn drop_space(&mut self, space: PidSpace) {
        self.spaces.retain(|used| used.space != space);
    }

    /// The id that was given last in a space (`kernel.ns_last_pid`).
    pub fn last_id(&self, space: PidSpace) -> Pid {
        let used = self.spaces.iter().find(|used| used.space == space);
        used.and_then(|used| space.named(used.last)).unwrap_or(Pid(self.last))
    }

    /// An id of a space that names no task, process, process group or session. `EAGAIN` at the sandbox's limit; `ENOMEM` in a space
    /// whose first process has ended (fork(2)).
    pub fn new_id(&mut self, space: PidSpace) -> Result<Pid> {
        if self.tasks.len() >= self.limit {
            return Err(Errno::EAGAIN);
        }
        let used = self.spaces.iter().position(|used| used.space == space);
        let mut last = used.and_then(|at| self.spaces.get(at)).map_or(self.last, |used| used.last);
        if !space.is_all() && last != 0 && Arc::ptr_eq(self.adopter(space), &self.sandbox) {
            return Err(Errno::ENOMEM);
        }
        for _ in 0..space.max() {
            last = if last >= space.max() - 1 { PID_RESTART } else { last + 1 };
            let Some(id) = space.named(last) else { continue };
            if self.is_taken(space, id) {
                continue;
            }
            match used.and_then(|at| self.spaces.get_mut(at)) {
                Some(used) => used.last = last,
                None => self.last = last,
            }
            return Ok(id);
        }
        Err(Errno::EAGAIN)
    }

    fn is_taken(&self, space: PidSpace, id: Pid) -> bool {
        let of_others = || self.spaces.iter().any(|used| used.space.contains(id));
        self.tasks.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.process_groups.contains_key(&id)
            || self.sessions.contains_key(&id)
            || (space.is_all() && of_others())
    }

    /// Puts a task in, and its group if that is new.
    pub fn insert(&mut self, task: &Arc<Task>) {
        self.tasks.insert(task.tid(), task.clone());
        if self.groups.insert(task.group.tgid, task.group.clone()).is_none() {
            self.join(&task.group);
        }
    }

    /// Takes an ended task out.
    pub fn remove_task(&mut self, tid: Pid) {
        self.tasks.remove(&tid);
    }

    /// Gives the id of an ended main thread to `task`, which executes a new program.
    pub fn rename_to_leader(&mut self, task: &Arc<Task>) {
        self.tasks.remove(&task.tid());
        task.become_leader();
        self.tasks.insert(task.tid(), task.clone());
    }

    /// Takes a process out that was waited for.
    pub fn remove_group(&mut self, tgid: Pid) {
        if let Some(group) = self.groups.remove(&tgid) {
            self.part(&group);
        }
    }

    /// Moves a process to another process group and session.
    pub fn place(&mut self, group: &Arc<ThreadGroup>, pgid: Pid, sid: Pid) {
        let listed = self.groups.contains_key(&group.tgid);
        if listed {
            self.part(group);
        }
        {
            let mut family = group.family.lock();
            (family.pgid, family.sid) = (pgid, sid);
        }
        if listed {
            self.join(group);
        }
    }

    fn join(&mut self, group: &Arc<ThreadGroup>) {
        let (pgid, sid) = group.place();
        self.process_groups.entry(pgid).or_default().insert(group.tgid, group.clone());
        *self.sessions.entry(sid).or_default() += 1;
    }

    fn part(&mut self, group: &Arc<ThreadGroup>) {
        let (pgid, sid) = group.place();
        if let Some(members) = self.process_groups.get_mut(&pgid) {
            members.remove(&group.tgid);
            if members.is_empty() {
                self.process_groups.remove(&pgid);
            }
        }
        if let Some(members) = self.sessions.get_mut(&sid) {
            *members = members.saturating_sub(1);
            if *members == 0 {
                self.sessions.remove(&sid);
            }
        }
    }
}
