//! A vfork child runs on its parent's host thread, which would only sleep: no thread is made for it, and none has to be woken.
//!
//! The parent's part of the kernel stack is kept aside meanwhile ([`trap_handler::lend`]). Whoever has something for the parent tells
//! the child (`Task::borrower`), which answers for it what others want to know of their memory. If the parent has to end before the child
//! has let go, or the child makes a vfork itself, the child moves to a host thread of its own on its way back to its program, where the kernel
//! has nothing of it on its stack.

use super::thread::prepare;
use crate::thread::{self, Thread};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::task::{SLOT_TASK, Task, Times, work};
use trap_handler::block::ThreadBlock;
use trap_handler::lend::{self, Place};
use trap_handler::regs::Regs;
use trap_handler::{entry, stack, xstate};

/// A host thread that a vfork parent has lent its child.
pub struct Loan {
    lender: Arc<Task>,
    place: Box<UnsafeCell<MaybeUninit<Place>>>,
    /// What the host thread had used before.
    used: Times,
    /// The host has no thread for the child: it keeps this one.
    kept: AtomicBool,
}

// SAFETY: `place` is the lending host thread's alone.
unsafe impl Send for Loan {}
// SAFETY: as above.
unsafe impl Sync for Loan {}

/// What the child begins with.
struct First<'a> {
    child: &'a Arc<Thread>,
    regs: Regs,
    fs_base: u64,
}

/// Runs `child` on the calling host thread until it has executed, has ended, or has got a host thread of its own. `false` if that
/// cannot be: it does not run then.
pub(super) fn lend(parent: &Thread, child: &Arc<Thread>, (regs, fs_base): (Regs, u64)) -> bool {
    let task = &parent.task;
    let users = parent.memory().users();
    let loan = Arc::new(Loan {
        lender: task.clone(),
        // SAFETY: what it holds need not be anything. Not made on the stack, which it has to be able to hold.
        place: unsafe { Box::new_uninit().assume_init() },
        used: crate::process::thread_times(),
        kept: AtomicBool::new(false),
    });
    let own_base = stack::fs_base();
    let mut extended = Box::new(xstate::Area::new());
    xstate::save(&mut extended);
    let (process, host_thread) = task.host_ids();
    child.task.set_host_ids(process, host_thread);
    *child.loan.lock() = Some(loan.clone());
    users.join();
    task.set_borrower(Some(child.task.clone()));
    if task.interrupted() {
        child.task.state.request_work(work::CALLS);
    }
    let first = First { child, regs, fs_base };
    // SAFETY: `loan` lives in this frame until the stack is back.
    let lent = unsafe { lend::lend(loan.place.get().cast(), begin, &raw const first as u64) };
    task.set_borrower(None);
    users.part();
    if lent {
        let _ = stack::set_fs_base(own_base);
        let _ = xstate::load(&mut extended);
    } else {
        *child.loan.lock() = None;
    }
    lent
}

/// The child's first steps, below its parent's frames.
unsafe extern "C" fn begin(first: u64) -> ! {
    // SAFETY: `lend` passes what lies in its frame, which nobody has written over yet.
    let first = unsafe { &*(first as *const First<'_>) };
    first.child.install();
    ThreadBlock::current().set_regs(&first.regs);
    let _ = stack::set_fs_base(first.fs_base);
    entry::leave()
}

impl Loan {
    /// What the borrower has used of `used`, the host thread's time.
    pub fn own_times(&self, used: Times) -> Times {
        Times {
            user: used.user.saturating_sub(self.used.user),
            system: used.system.saturating_sub(self.used.system),
        }
    }

    /// The calling host thread is the lender's again, and `borrower`, which it ran, need not live any longer.
    pub fn take_thread(&self, borrower: &Task) {
        let mask = borrower.affinity.lock().mask.clone();
        let mut own = self.lender.affinity.lock();
        if own.mask != mask {
            own.due = true;
            self.lender.state.request_work(work::CALLS);
        }
        drop(own);
        let block = ThreadBlock::current();
        block.set_state(&self.lender.state);
        block.set_slot(SLOT_TASK, Arc::as_ptr(&self.lender) as u64);
    }

    /// Lets the lender go on, after [`Self::take_thread`].
    pub fn give_back(self: Arc<Loan>) -> ! {
        let place = self.place.get().cast();
        // The lender's frame has one, too.
        drop(self);
        // SAFETY: the borrower runs on the lender's stack, and has dropped what it had.
        unsafe { lend::give_back(place) }
    }
}

/// Whether `thread`, the calling one, runs on another's host thread and is to get one of its own first, on its way out.
pub(super) fn repay(thread: &Thread) -> bool {
    let wanted = thread.loan.lock().as_ref().is_some_and(|loan| !loan.kept.load(Ordering::Relaxed));
    if wanted {
        thread.task.state.request_work(work::LOAN);
    }
    wanted
}

/// The running task looks what its lender has been sent.
pub fn look_at_loan(task: &Task) {
    let Some(thread) = thread::current_if_any() else { return };
    let Some(loan) = thread.loan.lock().clone() else { return };
    loan.lender.group.serve_calls();
    if loan.lender.is_ending() && !loan.kept.load(Ordering::Relaxed) {
        task.state.request_work(work::LOAN);
    }
}

/// Moves the calling thread, whose program goes on with `regs`, to a host thread of its own, if it has borrowed this one. Does not return
/// then: the lender goes on.
pub fn end_loan(thread: &Thread, regs: &Regs) {
    thread.task.state.work.fetch_and(!work::LOAN, Ordering::SeqCst);
    let Some(loan) = thread.loan.lock().take() else { return };
    let started = thread::find(thread.task.tid()).is_some_and(|child| {
        // It shall come by here, and look for what is pending.
        child.task.state.request_work(work::CALLS);
        prepare(&child, (*regs, stack::fs_base())).and_then(|prepared| prepared.start(&child)).is_ok()
    });
    if !started {
        loan.kept.store(true, Ordering::Relaxed);
        *thread.loan.lock() = Some(loan);
        return;
    }
    let borrower = thread.task.clone();
    drop(Thread::release());
    loan.take_thread(&borrower);
    drop(borrower);
    loan.give_back()
}
