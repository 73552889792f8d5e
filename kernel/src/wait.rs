//! The one way to sleep: a wait queue (or several), a deadline, and the pending-signal check.

use crate::poll::PollEvents;
use crate::sync::Mutex;
use crate::task::{self, Task};
use crate::{Errno, Result, time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use trap_handler::host;

/// Something that a wait queue can wake: a sleeping task, or an epoll item that passes the news on.
pub trait Wake: Send + Sync {
    /// Tells the news. Called with the queue's lock held: must not block, and may take only locks below wait queues.
    fn tell(&self, events: PollEvents) -> Told;

    /// Wakes who sleeps. Called after [`Self::tell`], if it said so, mostly without the queue's lock: the first thing that the
    /// woken does is to take it.
    fn rouse(&self) {}
}

/// What became of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The listener takes it. If an exclusive one does not, the next exclusive listener is told.
    pub taken: bool,
    /// The listener sleeps.
    pub sleeps: bool,
}

/// The word that one task sleeps on.
pub struct Waiter {
    word: AtomicU32,
    /// How long the task spins before it sleeps, in time-stamp counter units; see [`Waiter::spin`].
    spin: AtomicU64,
    /// The processor of who woke it last.
    woken_from: AtomicU32,
}

impl Default for Waiter {
    fn default() -> Waiter {
        Waiter { word: AtomicU32::new(IDLE), spin: AtomicU64::new(FIRST_SPIN), woken_from: AtomicU32::new(0) }
    }
}

const IDLE: u32 = 0;
const SLEEPING: u32 = 1;
const WOKEN: u32 = 2;

impl Wake for Waiter {
    /// One that was told before and has not looked yet takes nothing more.
    fn tell(&self, _events: PollEvents) -> Told {
        self.woken_from.store(counter().1, Ordering::Relaxed);
        let before = self.word.swap(WOKEN, Ordering::SeqCst);
        Told { taken: before != WOKEN, sleeps: before == SLEEPING }
    }

    fn rouse(&self) {
        host::futex_wake(&self.word, 1);
    }
}

struct Entry {
    id: u64,
    wake: Arc<dyn Wake>,
    exclusive: bool,
    /// Told without the queue's lock.
    deferred: bool,
}

#[derive(Default)]
struct Inner {
    count: AtomicU32,
    next_id: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

/// A list of those who want to know when something changes. A handle: clones are the same queue.
#[derive(Clone, Default)]
pub struct WaitQueue(Arc<Inner>);

/// Sleepers that are woken without the queue's lock.
const AT_ONCE: usize = 4;

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> WaitQueue {
        WaitQueue::default()
    }

    /// Adds a listener; the number is for [`Self::remove`].
    pub fn add(&self, wake: Arc<dyn Wake>, exclusive: bool) -> u64 {
        self.put(wake, exclusive, false)
    }

    /// Adds a listener that is told after the queue's lock was released: it may take the locks that its file's news are told
    /// under, but for those of the file itself.
    pub fn add_deferred(&self, wake: Arc<dyn Wake>) -> u64 {
        self.put(wake, false, true)
    }

    fn put(&self, wake: Arc<dyn Wake>, exclusive: bool, deferred: bool) -> u64 {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.0.entries.lock();
        entries.push(Entry { id, wake, exclusive, deferred });
        self.0.count.store(entries.len() as u32, Ordering::SeqCst);
        id
    }

