//! Changes of code that other threads may be running.

use crate::Result;
use boundary::layout::PAGE_SIZE;
use trap_handler::patch::{self, JUMP};
use trap_handler::{copy, host};

/// Runs `write` while the pages of `[start, end)`, which are executable, can be written. Not with the guard: see [`super::screen`].
pub(super) fn while_writable(start: u64, end: u64, write: impl FnOnce() -> Result<()>) -> Result<()> {
    use linux_raw_sys::general as raw;
    let first = start & !(PAGE_SIZE - 1);
    let length = end.next_multiple_of(PAGE_SIZE) - first;
    host::mprotect(first, length, raw::PROT_READ | raw::PROT_WRITE | raw::PROT_EXEC)?;
    let written = write();
    close_code(first, length)?;
    written
}

/// What was written can be executed from now on, and not be written any more.
pub(super) fn close_code(start: u64, length: u64) -> Result<()> {
    use linux_raw_sys::general as raw;
    host::mprotect(start, length, raw::PROT_READ | raw::PROT_EXEC)
}

/// Exchanges the five bytes at `head`. Other threads may be running them: a breakpoint comes first and the first byte last, and
/// between the steps every processor takes notice (Intel SDM volume 3, 10.1.3).
pub(super) fn exchange(head: u64, code: [u8; 5], alone: bool, restores: bool) -> Result<()> {
    const BREAKPOINT: u8 = 0xcc;
    let [first, second, third, rest @ ..] = code;
    // A thread that returns from the call of shape *next* finds the third byte. It is invalid as long as what follows is not
    // the instruction that was there.
    let (middle, outer): (&[u8], [(u64, &[u8]); 2]) = (&[third], [(1, &[second]), (3, &rest)]);
    let steps: [&[(u64, &[u8])]; 2] =
        if restores { [&outer, &[(2, middle)]] } else { [&[(2, middle)], &outer] };
    while_writable(head, head + JUMP, || {
        if alone {
            return copy::to_user(head, &code);
        }
        synchronize_registered()?;
        patch::begin(head);
        let exchanged = exchange_in_steps(head, BREAKPOINT, steps, first);
        patch::end(restores);
        exchanged
    })
}

fn exchange_in_steps(head: u64, breakpoint: u8, steps: [&[(u64, &[u8])]; 2], first: u8) -> Result<()> {
    copy::to_user(head, &[breakpoint])?;
    synchronize()?;
    for step in steps {
        for (offset, bytes) in step {
            copy::to_user(head + offset, bytes)?;
        }
        synchronize()?;
    }
    copy::to_user(head, &[first])?;
    synchronize()
}

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE`, once a process at least.
fn synchronize_registered() -> Result<()> {
    const REGISTER: i32 = 1 << 6;
    host::membarrier(REGISTER, 0).map(drop)
}

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE`: every thread of the process executes a serialising instruction.
fn synchronize() -> Result<()> {
    const SYNC_CORE: i32 = 1 << 5;
    host::membarrier(SYNC_CORE, 0).map(drop)
}
