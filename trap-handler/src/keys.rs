//! Protection keys: which key is whose, and whether the kernel's memory is closed to program code.

use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Key of everything that is the program's.
pub const PROGRAM: i32 = 0;

static ON: AtomicBool = AtomicBool::new(false);
static CODE_KEY: AtomicI32 = AtomicI32::new(-1);

/// Whether the guard is on in this sandbox.
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The key with which program code may be read and executed by everybody, and written by kernel code only.
pub fn code_key() -> i32 {
    CODE_KEY.load(Ordering::Relaxed)
}