    /// Takes a listener off.
    pub fn remove(&self, id: u64) {
        let mut entries = self.0.entries.lock();
        entries.retain(|entry| entry.id != id);
        self.0.count.store(entries.len() as u32, Ordering::SeqCst);
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::SeqCst) == 0
    }

    /// Tells every listener that is not exclusive, and the first exclusive one that takes it, that `events` may have come
    /// about. The change itself must have been made before.
    pub fn wake(&self, events: PollEvents) {
        self.wake_up_to(events, 1);
    }

    /// Tells every listener.
    pub fn wake_all(&self, events: PollEvents) {
        self.wake_up_to(events, usize::MAX);
    }

    fn wake_up_to(&self, events: PollEvents, exclusive: usize) {
        // Pairs with the store in `add`: either we see the listener, or it sees the change.
        fence(Ordering::SeqCst);
        if self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut sleepers: [Option<Arc<dyn Wake>>; AT_ONCE] = Default::default();
        let mut places = sleepers.iter_mut();
        let entries = self.0.entries.lock();
        let mut left = exclusive;
        let mut later: Vec<Arc<dyn Wake>> = Vec::new();
        for entry in entries.iter() {
            if entry.deferred {
                later.push(entry.wake.clone());
                continue;
            }
            if entry.exclusive && left == 0 {
                continue;
            }
            let told = entry.wake.tell(events);
            left -= usize::from(entry.exclusive && told.taken);
            if told.sleeps {
                match places.next() {
                    Some(place) => *place = Some(entry.wake.clone()),
                    None => entry.wake.rouse(),
                }
            }
        }
        drop(entries);
        for sleeper in sleepers.into_iter().flatten() {
            sleeper.rouse();
        }
        for listener in later {
            if listener.tell(events).sleeps {
                listener.rouse();
            }
        }
    }
}

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// A signal is to be delivered (or the thread is to end).
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

impl Ended {
    /// `ERESTARTSYS` for a signal, `timeout` for the deadline.
    pub fn errno(self, timeout: Errno) -> Errno {
        match self {
            Ended::Interrupted => Errno::ERESTARTSYS,
            Ended::TimedOut => timeout,
        }
    }
}

struct Listening<'a> {
    queues: &'a [&'a WaitQueue],
    ids: Vec<u64>,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        for (queue, id) in self.queues.iter().zip(&self.ids) {
            queue.remove(*id);
        }
    }
}

/// How long a task spins at first and at most, in time-stamp counter units: about as long as it takes to wake a sleeper on
/// another processor of a virtual machine (some 20 microseconds; the counter runs at 2 to 4 GHz).
const FIRST_SPIN: u64 = 60_000;
/// A sleep this short would have been worth a spin.
const SHORT_SLEEP: u64 = 150_000;

/// The time-stamp counter, and the number of the processor.
fn counter() -> (u64, u32) {
    const PROCESSOR: u32 = 0xfff;
    let mut word = 0;
    // SAFETY: the instruction only reads a counter, and the word in which Linux keeps the processor's number for it.
    let cycles = unsafe { core::arch::x86_64::__rdtscp(&raw mut word) };
    (cycles, word & PROCESSOR)
}

impl Waiter {
    /// Wakes the task, for those who keep lists of sleepers by themselves; whether it slept.
    pub fn wake(&self, events: PollEvents) -> bool {
        let sleeps = self.tell(events).sleeps;
        if sleeps {
            self.rouse();
        }
        sleeps
    }

    /// Spins until the task is woken, another processor being about to bring what it waits for. A task that spins in vain
    /// does so for half as long the next time, down to not at all: an idle sandbox uses no processor time.
    fn spin(&self, task: &task::Task) {
        let budget = self.spin.load(Ordering::Relaxed);
        if budget == 0 || !task::may_spin() {
            return;
        }
        let (start, _) = counter();
        while self.word.load(Ordering::Relaxed) == IDLE && !task.interrupted() {
            if counter().0.wrapping_sub(start) > budget {
                let less = if budget > FIRST_SPIN / 8 { budget / 2 } else { 0 };
                self.spin.store(less, Ordering::Relaxed);
                return;
            }
            core::hint::spin_loop();
        }
        self.spin.store(FIRST_SPIN, Ordering::Relaxed);
    }

    /// Sleeps until woken, interrupted, or the deadline.
    fn sleep(&self, deadline: Option<u64>) {
        let (start, processor) = counter();
        // EINTR, EAGAIN and ETIMEDOUT all mean: look again.
        let _ = host::futex_wait(&self.word, SLEEPING, deadline);
        if self.woken_from.load(Ordering::Relaxed) == processor {
            // The waker could not have run while this task spun.
            self.spin.store(0, Ordering::Relaxed);
        } else if counter().0.wrapping_sub(start) < SHORT_SLEEP {
            self.spin.store(FIRST_SPIN, Ordering::Relaxed);
        }
    }
}

