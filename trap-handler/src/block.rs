//! The thread block: what the entry and exit stubs need, found through GS.
//!
//! Each thread of a host process has one, at the end of its kernel stack slot (see [`crate::stack`]). It is private
//! memory: after a fork the child has a copy, in which it replaces the pointers to the shared objects.

use crate::regs::Regs;
use crate::{gates, keys};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why the thread came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A system call of the native ABI (`syscall`, vsyscall page); number in `Regs::orig_rax`.
    Call,
    /// `int 0x80`.
    Int80,
    /// A fault: see [`Fault`].
    Fault,
    /// Somebody wants this thread to look for pending work.
    Poke,
}

pub(crate) const CAUSE_CALL: u64 = 0;
pub(crate) const CAUSE_INT80: u64 = 1;
pub(crate) const CAUSE_FAULT: u64 = 2;
pub(crate) const CAUSE_POKE: u64 = 3;

/// A processor fault of the program, as the host reported it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Fault {
    /// Host signal number: SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// Trap number (saved context).
    pub trapno: u64,
    /// Error code (saved context).
    pub error: u64,
    /// CR2 (saved context).
    pub cr2: u64,
}

/// Words that other threads look at: part of the shared task object. Its address is in the thread block.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ThreadState {
    /// [`ThreadState::KERNEL`] or [`ThreadState::USER`].
    pub mode: AtomicU32,
    /// Non-zero: do not return to the program, and do not start an interruptible host call, before a look.
    pub work: AtomicU32,
}

impl ThreadState {
    /// The thread runs kernel code.
    pub const KERNEL: u32 = 0;
    /// The thread runs program code, or is about to.
    pub const USER: u32 = 1;
    /// Bit of `work`: a child of the host process has ended (only the warden has any).
    pub const CHILD_ENDED: u32 = 1 << 31;

    /// Whether it runs program code, or is about to.
    pub fn runs_program(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == Self::USER
    }

    /// Asks the thread to look; says whether it must be poked to notice (it may be in program code).
    pub fn request_work(&self, bits: u32) -> bool {
        self.work.fetch_or(bits, Ordering::SeqCst);
        // Pairs with the exchange in the exit stub: either it sees the bits, or we see USER.
        self.runs_program()
    }
}

/// One thread's block; GS points at it. The stubs know the offsets.
#[repr(C, align(64))]
pub struct ThreadBlock {
    /// The program's registers. Must be first: its address is the top of the kernel stack.
    pub regs: UnsafeCell<Regs>,
    pub(crate) regs_end: u64,
    pub(crate) user_rsp: u64,
    pub(crate) aside_rip: AtomicU64,
    /// The program's flags, as the host's signal handler found them.
    pub(crate) aside_flags: AtomicU64,
    pub(crate) return_rip: u64,
    /// A patched call's return address (0: the thread came in otherwise), and where the program goes on instead.
    pub(crate) resume_from: AtomicU64,
    pub(crate) resume_to: AtomicU64,
    pub(crate) cause: AtomicU64,
    pub(crate) state: AtomicU64,
    pub(crate) mxcsr: UnsafeCell<u64>,
    pub(crate) fault: UnsafeCell<Fault>,
    /// Pointers of the layers above (shared task, process thread).
    pub(crate) slots: [AtomicU64; 4],
    /// Address of this block.
    pub(crate) this: u64,
    /// Where kernel code's frames begin, below this block.
    pub(crate) stack: AtomicU64,
    /// With the guard: where a signal's frame lies that interrupts program code.
    pub(crate) frame: AtomicU64,
    /// With the guard: whether kernel code runs on this thread.
    pub(crate) inside: AtomicU32,
    /// Whether there is a guard.
    pub(crate) guarded: u32,
    pub(crate) xmm: UnsafeCell<XmmRegs>,
    /// Non-zero while a host thread uses the slot: the host clears it when the thread has ended (`CLONE_CHILD_CLEARTID`).
    pub(crate) occupied: AtomicU32,
}

/// xmm0 to xmm15.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, Default)]
pub struct XmmRegs(pub [u128; 16]);

impl ThreadBlock {
    /// Writes a fresh block at `at`.
    ///
    /// # Safety
    /// `at` is writable, aligned to 64, and used by nobody else.
    pub unsafe fn init(at: *mut ThreadBlock, state: *const ThreadState) {
        let start = at as u64;
        let block = ThreadBlock {
            regs: UnsafeCell::new(Regs::default()),
            regs_end: start + size_of::<Regs>() as u64,
            user_rsp: 0,
            aside_rip: AtomicU64::new(0),
            aside_flags: AtomicU64::new(0),
            return_rip: 0,
            resume_from: AtomicU64::new(0),
            resume_to: AtomicU64::new(0),
            cause: AtomicU64::new(CAUSE_CALL),
            state: AtomicU64::new(state as u64),
            mxcsr: UnsafeCell::new(0x1f80),
            fault: UnsafeCell::new(Fault::default()),
            slots: Default::default(),
            this: start,
            stack: AtomicU64::new(gates::stack_below(start)),
            frame: AtomicU64::new(gates::frame_below(start)),
            inside: AtomicU32::new(1),
            guarded: u32::from(keys::on()),
            xmm: UnsafeCell::new(XmmRegs::default()),
            occupied: AtomicU32::new(1),
        };
        // SAFETY: the caller vouches for `at`.
        unsafe { at.write(block) }
    }

