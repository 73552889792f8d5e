//! The process table: every task and group by its virtual id. Its lock also guards all family relations.

use super::{Task, ThreadGroup};
use crate::sync::{BootCell, Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use hashbrown::HashMap;

/// Highest id, as Linux's default `kernel.pid_max`.
const PID_MAX: i32 = 4_194_304;
/// Where ids start again after [`PID_MAX`] (`RESERVED_PIDS`).
const PID_RESTART: i32 = 300;

/// All ids.
pub struct Table {
    tasks: HashMap<i32, Arc<Task>>,
    groups: HashMap<i32, Arc<ThreadGroup>>,
    /// Members of each process group by their ids, and the number of members of each session: a free id is found, a group
    /// signalled and a member taken out without a look at every process. Changed by [`Table::place`] and where a process comes or goes.
    pub(super) process_groups: HashMap<i32, BTreeMap<i32, Arc<ThreadGroup>>>,
    sessions: HashMap<i32, usize>,
    last: i32,
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
        last: sandbox.tgid,
        sandbox: sandbox.clone(),
        limit,
    };
    if sandbox.tgid != 0 {
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
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.tasks.get(&tid).cloned()
    }

    /// A process by its id (also a zombie).
    pub fn group(&self, tgid: i32) -> Option<Arc<ThreadGroup>> {
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

    /// The process that adopts orphans when nobody else does: number 1.
    pub fn adopter(&self) -> &Arc<ThreadGroup> {
        self.groups.get(&1).unwrap_or(&self.sandbox)
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

    /// An id that names no task, process, process group or session. `EAGAIN` at the sandbox's limit.
    pub fn new_id(&mut self) -> Result<i32> {
        if self.tasks.len() >= self.limit {
            return Err(Errno::EAGAIN);
        }
        for _ in 0..PID_MAX {
            self.last = if self.last >= PID_MAX { PID_RESTART } else { self.last + 1 };
            let id = self.last;
            let taken = self.tasks.contains_key(&id)
                || self.groups.contains_key(&id)
                || self.process_groups.contains_key(&id)
                || self.sessions.contains_key(&id);
            if !taken {
                return Ok(id);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Puts a task in, and its group if that is new.
    pub fn insert(&mut self, task: &Arc<Task>) {
        self.tasks.insert(task.tid(), task.clone());
        if self.groups.insert(task.group.tgid, task.group.clone()).is_none() {
            self.join(&task.group);
        }
    }

    /// Takes an ended task out.
    pub fn remove_task(&mut self, tid: i32) {
        self.tasks.remove(&tid);
    }

    /// Gives the id of an ended main thread to `task`, which executes a new program.
    pub fn rename_to_leader(&mut self, task: &Arc<Task>) {
        self.tasks.remove(&task.tid());
        task.become_leader();
        self.tasks.insert(task.tid(), task.clone());
    }

    /// Takes a process out that was waited for.
    pub fn remove_group(&mut self, tgid: i32) {
        if let Some(group) = self.groups.remove(&tgid) {
            self.part(&group);
        }
    }

    /// Moves a process to another process group and session.
    pub fn place(&mut self, group: &Arc<ThreadGroup>, pgid: i32, sid: i32) {
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
