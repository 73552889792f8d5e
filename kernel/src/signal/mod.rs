//! Signals (signal(7)): numbers, sets, actions, information, and who gets what.
//!
//! State of a thread group (shared pending signals, actions) and of its tasks (mask, private pending signals) is
//! guarded by one lock, `ThreadGroup::signals`, as in Linux (`sighand->siglock`).

mod deliver;
mod frame;
mod pending;
mod send;

pub use deliver::{Next, decide, fault, finish_call, force, next};
pub use frame::{deliver_to_handler, sigreturn};
pub use pending::Pending;
pub use send::{flush_ignored, kick, kick_all, retarget, send_to_group, send_to_task};

use crate::task::{Pid, PidSpace};
use crate::uaccess::Plain;

/// Highest signal number.
pub const COUNT: i32 = 64;
/// First real-time signal.
pub const RT_MIN: i32 = 32;

#[allow(missing_docs, reason = "the names are signal(7)'s")]
mod numbers {
    pub const SIGHUP: i32 = 1;
    pub const SIGINT: i32 = 2;
    pub const SIGQUIT: i32 = 3;
    pub const SIGILL: i32 = 4;
    pub const SIGTRAP: i32 = 5;
    pub const SIGABRT: i32 = 6;
    pub const SIGBUS: i32 = 7;
    pub const SIGFPE: i32 = 8;
    pub const SIGKILL: i32 = 9;
    pub const SIGUSR1: i32 = 10;
    pub const SIGSEGV: i32 = 11;
    pub const SIGUSR2: i32 = 12;
    pub const SIGPIPE: i32 = 13;
    pub const SIGALRM: i32 = 14;
    pub const SIGTERM: i32 = 15;
    pub const SIGCHLD: i32 = 17;
    pub const SIGCONT: i32 = 18;
    pub const SIGSTOP: i32 = 19;
    pub const SIGTSTP: i32 = 20;
    pub const SIGTTIN: i32 = 21;
    pub const SIGTTOU: i32 = 22;
    pub const SIGURG: i32 = 23;
    pub const SIGXCPU: i32 = 24;
    pub const SIGXFSZ: i32 = 25;
    pub const SIGVTALRM: i32 = 26;
    pub const SIGPROF: i32 = 27;
    pub const SIGWINCH: i32 = 28;
    pub const SIGIO: i32 = 29;
    pub const SIGSYS: i32 = 31;
}
pub use numbers::*;

/// A set of signals, as `sigset_t`: bit `n - 1` is signal `n`.
pub type SigSet = u64;

/// The set of one signal; empty for a number that is none.
pub const fn bit(signal: i32) -> SigSet {
    if signal >= 1 && signal <= COUNT { 1 << (signal - 1) } else { 0 }
}

/// Signals that can be neither blocked nor caught.
pub const UNBLOCKABLE: SigSet = bit(SIGKILL) | bit(SIGSTOP);
/// Signals that stop by default.
pub const STOPPING: SigSet = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
/// Signals that the processor raises at the instruction that runs.
pub const SYNCHRONOUS: SigSet =
    bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS);
/// Signals ignored by default.
const IGNORED_BY_DEFAULT: SigSet = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH);
/// Signals whose default is to end with a core dump.
const DUMPING: SigSet = bit(SIGQUIT)
    | bit(SIGILL)
    | bit(SIGTRAP)
    | bit(SIGABRT)
    | bit(SIGBUS)
    | bit(SIGFPE)
    | bit(SIGSEGV)
    | bit(SIGXCPU)
    | bit(SIGXFSZ)
    | bit(SIGSYS);

/// What a signal does when its action is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// Ends the process (with a core dump where limits allow; the kernel writes none).
    Terminate,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
}

/// The default action of `signal`.
pub fn default_action(signal: i32) -> Default {
    let set = bit(signal);
    if set & IGNORED_BY_DEFAULT != 0 {
        Default::Ignore
    } else if set & STOPPING != 0 {
        Default::Stop
    } else {
        Default::Terminate
    }
}

/// Whether the default action dumps core.
pub fn dumps_core(signal: i32) -> bool {
    bit(signal) & DUMPING != 0
}

/// `struct sigaction` of the kernel ABI (rt_sigaction(2)).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Action {
    /// Function of the program, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}

// SAFETY: four integers.
unsafe impl Plain for Action {}

/// Default action.
pub const SIG_DFL: u64 = 0;
/// Ignore.
pub const SIG_IGN: u64 = 1;

#[allow(missing_docs, reason = "the names are sigaction(2)'s")]
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    /// What rt_sigaction(2) keeps of a program's flags (`UAPI_SA_FLAGS` and the restorer).
    pub const KNOWN: u64 =
        NOCLDSTOP | NOCLDWAIT | SIGINFO | RESTORER | ONSTACK | RESTART | NODEFER | RESETHAND | 0x800;
}

#[allow(missing_docs, reason = "the names are sigaction(2)'s")]
pub mod si {
    pub const USER: i32 = 0;
    pub const KERNEL: i32 = 0x80;
    pub const QUEUE: i32 = -1;
    pub const TIMER: i32 = -2;
    pub const SIGIO: i32 = -5;
    pub const TKILL: i32 = -6;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const TRAP_HWBKPT: i32 = 4;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
}

/// `siginfo_t` in its binary form.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub struct SigInfo {
    /// `si_signo`.
    pub signal: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// Padding to programs, to which it is 0: what [`Self::address_to`] makes of the sender's number.
    sender: u32,
    /// The union `_sifields`, 112 bytes.
    pub fields: [u64; 14],
}

// SAFETY: integers only; 128 bytes without padding.
unsafe impl Plain for SigInfo {}

