//! Semaphore sets (semop(2), semctl(2)).
//!
//! Who must wait leaves its operations with the set. Whoever changes a semaphore carries out what has become possible on behalf
//! of the sleepers, in the order in which they came, and wakes them with the result: none can be passed over between a wake-up
//! and a second look.

use super::abi::IPC_NOWAIT;
use super::sem_undo::{self, UndoList};
use super::{Charge, Ids, Object, Perm, seconds};
use crate::boot;
use crate::poll::PollEvents;
use crate::sync::{BootCell, Mutex, MutexGuard};
use crate::task::{self, Pid};
use crate::wait::{self, Ended, Waiter};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::sysctl::SEM;
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Semaphores of a set at most (`SEMMSL`).
pub fn of_a_set() -> usize {
    limit(0)
}

/// Semaphores of all sets at most (`SEMMNS`).
pub fn of_all_sets() -> usize {
    limit(1)
}

/// Operations of one call at most (`SEMOPM`).
pub fn operations() -> usize {
    limit(2)
}

fn limit(place: usize) -> usize {
    boot::sysctl_number(&SEM, place) as usize
}

/// Highest value of a semaphore (`SEMVMX`).
pub const VALUE_MAX: i32 = 32767;
/// `SEM_UNDO`.
pub const UNDO: u16 = 0x1000;
const NOWAIT: u16 = IPC_NOWAIT as u16;

/// A semaphore.
#[derive(Debug, Clone, Copy, Default)]
pub struct Semaphore {
    /// Its value, 0 to [`VALUE_MAX`].
    pub value: u16,
    /// Process that changed it last.
    pub pid: Pid,
}

/// One operation (`struct sembuf`).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names are semop(2)'s")]
pub struct Operation {
    pub number: u16,
    pub change: i16,
    pub flags: u16,
}

impl Operation {
    fn undoes(&self) -> bool {
        self.flags & UNDO != 0
    }
}

/// The operations of a call that waits.
struct Sleeper {
    operations: Vec<Operation>,
    pid: Pid,
    undo: Option<Arc<UndoList>>,
    waiter: Arc<Waiter>,
    /// Not yet decided while [`UNDECIDED`]; else the call's result: 0 or an error number.
    outcome: AtomicI32,
}

const UNDECIDED: i32 = -1;

impl Sleeper {
    fn decide(&self, outcome: Result<()>) {
        let code = outcome.err().map_or(0, |errno| errno.0);
        self.outcome.store(code, Ordering::SeqCst);
        self.waiter.wake(PollEvents::IN);
    }

    fn decided(&self) -> Option<Result<()>> {
        match self.outcome.load(Ordering::SeqCst) {
            UNDECIDED => None,
            0 => Some(Ok(())),
            code => Some(Err(Errno(code))),
        }
    }
}

/// What came of a try.
enum Tried {
    Done,
    /// The operation of this place has to wait.
    Blocked(usize),
}

/// What is taken back at the end of the tasks of a list.
struct Undone {
    list: Arc<UndoList>,
    adjustments: Box<[i16]>,
    _charge: Charge,
}

/// The changing part of a set.
pub struct State {
    /// Permissions.
    pub perm: Perm,
    /// The semaphores.
    pub semaphores: Box<[Semaphore]>,
    /// Time of the last semop(2), seconds.
    pub operated: i64,
    /// Time of the last change by semctl(2), or of creation.
    pub changed: i64,
    removed: bool,
    /// Those who wait, the longest first, and which of their operations they wait for.
    sleepers: VecDeque<(Arc<Sleeper>, usize)>,
    undos: Vec<Undone>,
    _charge: Charge,
}

/// A semaphore set.
pub struct Set {
    id: i32,
    state: Mutex<State>,
}

struct All {
    ids: Ids<Set>,
    /// Of all sets that were not removed. Grows with the lock of `ids` held.
    semaphores: AtomicUsize,
}

static ALL: BootCell<Box<All>> = BootCell::new();

pub(super) fn init() {
    // `SEMMNI`.
    ALL.set(Box::new(All { ids: Ids::new(limit(3)), semaphores: AtomicUsize::new(0) }));
}

fn all() -> Result<&'static All> {
    ALL.get().map(|all| &**all).ok_or(Errno::ENOSYS)
}

/// All sets.
pub fn sets() -> Result<&'static Ids<Set>> {
    Ok(&all()?.ids)
}

