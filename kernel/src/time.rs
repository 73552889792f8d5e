//! Clocks. Times are nanoseconds in `u64`.

use crate::sync::BootCell;
use crate::{Errno, Result};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC`.
pub fn monotonic() -> u64 {
    host::clock_ns(raw::CLOCK_MONOTONIC).unwrap_or(0)
}

/// `CLOCK_REALTIME`.
pub fn realtime() -> u64 {
    host::clock_ns(raw::CLOCK_REALTIME).unwrap_or(0)
}

/// The time of files: as coarse as on Linux, which takes it from its last tick (`CLOCK_REALTIME_COARSE`).
struct FileClock {
    /// Nanoseconds at [`Self::taken_at`]; written first, so that it is never older than that.
    time: AtomicU64,
    /// Time-stamp counter.
    taken_at: AtomicU64,
}

static FILE_CLOCK: BootCell<Box<FileClock>> = BootCell::new();

/// For so long, in time-stamp counter units, a time is not asked for again: less than a millisecond.
const TICK: u64 = 2_000_000;

/// Sets up. Called once, at boot.
pub fn init() {
    FILE_CLOCK.set(Box::new(FileClock { time: AtomicU64::new(0), taken_at: AtomicU64::new(0) }));
}

/// The clock that file times are taken from.
pub fn file_time() -> raw::timespec {
    let Some(clock) = FILE_CLOCK.get() else { return host::timespec(realtime()) };
    // SAFETY: the instruction only reads a counter; every x86-64 processor has it.
    let now = unsafe { core::arch::x86_64::_rdtsc() };
    if now.wrapping_sub(clock.taken_at.load(Ordering::Acquire)) > TICK {
        clock.time.store(realtime(), Ordering::Release);
        clock.taken_at.store(now, Ordering::Release);
    }
    host::timespec(clock.time.load(Ordering::Acquire))
}

/// A timespec of the program as nanoseconds; `EINVAL` unless normalised and not negative.
pub fn from_timespec(time: &raw::timespec) -> Result<u64> {
    if time.tv_sec < 0 || !(0..SECOND as i64).contains(&time.tv_nsec) {
        return Err(Errno::EINVAL);
    }
    Ok((time.tv_sec as u64).saturating_mul(SECOND).saturating_add(time.tv_nsec as u64))
}

/// A timeval of the program as nanoseconds; `EINVAL` unless normalised and not negative.
pub fn from_timeval(time: &raw::timeval) -> Result<u64> {
    if time.tv_sec < 0 || !(0..1_000_000).contains(&time.tv_usec) {
        return Err(Errno::EINVAL);
    }
    Ok((time.tv_sec as u64).saturating_mul(SECOND).saturating_add(time.tv_usec as u64 * 1000))
}

/// Nanoseconds as a timeval.
pub fn timeval(ns: u64) -> raw::timeval {
    raw::timeval { tv_sec: (ns / SECOND) as i64, tv_usec: (ns % SECOND / 1000) as i64 }
}

/// Nanoseconds as the timeval of `struct rusage`.
pub fn usage_timeval(ns: u64) -> raw::__kernel_old_timeval {
    raw::__kernel_old_timeval { tv_sec: (ns / SECOND) as i64, tv_usec: (ns % SECOND / 1000) as i64 }
}

pub use host::timespec;
