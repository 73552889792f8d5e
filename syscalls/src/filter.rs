//! The host's filter goes on, and its listener to the supervisor (seccomp_unotify(2)): a call that the filter does not allow then
//! waits for an answer that never comes, while the supervisor reads number and address and ends the sandbox.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use boundary::boot::listener::{DELIVERED, NONE, NOT_YET};
use core::sync::atomic::Ordering;
use kernel::{boot, time};
use trap_handler::host;

/// The instruction `return SECCOMP_RET_KILL_PROCESS`, and the one that tells the listener instead.
const KILL: u64 = 0x06 | 0x8000_0000 << 32;
const TELL: u64 = 0x06 | 0x7fc0_0000 << 32;

/// How long the courier may take.
const PATIENCE: u64 = 20 * time::SECOND;

/// Installs it, and comes back when nothing but the supervisor holds the listener. Called once, at boot.
pub fn install(program: &[u64]) -> Result<(), String> {
    let telling: Vec<u64> = program.iter().map(|&word| if word == KILL { TELL } else { word }).collect();
    let number = match host::install_filter(&telling, true) {
        Ok(number) => number as u32,
        // One filter of a process may have a listener, and not before Linux 5.0. The program then kills by itself.
        Err(_) => {
            host::install_filter(program, false)
                .map_err(|errno| format!("the filter was refused by the host: {errno}"))?;
            NONE
        }
    };
    let word = boot::listener_word();
    word.store(number, Ordering::SeqCst);
    host::futex_wake(word, u32::MAX >> 1);
    let deadline = time::monotonic().saturating_add(PATIENCE);
    loop {
        let now = word.load(Ordering::SeqCst);
        if now == DELIVERED {
            break;
        }
        if now == NOT_YET || time::monotonic() > deadline {
            return Err("the filter's listener was not taken to the supervisor".into());
        }
        host::futex_wait_until(word, now, deadline);
    }
    // The courier is about to end. No program runs before it has.
    while !matches!(host::wait_any(), Ok(Some(_)) | Err(trap_handler::Errno::ECHILD)) {
        host::sched_yield();
    }
    Ok(())
}
