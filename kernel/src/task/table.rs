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
    TABLE.set(Box::new(Mutex::new(Table::new(sandbox, limit))));
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
    fn new(sandbox: Arc<ThreadGroup>, limit: usize) -> Table {
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
        table
    }

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

    /// Whether a user has as many tasks as this, processes that nobody has waited for included (`RLIMIT_NPROC`).
    pub fn has_so_many(&self, user: u32, count: u64) -> bool {
        // Mostly there are fewer of all users.
        if ((self.tasks.len() + self.groups.len()) as u64) < count {
            return false;
        }
        let living = self.tasks.values().filter(|task| task.cred().uid == user).count();
        let ended = |group: &&Arc<ThreadGroup>| {
            group.family.lock().zombie.is_some() && group.ended_user.load(Ordering::Relaxed) == user
        };
        (living + self.groups.values().filter(ended).count()) as u64 >= count
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cred::Cred;

    fn table() -> Table {
        Table::new(ThreadGroup::sandbox(true), usize::MAX)
    }

    /// A process without threads of its own, as an orphan.
    fn process(table: &mut Table, space: PidSpace) -> Arc<ThreadGroup> {
        let id = table.new_id(space).expect("an id");
        let sandbox = table.sandbox().clone();
        let group = ThreadGroup::new((id, space), &sandbox, &sandbox, 17);
        {
            let mut family = group.family.lock();
            (family.pgid, family.sid) = (id, id);
        }
        group.alive.store(1, Ordering::SeqCst);
        let cred = Arc::new(Cred::new(0, 0, Vec::new()));
        table.insert(&Arc::new(Task::new(id, group.clone(), cred, [0; 16])));
        group
    }

    fn end(table: &mut Table, group: &ThreadGroup) {
        group.alive.store(0, Ordering::SeqCst);
        table.remove_task(group.tgid);
        table.remove_group(group.tgid);
    }

    #[test]
    fn processes_of_each_space_are_numbered_from_one_and_have_one_to_adopt_them() {
        let mut table = table();
        let spaces = [PidSpace::ALL, table.new_space().expect("free"), table.new_space().expect("free")];
        for number in 1..5 {
            for space in spaces {
                let group = process(&mut table, space);
                assert_eq!(space.shown(group.tgid), number);
                assert_eq!(table.last_id(space), group.tgid);
            }
        }
        for space in spaces {
            assert_eq!(table.adopter(space).tgid, space.first());
        }
    }

    #[test]
    fn nobody_is_made_where_process_one_has_ended() {
        let mut table = table();
        let space = table.new_space().expect("free");
        let first = process(&mut table, space);
        let other = process(&mut table, space);
        end(&mut table, &first);
        assert_eq!(table.new_id(space), Err(Errno::ENOMEM));
        assert!(table.adopter(space).is_sandbox);
        assert!(table.new_id(PidSpace::ALL).is_ok());
        end(&mut table, &other);
    }

    #[test]
    fn numbers_start_again_behind_the_reserved_ones_and_pass_over_other_spaces() {
        let mut table = table();
        let space = table.new_space().expect("free");
        let first = process(&mut table, space);
        for number in 2..space.max() {
            assert_eq!(space.shown(table.new_id(space).expect("an id")), number);
        }
        assert_eq!(space.shown(table.new_id(space).expect("an id")), PID_RESTART);
        let beside = loop {
            let id = table.new_id(PidSpace::ALL).expect("an id");
            if id > first.tgid {
                break id;
            }
        };
        assert!(!space.contains(beside), "{beside:?}");
        assert!(beside.number() < first.tgid.number() + space.max());
    }

    #[test]
    fn a_space_is_given_again_when_all_others_were_and_nobody_is_left_in_it() {
        let mut table = table();
        let space = table.new_space().expect("free");
        let left = process(&mut table, space);
        table.drop_space(space);
        let count = PidSpace::ranges().count();
        for _ in 0..count * 2 {
            let other = table.new_space().expect("free");
            assert_ne!(other, space, "somebody has a number in it");
            table.drop_space(other);
        }
        end(&mut table, &left);
        let mut given = Vec::new();
        for _ in 0..count {
            given.push(table.new_space().expect("free"));
        }
        assert!(given.contains(&space));
        assert_eq!(table.new_space(), Err(Errno::EAGAIN));
    }
}
