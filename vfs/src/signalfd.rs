//! signalfd(2). What signals are is known above; this file asks through a trait.

use crate::attributes::Attributes;
use crate::file::{FileOps, OpenFile};
use crate::pipe::anonymous_attributes;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::uaccess::Sink;
use kernel::wait::{self, WaitQueue};

/// Where the reading thread's signals come from.
pub trait SignalSource: Send + Sync {
    /// Takes a pending signal of `mask`, as a `struct signalfd_siginfo`.
    fn take(&self, mask: u64) -> Option<[u8; 128]>;
    /// Whether one of `mask` pends.
    fn pending(&self, mask: u64) -> bool;
    /// Woken when signals arrive.
    fn queue(&self) -> WaitQueue;
}

/// A descriptor that signals are read from.
pub struct SignalFd {
    mask: AtomicU64,
    source: Arc<dyn SignalSource>,
}

impl SignalFd {
    /// For the signals of `mask`.
    pub fn new(mask: u64, source: Arc<dyn SignalSource>) -> Arc<SignalFd> {
        Arc::new(SignalFd { mask: AtomicU64::new(mask), source })
    }

    /// Changes the mask.
    pub fn set_mask(&self, mask: u64) {
        self.mask.store(mask, Ordering::Relaxed);
    }
}

impl FileOps for SignalFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.left() < 128 {
            return Err(Errno::EINVAL);
        }
        let mask = self.mask.load(Ordering::Relaxed);
        let mut total = 0;
        while sink.left() >= 128 {
            let info = match self.source.take(mask) {
                Some(info) => info,
                None if total > 0 => break,
                None if file.nonblocking() => return Err(Errno::EAGAIN),
                None => wait::until(&[&self.source.queue()], None, || self.source.take(mask))
                    .map_err(|ended| ended.errno(Errno::EINTR))?,
            };
            total += sink.put(&info)?;
        }
        Ok(total)
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.source.queue());
        let ready = self.source.pending(self.mask.load(Ordering::Relaxed));
        if ready { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(anonymous_attributes(0o600, 1))
    }

    fn describe(&self) -> String {
        "anon_inode:[signalfd]".into()
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask.load(Ordering::Relaxed))
    }
}