    /// The block of the running thread.
    pub fn current() -> &'static ThreadBlock {
        let this: u64;
        // SAFETY: GS leads to this thread's block from its first kernel instruction on; the block lives as long
        // as the thread. The result is only used by that thread.
        unsafe {
            core::arch::asm!("mov {}, gs:[{off}]", out(reg) this, off = const core::mem::offset_of!(ThreadBlock, this),
                options(nostack, readonly, preserves_flags));
            &*(this as *const ThreadBlock)
        }
    }

    /// Notes what has become known of signal frames since [`Self::init`].
    pub(crate) fn place_frames(&self) {
        self.stack.store(gates::stack_below(self.this), Ordering::Relaxed);
        self.frame.store(gates::frame_below(self.this), Ordering::Relaxed);
    }

    /// Whether the thread came in through a patched call site.
    pub fn came_patched(&self) -> bool {
        self.resume_from.load(Ordering::Relaxed) != 0
    }

    /// A program that continues at `from` is to go on at `to` instead: the call site was rewritten while the thread was here.
    pub fn resume_at(&self, from: u64, to: u64) {
        self.resume_to.store(to, Ordering::Relaxed);
        self.resume_from.store(from, Ordering::Relaxed);
    }

    /// The program that the thread came from is gone (execve).
    pub fn forget_site(&self) {
        self.resume_from.store(0, Ordering::Relaxed);
    }

    /// Why the thread is in the kernel.
    pub fn cause(&self) -> Cause {
        match self.cause.load(Ordering::Relaxed) {
            CAUSE_CALL => Cause::Call,
            CAUSE_INT80 => Cause::Int80,
            CAUSE_FAULT => Cause::Fault,
            _ => Cause::Poke,
        }
    }

    /// The fault, when [`Self::cause`] is [`Cause::Fault`].
    pub fn fault(&self) -> Fault {
        // SAFETY: written by the handler before it sent this thread to the entry stub, and by nothing since.
        unsafe { *self.fault.get() }
    }

    /// A pointer that a layer above keeps for the running thread.
    pub fn slot(&self, index: usize) -> u64 {
        self.slots.get(index).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Sets what [`Self::slot`] returns.
    pub fn set_slot(&self, index: usize, value: u64) {
        if let Some(slot) = self.slots.get(index) {
            slot.store(value, Ordering::Relaxed);
        }
    }

    /// Makes the stubs and interruptible host calls use another task's words (fork child, vfork).
    pub fn set_state(&self, state: *const ThreadState) {
        self.state.store(state as u64, Ordering::SeqCst);
    }

    /// The task's words.
    pub fn state(&self) -> &ThreadState {
        // SAFETY: set at `init` or `set_state` to words of the running task, which outlives its stay here.
        unsafe { &*(self.state.load(Ordering::Relaxed) as *const ThreadState) }
    }

    /// Where the program goes on that is to continue at `rip`.
    pub(crate) fn resumed(&self, rip: u64) -> u64 {
        if rip == self.resume_from.load(Ordering::Relaxed) {
            self.resume_to.load(Ordering::Relaxed)
        } else {
            rip
        }
    }

    /// Replaces the program's registers: what the exit stub restores.
    pub fn set_regs(&self, regs: &Regs) {
        // SAFETY: only this thread, in kernel code, touches its record.
        unsafe { *self.regs.get() = *regs }
    }

    /// A copy of the program's registers, for a thread that does not go back to it.
    pub fn last_regs(&self) -> Regs {
        // SAFETY: only this thread, in kernel code, touches its record.
        unsafe { *self.regs.get() }
    }

    /// xmm0-15 and mxcsr of the program.
    pub fn vector(&self) -> (XmmRegs, u32) {
        // SAFETY: only this thread, in kernel code, touches them.
        unsafe { (*self.xmm.get(), *self.mxcsr.get() as u32) }
    }

    /// Replaces xmm0-15 and mxcsr of the program. Reserved mxcsr bits must be zero.
    pub fn set_vector(&self, xmm: &XmmRegs, mxcsr: u32) {
        // SAFETY: as above.
        unsafe {
            *self.xmm.get() = *xmm;
            *self.mxcsr.get() = u64::from(mxcsr);
        }
    }
}
