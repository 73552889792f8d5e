//! Devices without hardware: null(4), zero, full(4), random(4).

use crate::attributes::device;
use crate::file::{FileOps, OpenFile};
use crate::page_file::PageFile;
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::mm::{Backing, Mappable};
use kernel::sync::Mutex;
use kernel::uaccess::{Sink, Source};
use kernel::{task, uaccess};
use trap_handler::host;

pub const NULL: u64 = device(1, 3);
pub const ZERO: u64 = device(1, 5);
pub const FULL: u64 = device(1, 7);
pub const RANDOM: u64 = device(1, 8);
pub const URANDOM: u64 = device(1, 9);

/// Bytes between two looks whether a signal is to end a long read.
const STEP: usize = 1 << 20;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Null,
    Zero,
    Full,
    /// random and urandom: there is no difference once the host has booted.
    Random,
}

impl Memory {
    /// The device with a number.
    pub fn with_number(rdev: u64) -> Option<Memory> {
        match rdev {
            NULL => Some(Memory::Null),
            ZERO => Some(Memory::Zero),
            FULL => Some(Memory::Full),
            RANDOM | URANDOM => Some(Memory::Random),
            _ => None,
        }
    }
}

/// An open one.
pub struct MemoryDevice(pub Memory);

/// Fills a sink piece by piece. What was put before a fault or a signal counts.
fn fill(sink: &mut Sink<'_>, mut put: impl FnMut(&mut Sink<'_>, usize) -> Result<usize>) -> Result<usize> {
    let before = sink.left();
    let mut next_look = before.saturating_sub(STEP);
    while sink.left() > 0 {
        let left = sink.left();
        let outcome = put(sink, left.min(STEP));
        if outcome.is_err() || sink.left() == left {
            let done = before - sink.left();
            return if done > 0 { Ok(done) } else { outcome };
        }
        if sink.left() > 0 && sink.left() <= next_look {
            if task::current().interrupted() {
                break;
            }
            next_look = sink.left().saturating_sub(STEP);
        }
    }
    Ok(before - sink.left())
}

fn put_random(sink: &mut Sink<'_>, most: usize) -> Result<usize> {
    let mut bytes = [0u8; 1024];
    let length = most.min(bytes.len());
    let room = bytes.get_mut(..length).unwrap_or(&mut []);
    let count = host::getrandom(room, 0)?;
    sink.put(room.get(..count).unwrap_or(&[]))
}

impl FileOps for MemoryDevice {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        match self.0 {
            Memory::Null => Ok(0),
            Memory::Zero | Memory::Full => fill(sink, |sink, most| sink.put_zeros(most)),
            Memory::Random => fill(sink, put_random),
        }
    }

    fn write_at(&self, _file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if self.0 == Memory::Full {
            return Err(Errno::ENOSPC);
        }
        // Nobody looks at the bytes, so there is no fault either (`write_null`). The host's pool needs none of ours.
        let mut done = 0;
        while let Some(span) = source.span().filter(|_| source.left() > 0) {
            let count = (span.length as usize).min(source.left());
            source.advance(count);
            done += count;
        }
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, _offset: i64, _whence: u32) -> Result<u64> {
        // `null_lseek` and `noop_llseek`.
        if self.0 == Memory::Random { Ok(position) } else { Ok(0) }
    }

    fn pollable(&self) -> bool {
        self.0 == Memory::Random
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        /// Bits of entropy: the pool is full.
        const RNDGETENTCNT: u32 = 0x8004_5200;
        /// RNDADDTOENTCNT, RNDADDENTROPY, RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG change the host's pool.
        const PRIVILEGED: [u32; 5] = [0x4004_5201, 0x4008_5203, 0x5204, 0x5206, 0x5207];
        match command {
            _ if self.0 != Memory::Random => Err(Errno::ENOTTY),
            RNDGETENTCNT => uaccess::write(argument, &256i32).map(|()| 0),
            _ if PRIVILEGED.contains(&command) => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mappable(&self, file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        if self.0 != Memory::Zero {
            return Err(Errno::ENODEV);
        }
        let path = file.path.as_ref();
        let attributes = path.and_then(|path| path.inode().attributes().ok());
        let shown = (
            attributes.map_or(0, |attributes| attributes.dev),
            attributes.map_or(0, |attributes| attributes.ino),
            path.map(|path| path.full_text()).unwrap_or_default(),
        );
        Ok(Arc::new(ZeroMapping { shown, memory: Mutex::new(None) }))
    }

    fn describe(&self) -> String {
        match self.0 {
            Memory::Null => "/dev/null",
            Memory::Zero => "/dev/zero",
            Memory::Full => "/dev/full",
            Memory::Random => "/dev/random",
        }
        .into()
    }
}

/// A mapping of `/dev/zero`: private ones are anonymous memory, a shared one is memory of its own that forks share
/// (`shmem_zero_setup`).
struct ZeroMapping {
    shown: (u64, u64, Vec<u8>),
    memory: Mutex<Option<SharedMemory>>,
}

#[derive(Clone)]
struct SharedMemory {
    data: Arc<PageFile>,
    mapping: Arc<dyn Mappable>,
}

impl Mappable for ZeroMapping {
    fn backing(&self, offset: u64, length: u64, shared: bool, writable: bool) -> Result<Backing> {
        if !shared {
            return Ok(Backing::Zero { length });
        }
        let memory = {
            let mut slot = self.memory.lock();
            let made = slot.get_or_insert_with(|| {
                let data = PageFile::new(None);
                SharedMemory { mapping: data.mappable(self.shown.clone()), data }
            });
            made.clone()
        };
        let end = offset.checked_add(length).ok_or(Errno::EOVERFLOW)?;
        if end > memory.data.size() {
            memory.data.truncate(end)?;
        }
        memory.mapping.backing(offset, length, shared, writable)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        self.shown.clone()
    }
}
