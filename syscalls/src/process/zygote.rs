//! Programs for processes that share their memory with another: a vfork child that executes a program must not unmap its
//! parent's. The warden, which has almost no memory and so forks cheaply, forks the new address space for it.

use super::exec::Execution;
use super::exit::leave_host;
use crate::ptrace::stops;
use crate::thread::{self, Thread};
use crate::{Errno, Result, boot, warden};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::sync::{BootCell, Mutex};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::{entry, host, stack};

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

static ORDERS: BootCell<Box<Mutex<VecDeque<Arc<Order>>>>> = BootCell::new();

/// Sets up the queue. Called once, at boot.
pub fn init() {
    ORDERS.set(Box::default());
}

/// Lets `thread`, the calling one and the only one of its process, go on in an address space of its own with a new program;
/// the calling host thread ends. `EAGAIN` if the host has no process left.
pub fn hand_over(thread: &Thread, execution: Execution) -> Result<u64> {
    let orders = ORDERS.get().ok_or(Errno::EAGAIN)?;
    let users = thread.memory().users();
    let thread = thread::find(thread.task.tid()).ok_or(Errno::EAGAIN)?;
    let old_memory = thread.memory();
    thread.set_memory(boot::fresh_memory());
    let order = Arc::new(Order { thread: thread.clone(), execution, outcome: AtomicU32::new(WAITING) });
    orders.lock().push_back(order.clone());
    warden::wake();
    while order.outcome.load(Ordering::SeqCst) == WAITING {
        host::futex_wait_lock(&order.outcome, WAITING);
    }
    if order.outcome.load(Ordering::SeqCst) == REFUSED {
        thread.set_memory(old_memory);
        return Err(Errno::EAGAIN);
    }
    drop((order, thread, old_memory));
    drop(Thread::release());
    leave_host(users)
}

/// Forks what was ordered. Called by the warden; the new processes do not return.
pub fn serve() {
    let Some(orders) = ORDERS.get() else { return };
    loop {
        let order = orders.lock().pop_front();
        let Some(order) = order else { return };
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
}

const SIGCHLD: u64 = 17;

/// The first steps of the new host process.
fn run(order: Arc<Order>) -> ! {
    order.thread.install();
    order.thread.adopt_host_process();
    stack::forget_others(1);
    let mut regs = trap_handler::regs::Regs::default();
    order.execution.run(&mut regs, thread::current());
    drop(order);
    if thread::current().task.trace.is_traced() {
        stops::call_exit(thread::current(), &mut regs);
    }
    ThreadBlock::current().set_regs(&regs);
    entry::leave()
}
