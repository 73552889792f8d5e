//! Programs for processes that share their memory with another: a vfork child that executes a program must not unmap its
//! parent's. The warden, which has almost no memory and so forks cheaply, forks the new address space for it; from the first
//! time on it keeps one in reserve, so that the next such child neither waits for the fork nor wakes the warden first.

use super::exec::Execution;
use super::exit::leave_host;
use crate::ptrace::stops;
use crate::thread::{self, Thread};
use crate::{Errno, Result, boot, warden};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use kernel::sync::{BootCell, Mutex};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::{entry, host};

/// A thread that waits for a host process.
struct Order {
    thread: Arc<Thread>,
    execution: Execution,
    /// One of the values below: a futex word, because the thread's own waiter is no longer its alone once the new host process
    /// runs.
    outcome: AtomicU32,
}

const WAITING: u32 = 0;
const STARTED: u32 = 1;
const REFUSED: u32 = 2;

/// A host process without a program, which waits for an order.
struct Spare {
    /// How often the warden was forked for one before.
    forks: u32,
    host_pid: AtomicI32,
    order: Mutex<Option<Arc<Order>>>,
    /// 1 when there is one: a futex word.
    ordered: AtomicU32,
}

#[derive(Default)]
struct Zygote {
    /// For the warden.
    orders: Mutex<VecDeque<Arc<Order>>>,
    spare: Mutex<Option<Arc<Spare>>>,
    /// A spare is to be made: somebody has needed one.
    wanted: AtomicBool,
    /// Spares made so far.
    made: AtomicU32,
}

static ZYGOTE: BootCell<Box<Zygote>> = BootCell::new();

/// Sets up the queue. Called once, at boot.
pub fn init() {
    ZYGOTE.set(Box::default());
}

/// Lets `thread`, the calling one and the only one of its process, go on in an address space of its own with a new program;
/// the calling host thread ends. `EAGAIN` if the host has no process left.
pub fn hand_over(thread: &Thread, execution: Execution) -> Result<u64> {
    let zygote = ZYGOTE.get().ok_or(Errno::EAGAIN)?;
    let users = thread.memory().users();
    let thread = thread::find(thread.task.tid()).ok_or(Errno::EAGAIN)?;
    let old_memory = thread.memory();
    // SAFETY: the calling thread, which uses its memory by counted references here.
    unsafe { thread.set_memory(boot::fresh_memory()) };
    execution.announce(&thread);
    // Before the thread can run elsewhere, where there is nothing to give back.
    let loan = thread.loan.lock().take();
    let order = Arc::new(Order { thread: thread.clone(), execution, outcome: AtomicU32::new(WAITING) });
    let spare = zygote.spare.lock().take();
    zygote.wanted.store(true, Ordering::SeqCst);
    match spare {
        // The warden makes the next one when something wakes it, the end of a process at the latest.
        Some(spare) => spare.start(order),
        None if zygote.ask_warden(&order) => drop(order),
        None => {
            // SAFETY: as above.
            unsafe { thread.set_memory(old_memory) };
            *thread.loan.lock() = loan;
            return Err(Errno::EAGAIN);
        }
    }
    if let Some(loan) = loan {
        // The parent need not wait for the new host process.
        if let Some(vfork) = thread.vfork.lock().take() {
            vfork.finish();
        }
        drop(Thread::release());
        loan.take_thread(&thread.task);
        drop((thread, old_memory, users));
        loan.give_back()
    }
    drop((thread, old_memory));
    drop(Thread::release());
    leave_host(users)
}

impl Zygote {
    /// Waits for the warden to fork; whether it could.
    fn ask_warden(&self, order: &Arc<Order>) -> bool {
        self.orders.lock().push_back(order.clone());
        warden::wake();
        while order.outcome.load(Ordering::SeqCst) == WAITING {
            host::futex_wait_lock(&order.outcome, WAITING);
        }
        order.outcome.load(Ordering::SeqCst) == STARTED
    }

    /// Makes the next spare. If the host refuses, the next order is one for the warden, which says so.
    fn make_spare(&self) {
        if !self.wanted.swap(false, Ordering::SeqCst) || self.spare.lock().is_some() {
            return;
        }
        let forks = self.made.fetch_add(1, Ordering::Relaxed);
        if forks == 1 {
            kernel::mm::text::to_huge_pages();
        }
        let spare = Arc::new(Spare {
            forks,
            host_pid: AtomicI32::new(0),
            order: Mutex::new(None),
            ordered: AtomicU32::new(0),
        });
        let childs = spare.clone();
        // SAFETY: as in `serve`.
        match unsafe { host::clone_process(u64::from(raw::CLONE_FILES) | SIGCHLD) } {
            Ok(0) => childs.wait(),
            Ok(host_pid) => {
                core::mem::forget(childs);
                spare.host_pid.store(host_pid, Ordering::SeqCst);
                *self.spare.lock() = Some(spare);
            }
            Err(_) => {}
        }
    }
}

impl Spare {
    fn start(&self, order: Arc<Order>) {
        // As in `serve`: before the old host process may end.
        order.thread.memory().set_forks(self.forks.saturating_add(1));
        let group = &order.thread.task.group;
        group.host_pid.store(self.host_pid.load(Ordering::SeqCst), Ordering::SeqCst);
        *self.order.lock() = Some(order);
        self.ordered.store(1, Ordering::SeqCst);
        host::futex_wake(&self.ordered, 1);
    }

    /// What the spare process does.
    fn wait(self: Arc<Spare>) -> ! {
        loop {
            if self.ordered.load(Ordering::SeqCst) != 0 {
                let order = self.order.lock().take();
                if let Some(order) = order {
                    drop(self);
                    run(order)
                }
            }
            host::futex_wait_lock(&self.ordered, 0);
        }
    }
}

/// Forks what was ordered. Called by the warden; the new processes do not return.
pub fn serve() {
    let Some(zygote) = ZYGOTE.get() else { return };
    loop {
        let order = zygote.orders.lock().pop_front();
        let Some(order) = order else { break };
        let childs = order.clone();
        // SAFETY: the child goes on with `childs` only, which it owns; it never returns.
        let outcome = match unsafe { host::clone_process(u64::from(raw::CLONE_FILES) | SIGCHLD) } {
            Ok(0) => run(childs),
            Ok(host_pid) => {
                // Before the old host process may end, and before that end is looked at: the process lives in the new one.
                childs.thread.task.group.host_pid.store(host_pid, Ordering::SeqCst);
                // The child's now.
                core::mem::forget(childs);
                STARTED
            }
            Err(_) => REFUSED,
        };
        order.outcome.store(outcome, Ordering::SeqCst);
        host::futex_wake(&order.outcome, 1);
    }
    zygote.make_spare();
}

const SIGCHLD: u64 = 17;

/// The first steps of the new host process.
fn run(order: Arc<Order>) -> ! {
    order.thread.install();
    order.thread.adopt_host_process();
    // The warden's thread has all processors.
    let task = &order.thread.task;
    let chosen = task.affinity.lock().mask.is_some();
    task.affinity.lock().due |= chosen;
    crate::system::tell_if_due(task);
    let mut regs = trap_handler::regs::Regs::default();
    order.execution.run(&mut regs, thread::current());
    drop(order);
    if thread::current().task.trace.is_traced() {
        stops::call_exit(thread::current(), &mut regs);
    }
    ThreadBlock::current().set_regs(&regs);
    entry::leave()
}