/// semget(2): `EINVAL`, `ENOSPC`, `ENOMEM`, and what [`Ids::get`] gives.
pub fn get(key: i32, count: i32, flags: u32) -> Result<i32> {
    let count = usize::try_from(count).ok().filter(|&count| count <= of_a_set()).ok_or(Errno::EINVAL)?;
    let fits = |set: &Set| if count > set.count() { Err(Errno::EINVAL) } else { Ok(()) };
    let all = all()?;
    all.ids.get(key, flags, fits, |id| {
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if all.semaphores.load(Ordering::Relaxed).saturating_add(count) > of_all_sets() {
            return Err(Errno::ENOSPC);
        }
        let charge = Charge::new((count * size_of::<Semaphore>()) as u64)?;
        let state = State {
            perm: Perm::new(key, flags),
            semaphores: alloc::vec![Semaphore::default(); count].into(),
            operated: 0,
            changed: seconds(),
            removed: false,
            sleepers: VecDeque::new(),
            undos: Vec::new(),
            _charge: charge,
        };
        all.semaphores.fetch_add(count, Ordering::Relaxed);
        Ok(Arc::new(Set { id, state: Mutex::new(state) }))
    })
}

impl Object for Set {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }

    fn id(&self) -> i32 {
        self.id
    }
}

impl State {
    fn semaphore(&mut self, operation: &Operation) -> Result<&mut Semaphore> {
        self.semaphores.get_mut(usize::from(operation.number)).ok_or(Errno::EFBIG)
    }

    fn adjustment(&mut self, list: &Option<Arc<UndoList>>, number: u16) -> Option<&mut i16> {
        let list = list.as_ref()?;
        let undone = self.undos.iter_mut().find(|undone| Arc::ptr_eq(&undone.list, list))?;
        undone.adjustments.get_mut(usize::from(number))
    }

    /// Carries all operations out, or none (`perform_atomic_semop`): `ERANGE`, `EAGAIN`.
    fn attempt(&mut self, operations: &[Operation], undo: &Option<Arc<UndoList>>, pid: Pid) -> Result<Tried> {
        let mut outcome = Ok(Tried::Done);
        let mut made = 0;
        for (index, operation) in operations.iter().enumerate() {
            match self.attempt_one(operation, undo) {
                Ok(true) => made += 1,
                Ok(false) if operation.flags & NOWAIT != 0 => outcome = Err(Errno::EAGAIN),
                Ok(false) => outcome = Ok(Tried::Blocked(index)),
                Err(errno) => outcome = Err(errno),
            }
            if made <= index {
                break;
            }
        }
        let whole = matches!(outcome, Ok(Tried::Done));
        for operation in operations.iter().take(made) {
            let semaphore = self.semaphore(operation)?;
            if whole {
                semaphore.pid = pid;
                continue;
            }
            semaphore.value = (i32::from(semaphore.value) - i32::from(operation.change)) as u16;
            if operation.undoes()
                && let Some(adjustment) = self.adjustment(undo, operation.number)
            {
                *adjustment = adjustment.wrapping_add(operation.change);
            }
        }
        outcome
    }

    /// `false` if it has to wait. What can be done is done at once.
    fn attempt_one(&mut self, operation: &Operation, undo: &Option<Arc<UndoList>>) -> Result<bool> {
        let semaphore = *self.semaphore(operation)?;
        let value = i32::from(semaphore.value) + i32::from(operation.change);
        if operation.change == 0 && semaphore.value != 0 || value < 0 {
            return Ok(false);
        }
        if value > VALUE_MAX {
            return Err(Errno::ERANGE);
        }
        if operation.undoes()
            && let Some(adjustment) = self.adjustment(undo, operation.number)
        {
            let new = i32::from(*adjustment) - i32::from(operation.change);
            *adjustment = i16::try_from(new).map_err(|_| Errno::ERANGE)?;
        }
        self.semaphore(operation)?.value = value as u16;
        Ok(true)
    }

    /// Carries out what sleepers wait for and has become possible: first for those who change nothing (`wake_const_ops`).
    pub fn serve_sleepers(&mut self) {
        let mut index = 0;
        let mut only_looking = true;
        loop {
            let Some((sleeper, _)) = self.sleepers.get(index) else {
                if !only_looking {
                    return;
                }
                (only_looking, index) = (false, 0);
                continue;
            };
            let sleeper = sleeper.clone();
            let changes = sleeper.operations.iter().any(|operation| operation.change != 0);
            if changes == only_looking {
                index += 1;
                continue;
            }
            match self.attempt(&sleeper.operations, &sleeper.undo, sleeper.pid) {
                Ok(Tried::Blocked(at)) => {
                    if let Some(entry) = self.sleepers.get_mut(index) {
                        entry.1 = at;
                    }
                    index += 1;
                }
                outcome => {
                    self.sleepers.remove(index);
                    if outcome.is_ok() {
                        self.operated = seconds();
                    }
                    sleeper.decide(outcome.map(|_| ()));
                    if changes {
                        // What it did may let others go that were looked at before.
                        (only_looking, index) = (true, 0);
                    }
                }
            }
        }
    }

    /// How many wait for a semaphore to grow, or to become zero (`count_semcnt`).
    pub fn waiting(&self, number: usize, for_zero: bool) -> usize {
        let waits = |(sleeper, at): &&(Arc<Sleeper>, usize)| {
            let operation = sleeper.operations.get(*at);
            operation.is_some_and(|operation| {
                usize::from(operation.number) == number && (operation.change == 0) == for_zero
            })
        };
        self.sleepers.iter().filter(waits).count()
    }

