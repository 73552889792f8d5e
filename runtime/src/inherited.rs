//! What a program inherits across execve(2) and this command's own start-up code changes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Highest signal number.
const SIGNALS: libc::c_int = 64;

static IGNORED: AtomicU64 = AtomicU64::new(0);

/// Among the constructors, which run before the standard library's start-up code: that ignores SIGPIPE whatever the caller had.
#[used]
// SAFETY: the section holds pointers to functions with this interface; the function needs nothing that is set up later.
#[unsafe(link_section = ".init_array")]
static NOTE: extern "C" fn() = note;

extern "C" fn note() {
    let ignored = (1..=SIGNALS).filter(|signal| is_ignored(*signal));
    IGNORED.store(ignored.map(|signal| 1 << (signal - 1)).sum(), Ordering::Relaxed);
}

fn is_ignored(signal: libc::c_int) -> bool {
    // `struct kernel_sigaction`: handler, flags, restorer, mask. The C library's call refuses its own two signals.
    let mut action = [0u64; 4];
    // SAFETY: the call only fills the structure, which has the kernel's layout.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, std::ptr::null::<u64>(), &mut action, size_of::<u64>())
    };
    result == 0 && action[0] == libc::SIG_IGN as u64
}

/// The signals that this command was started with as ignored ones: bit 0 is signal 1.
pub fn ignored_signals() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}
