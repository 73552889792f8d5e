//! `/dev`: character devices of memory, and the filesystem that shows them.

use crate::attributes::{Attributes, device};
use crate::file::{FileOps, OpenFile};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use kernel::mm::{Backing, Mappable};
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Memory devices (mem(4), null(4), random(4)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Null,
    Zero,
    Full,
    Random,
}

struct MemoryDevice(Memory);

/// Nodes of a fresh `/dev`: name, device number, permission bits.
pub const NODES: &[(&str, u64, u32)] = &[
    ("null", device(1, 3), 0o666),
    ("zero", device(1, 5), 0o666),
    ("full", device(1, 7), 0o666),
    ("random", device(1, 8), 0o666),
    ("urandom", device(1, 9), 0o666),
    ("tty", device(5, 0), 0o666),
    ("ptmx", device(5, 2), 0o666),
];

/// Links of a fresh `/dev`.
pub const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Directories of a fresh `/dev`.
pub const DIRECTORIES: &[&str] = &["shm", "pts", "mqueue"];

/// Opens a character device by its number. `ENXIO` for one that is not there: as yet there are no terminals of the
/// sandbox's own (`/dev/tty`, `/dev/ptmx`).
pub fn open_device(rdev: u64, _flags: u32) -> Result<Arc<dyn FileOps>> {
    let memory = if rdev == device(1, 3) {
        Memory::Null
    } else if rdev == device(1, 5) {
        Memory::Zero
    } else if rdev == device(1, 7) {
        Memory::Full
    } else if rdev == device(1, 8) || rdev == device(1, 9) {
        Memory::Random
    } else {
        return Err(Errno::ENXIO);
    };
    Ok(Arc::new(MemoryDevice(memory)))
}

impl FileOps for MemoryDevice {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        match self.0 {
            Memory::Null => Ok(0),
            Memory::Zero | Memory::Full => sink.put_zeros(sink.left()),
            Memory::Random => {
                let mut total = 0;
                let mut bytes = [0u8; 256];
                while sink.left() > 0 {
                    let part = sink.left().min(bytes.len());
                    let room = bytes.get_mut(..part).unwrap_or(&mut []);
                    let count = host::getrandom(room, 0)?;
                    total += sink.put(room.get(..count).unwrap_or(&[]))?;
                }
                Ok(total)
            }
        }
    }

    fn write_at(&self, _file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if self.0 == Memory::Full {
            return Err(Errno::ENOSPC);
        }
        let count = source.left();
        source.advance(count);
        Ok(count)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _position: u64, offset: i64, whence: u32) -> Result<u64> {
        // null_lseek: always at the start.
        match (self.0, whence) {
            (Memory::Random, raw::SEEK_SET) if offset >= 0 => Ok(offset as u64),
            _ => Ok(0),
        }
    }

    fn pollable(&self) -> bool {
        matches!(self.0, Memory::Random)
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        const RNDGETENTCNT: u32 = 0x8004_5200;
        if self.0 == Memory::Random && command == RNDGETENTCNT {
            kernel::uaccess::write(argument, &256i32)?;
            return Ok(0);
        }
        Err(Errno::ENOTTY)
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        if self.0 == Memory::Zero { Ok(Arc::new(Zeros)) } else { Err(Errno::ENODEV) }
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn attributes(&self) -> Result<Attributes> {
        Err(Errno::EBADF)
    }

    fn describe(&self) -> String {
        "/dev/mem".into()
    }
}

/// A mapping of `/dev/zero`: anonymous memory.
struct Zeros;

impl Mappable for Zeros {
    fn backing(&self, _offset: u64, length: u64, shared: bool, _writable: bool) -> Result<Backing> {
        if shared { Err(Errno::ENODEV) } else { Ok(Backing::Zero { length }) }
    }

    fn describe(&self) -> (u64, u64, alloc::vec::Vec<u8>) {
        (device(0, 5), 4, b"/dev/zero".to_vec())
    }
}
