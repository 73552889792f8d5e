//! signalfd(2). What signals are is known above; this file asks through a trait.

use crate::anonymous::shared_attributes;
use crate::attributes::Attributes;
use crate::file::{FileOps, OpenFile};
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

    /// Changes the mask. Who waits may wait for something else now.
    pub fn set_mask(&self, mask: u64) {
        self.mask.store(mask, Ordering::SeqCst);
        self.source.queue().wake_all(PollEvents::READABLE);
    }

    fn take(&self) -> Option<[u8; 128]> {
        self.source.take(self.mask.load(Ordering::SeqCst))
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
        let mut total = 0;
        while sink.left() >= 128 {
            let info = match self.take() {
                Some(info) => info,
                None if total > 0 => break,
                None if file.nonblocking() => return Err(Errno::EAGAIN),
                None => wait::until(&[&self.source.queue()], None, || self.take())
                    .map_err(|ended| ended.errno(Errno::EINTR))?,
            };
            // As on Linux, a signal that cannot be delivered for a fault is lost; those before it count.
            match sink.put(&info) {
                Ok(count) => total += count,
                Err(errno) if total == 0 => return Err(errno),
                Err(_) => break,
            }
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
        Ok(shared_attributes())
    }

    fn describe(&self) -> String {
        "anon_inode:[signalfd]".into()
    }

    fn fdinfo(&self) -> String {
        format!("sigmask:\t{:016x}\n", self.mask.load(Ordering::Relaxed))
    }
}
