//! Which standard descriptors the caller left open. Rust's start-up code opens `/dev/null` in place of a closed one, so they are
//! looked at before it runs; the program in the sandbox is to find them closed as it would without.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each of the three that was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

extern "C" fn look() {
    for fd in 0..3 {
        // SAFETY: asks for flags; nothing of Rust's run-time is needed.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// Run by the C library before `main`.
#[used]
// SAFETY: a function of the signature that the section's readers expect (they pass argc, argv and envp, which it ignores).
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// The three descriptors, -1 for one that the caller had closed.
pub fn descriptors() -> [RawFd; 3] {
    let closed = CLOSED.load(Ordering::Relaxed);
    [0, 1, 2].map(|fd| if closed & (1 << fd) == 0 { fd } else { -1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_descriptor_is_handed_on() {
        assert_eq!(descriptors()[2], 2);
    }
}