/// Sleeps until `ready` gives something, looking again whenever one of the queues is woken. No lock may be held.
/// `deadline` is in `CLOCK_MONOTONIC` nanoseconds.
pub fn until<T>(
    queues: &[&WaitQueue],
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, Ended> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    let waiter = &task::current().waiter;
    let mut listening = Listening { queues, ids: Vec::new() };
    for queue in queues {
        listening.ids.push(queue.add(waiter.clone(), false));
    }
    until_woken(deadline, ready)
}

/// As [`until`] on one queue, as one of its exclusive listeners: [`WaitQueue::wake`] tells one of them. Whoever leaves, for
/// whatever reason, may have been told of something that is still there: the caller then wakes the queue for the next one.
pub fn until_exclusive<T>(
    queue: &WaitQueue,
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T, Ended> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    let queues = [queue];
    let ids = [queue.add(task::current().waiter.clone(), true)].into();
    let _listening = Listening { queues: &queues, ids };
    until_woken(deadline, ready)
}

/// As [`until`], for a caller that has put the task's waiter on its queues by itself (poll tables).
pub fn until_woken<T>(deadline: Option<u64>, mut ready: impl FnMut() -> Option<T>) -> Result<T, Ended> {
    let task = task::current();
    let word = &task.waiter.word;
    loop {
        word.store(IDLE, Ordering::SeqCst);
        if let Some(value) = ready() {
            return Ok(value);
        }
        if task.interrupted() {
            if task.serve_calls() {
                continue;
            }
            return Err(Ended::Interrupted);
        }
        if deadline.is_some_and(|deadline| time::monotonic() >= deadline) {
            return Err(Ended::TimedOut);
        }
        task.waiter.spin(task);
        if word.compare_exchange(IDLE, SLEEPING, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            task.waiter.sleep(deadline);
        }
    }
}

/// Sleeps until `ready`, whatever signals come; only the end of the thread itself cuts it short (`TASK_KILLABLE`).
pub fn killable(queue: &WaitQueue, ready: impl FnMut() -> bool) {
    killable_looking(queue, None, ready);
}

/// As [`killable`], looking again every so many nanoseconds at least.
pub fn killable_looking(queue: &WaitQueue, every: Option<u64>, ready: impl FnMut() -> bool) {
    let queues = [queue];
    let ids = [queue.add(task::current().waiter.clone(), false)].into();
    let _listening = Listening { ids, queues: &queues };
    killable_until(every, ready, Task::is_ending);
}

/// As [`killable`], for a task that is woken through its own waiter; `ending` says what cuts it short.
pub fn killable_woken(ready: impl FnMut() -> bool, ending: impl Fn(&Task) -> bool) {
    killable_until(None, ready, ending);
}

fn killable_until(every: Option<u64>, mut ready: impl FnMut() -> bool, ending: impl Fn(&Task) -> bool) {
    let task = task::current();
    let word = &task.waiter.word;
    loop {
        word.store(IDLE, Ordering::SeqCst);
        task.serve_calls();
        if ready() || ending(task) {
            return;
        }
        // Not the interruptible call: pending work that is not the thread's end would make it spin. A kick is noticed because
        // it changes the word.
        if word.compare_exchange(IDLE, SLEEPING, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            match every {
                Some(every) => {
                    host::futex_wait_until(word, SLEEPING, time::monotonic().saturating_add(every));
                }
                None => host::futex_wait_lock(word, SLEEPING),
            }
        }
    }
}

/// Sleeps until the deadline; `Err` if a signal came first.
pub fn sleep_until(deadline: u64) -> Result<(), Ended> {
    match until_woken::<()>(Some(deadline), || None) {
        Err(Ended::Interrupted) => Err(Ended::Interrupted),
        _ => Ok(()),
    }
}