    /// `SETVAL`, `SETALL`: what was to be taken back of a semaphore no longer is.
    pub fn forget_adjustment(&mut self, number: usize) {
        for undone in &mut self.undos {
            if let Some(adjustment) = undone.adjustments.get_mut(number) {
                *adjustment = 0;
            }
        }
    }

    /// Makes room for what `list` is to take back: `ENOMEM`.
    fn provide_undo(&mut self, list: &Arc<UndoList>) -> Result<()> {
        if !self.undos.iter().any(|undone| Arc::ptr_eq(&undone.list, list)) {
            let charge = Charge::new((self.semaphores.len() * size_of::<i16>()) as u64)?;
            let adjustments = alloc::vec![0; self.semaphores.len()].into();
            self.undos.push(Undone { list: list.clone(), adjustments, _charge: charge });
        }
        Ok(())
    }
}

impl Set {
    /// The state: `EIDRM` once it was removed.
    pub fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.removed { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// Number of semaphores.
    pub fn count(&self) -> usize {
        self.state.lock().semaphores.len()
    }

    /// `IPC_RMID`: who waits gets `EIDRM`.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.lock()?;
        state.perm.check_owner(&task::current().cred())?;
        state.removed = true;
        all()?.semaphores.fetch_sub(state.semaphores.len(), Ordering::Relaxed);
        let sleepers = core::mem::take(&mut state.sleepers);
        let undos = core::mem::take(&mut state.undos);
        drop(state);
        for (sleeper, _) in sleepers {
            sleeper.decide(Err(Errno::EIDRM));
        }
        undos.iter().for_each(|undone| undone.list.forget(self.id));
        drop(undos);
        sets()?.remove(self.id, |_| true);
        Ok(())
    }

    /// What a list of undo operations has for this set is done (`exit_sem`).
    pub(super) fn undo(&self, list: &Arc<UndoList>, pid: Pid) {
        let mut state = self.state.lock();
        let own = state.undos.iter().position(|undone| Arc::ptr_eq(&undone.list, list));
        let Some(index) = own else { return };
        let undone = state.undos.swap_remove(index);
        for (semaphore, adjustment) in state.semaphores.iter_mut().zip(&undone.adjustments) {
            if *adjustment != 0 {
                let value = i32::from(semaphore.value) + i32::from(*adjustment);
                semaphore.value = value.clamp(0, VALUE_MAX) as u16;
                semaphore.pid = pid;
            }
        }
        state.operated = seconds();
        state.serve_sleepers();
    }

    fn give_up(&self, sleeper: &Arc<Sleeper>) {
        self.state.lock().sleepers.retain(|(other, _)| !Arc::ptr_eq(other, sleeper));
    }
}

/// semop(2), semtimedop(2): all operations or none, waiting until `deadline` (`CLOCK_MONOTONIC`, ns) if they must. `EINVAL`,
/// `EFBIG`, `EACCES`, `ERANGE`, `EAGAIN`, `EIDRM`, `EINTR` (never restarted).
pub fn operate(id: i32, operations: Vec<Operation>, deadline: Option<u64>) -> Result<()> {
    let task = task::current();
    let set = sets()?.find(id)?;
    let changes = operations.iter().any(|operation| operation.change != 0);
    let undo = operations.iter().any(Operation::undoes).then(|| sem_undo::list_of(task));
    let pid = task.group.tgid;
    let sleeper = {
        let mut state = set.lock()?;
        let last = operations.iter().map(|operation| usize::from(operation.number)).max();
        if last.is_none_or(|last| last >= state.semaphores.len()) {
            return Err(Errno::EFBIG);
        }
        state.perm.check(&task.cred(), if changes { 0o222 } else { 0o444 })?;
        if let Some(list) = &undo {
            state.provide_undo(list)?;
            list.note(id);
        }
        match state.attempt(&operations, &undo, pid)? {
            Tried::Done => {
                state.operated = seconds();
                if changes {
                    state.serve_sleepers();
                }
                return Ok(());
            }
            Tried::Blocked(at) => {
                let waiter = task.waiter.clone();
                let outcome = AtomicI32::new(UNDECIDED);
                let sleeper = Arc::new(Sleeper { operations, pid, undo, waiter, outcome });
                state.sleepers.push_back((sleeper.clone(), at));
                sleeper
            }
        }
    };
    match wait::until_woken(deadline, || sleeper.decided()) {
        Ok(outcome) => outcome,
        Err(ended) => {
            set.give_up(&sleeper);
            // It may have been decided meanwhile.
            sleeper.decided().unwrap_or(Err(match ended {
                Ended::Interrupted => Errno::EINTR,
                Ended::TimedOut => Errno::EAGAIN,
            }))
        }
    }
}
