//! What a task has read and written (`/proc/PID/io`, proc_pid_io(5)). What of it came from a disk or went there is the host's to
//! know.

use core::sync::atomic::{AtomicU64, Ordering};

/// Sums of transfers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transfers {
    /// Bytes that reading calls gave.
    pub bytes_read: u64,
    /// Bytes that writing calls took.
    pub bytes_written: u64,
    /// Reading calls, those that failed included.
    pub reads: u64,
    /// Writing calls.
    pub writes: u64,
}

impl core::ops::AddAssign for Transfers {
    fn add_assign(&mut self, other: Transfers) {
        self.bytes_read = self.bytes_read.wrapping_add(other.bytes_read);
        self.bytes_written = self.bytes_written.wrapping_add(other.bytes_written);
        self.reads = self.reads.wrapping_add(other.reads);
        self.writes = self.writes.wrapping_add(other.writes);
    }
}

/// Those of a task. Only the task itself counts, so no step needs to be atomic; others look.
#[derive(Debug, Default)]
pub struct Counters {
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    /// A reading call is over, which gave so many bytes.
    pub fn read(&self, bytes: u64) {
        add(&self.reads, 1);
        add(&self.bytes_read, bytes);
    }

    /// A writing call is over.
    pub fn written(&self, bytes: u64) {
        add(&self.writes, 1);
        add(&self.bytes_written, bytes);
    }

    /// All until now.
    pub fn sum(&self) -> Transfers {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Transfers {
            bytes_read: of(&self.bytes_read),
            bytes_written: of(&self.bytes_written),
            reads: of(&self.reads),
            writes: of(&self.writes),
        }
    }
}