const _: () = assert!(size_of::<SigInfo>() == 128);

/// `SigInfo::sender`: there is none, or it is shown already.
const AS_IT_IS: u32 = 0;
/// The kernel's number of it.
const BY_THE_KERNEL: u32 = 1;
/// The sender has filled it in itself.
const BY_ITSELF: u32 = 2;

impl SigInfo {
    /// No more than number and code.
    pub fn new(signal: i32, code: i32) -> SigInfo {
        SigInfo { signal, errno: 0, code, sender: AS_IT_IS, fields: [0; 14] }
    }

    /// Sent by a process: `si_pid`, `si_uid`. The number that a program sees is settled when it is sent, or by [`Self::seen_in`].
    pub fn from_process(signal: i32, code: i32, pid: Pid, uid: u32) -> SigInfo {
        let mut info = SigInfo::new(signal, code);
        info.fields[0] = u64::from(pid.number() as u32) | u64::from(uid) << 32;
        info.sender = BY_THE_KERNEL;
        info
    }

    /// Sent from outside of the sandbox.
    pub fn from_outside(signal: i32) -> SigInfo {
        SigInfo::from_process(signal, si::USER, Pid::NONE, 0)
    }

    /// As a program has filled it in, for somebody else (rt_sigqueueinfo(2)).
    pub fn filled_in_by_sender(self) -> SigInfo {
        SigInfo { sender: BY_ITSELF, ..self }
    }

    /// As a program has filled it in, for itself or its tracee.
    pub fn filled_in(self) -> SigInfo {
        SigInfo { sender: AS_IT_IS, ..self }
    }

    /// With the process id that is seen in a space.
    pub fn seen_in(mut self, space: PidSpace) -> SigInfo {
        if self.sender == BY_THE_KERNEL {
            self.set_pid(space.shown(Pid::of_number(self.fields[0] as i32)));
        }
        self.sender = AS_IT_IS;
        self
    }

    /// Settles what process id the receivers in a space see. `true` if the sender is none of those that they see: outside of the sandbox,
    /// or of their container (`send_signal_locked`).
    fn address_to(&mut self, space: PidSpace) -> bool {
        match self.sender {
            BY_THE_KERNEL => {
                *self = self.seen_in(space);
                self.pid() == 0
            }
            BY_ITSELF => {
                self.sender = AS_IT_IS;
                let seen = crate::task::current_if_any().is_some_and(|own| space.contains(own.group.tgid));
                if !seen && !matches!(self.code, si::TIMER | si::SIGIO) {
                    self.set_pid(0);
                }
                !seen
            }
            // The kernel means what it says (`force` in `send_signal_locked`).
            _ => self.code == si::KERNEL,
        }
    }

    fn set_pid(&mut self, shown: i32) {
        self.fields[0] = self.fields[0] & !0xffff_ffff | u64::from(shown as u32);
    }

    /// An expiry of a POSIX timer: `si_tid`, `si_overrun`, `si_value`.
    pub fn of_timer(signal: i32, id: u32, overrun: i32, value: u64) -> SigInfo {
        let mut info = SigInfo::new(signal, si::TIMER);
        info.fields[0] = u64::from(id) | u64::from(overrun as u32) << 32;
        info.fields[1] = value;
        info
    }

    /// The POSIX timer whose expiry this is.
    pub fn timer(&self) -> Option<u32> {
        (self.code == si::TIMER).then_some(self.fields[0] as u32)
    }

    /// `si_overrun`.
    pub fn overrun(&self) -> i32 {
        (self.fields[0] >> 32) as i32
    }

    /// Adds to `si_overrun`.
    pub fn add_overrun(&mut self, more: i32) {
        let overrun = self.overrun().saturating_add(more);
        self.fields[0] = self.fields[0] & 0xffff_ffff | u64::from(overrun as u32) << 32;
    }

    /// Raised by the processor: `si_addr`.
    pub fn at_address(signal: i32, code: i32, address: u64) -> SigInfo {
        let mut info = SigInfo::new(signal, code);
        info.fields[0] = address;
        info
    }

    /// A child's news (`SIGCHLD`): `si_pid`, `si_uid`, `si_status`, times in clock ticks.
    pub fn child(signal: i32, code: i32, pid: Pid, uid: u32, status: i32, times: (u64, u64)) -> SigInfo {
        let mut info = SigInfo::from_process(signal, code, pid, uid);
        info.fields[1] = u64::from(status as u32);
        info.fields[2] = times.0;
        info.fields[3] = times.1;
        info
    }

    /// `si_pid`.
    pub fn pid(&self) -> i32 {
        self.fields[0] as i32
    }

    /// `si_uid`.
    pub fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }
}

/// The alternate signal stack as the program sees it (sigaltstack(2)).
#[derive(Debug, Clone, Copy, Default)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// Bytes; 0 when there is none.
    pub size: u64,
    /// `SS_AUTODISARM` was asked for.
    pub autodisarm: bool,
}

impl AltStack {
    /// Whether a stack pointer is on it.
    pub fn contains(&self, sp: u64) -> bool {
        !self.autodisarm && self.holds(sp)
    }

    /// As [`Self::contains`], whatever `SS_AUTODISARM` says.
    pub fn holds(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }

    /// `ss_flags` with the program's stack pointer at `sp`.
    pub fn flags(&self, sp: u64) -> i32 {
        const SS_ONSTACK: i32 = 1;
        const SS_DISABLE: i32 = 2;
        const SS_AUTODISARM: i32 = i32::MIN;
        let base = if self.size == 0 {
            SS_DISABLE
        } else if self.contains(sp) {
            SS_ONSTACK
        } else {
            0
        };
        if self.autodisarm { base | SS_AUTODISARM } else { base }
    }
}
