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
    // SAFETY: all zeros is a valid value; the call only fills it.
    let (result, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &mut action), action)
    };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// The signals that this command was started with as ignored ones: bit 0 is signal 1.
pub fn ignored_signals() -> u64 {
    IGNORED.load(Ordering::Relaxed)
}
