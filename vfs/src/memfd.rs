//! memfd_create(2): a file in memory without a name, and its seals.

use crate::attributes::{AttributeChange, Attributes, Kind};
use crate::file::{FileOps, OpenFile};
use crate::page_file::PageFile;
use crate::pipe::{anonymous_attributes, next_ino};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::mm::Mappable;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// No more seals.
pub const F_SEAL_SEAL: u32 = 1;
const F_SEAL_SHRINK: u32 = 2;
const F_SEAL_GROW: u32 = 4;
const F_SEAL_WRITE: u32 = 8;
const F_SEAL_FUTURE_WRITE: u32 = 16;
const F_SEAL_EXEC: u32 = 32;
const ALL: u32 = 63;

/// A file in memory.
pub struct Memfd {
    name: Vec<u8>,
    data: Arc<PageFile>,
    seals: AtomicU32,
    mode: AtomicU32,
    ino: u64,
}

impl Memfd {
    /// An empty one; without `sealable` it is sealed against seals.
    pub fn new(name: &[u8], sealable: bool, executable: bool) -> Arc<Memfd> {
        let mut shown = b"/memfd:".to_vec();
        shown.extend_from_slice(name);
        Arc::new(Memfd {
            name: shown,
            data: PageFile::new(None),
            seals: AtomicU32::new(if sealable { 0 } else { F_SEAL_SEAL }),
            mode: AtomicU32::new(if executable { 0o777 } else { 0o666 }),
            ino: next_ino(),
        })
    }

    /// `F_GET_SEALS`.
    pub fn seals(&self) -> u32 {
        self.seals.load(Ordering::SeqCst)
    }

    /// `F_ADD_SEALS`: `EPERM` when sealed against it.
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        if seals & !ALL != 0 {
            return Err(Errno::EINVAL);
        }
        if self.seals() & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        self.seals.fetch_or(seals, Ordering::SeqCst);
        Ok(())
    }

    fn check_write(&self, end: u64) -> Result<()> {
        let seals = self.seals();
        let grows = end > self.data.size();
        if seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 || (grows && seals & F_SEAL_GROW != 0) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

impl FileOps for Memfd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        self.data.read(offset, sink)
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        self.check_write(offset.saturating_add(source.left() as u64))?;
        self.data.write(offset, source)
    }

    fn append(&self, _file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.check_write(self.data.size().saturating_add(source.left() as u64))?;
        self.data.append(source)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        let base = match whence {
            raw::SEEK_SET => 0,
            raw::SEEK_CUR => position,
            raw::SEEK_END => self.data.size(),
            raw::SEEK_DATA | raw::SEEK_HOLE => {
                let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                return self.data.seek(offset, whence == raw::SEEK_HOLE);
            }
            _ => return Err(Errno::EINVAL),
        };
        base.checked_add_signed(offset).filter(|&position| position <= i64::MAX as u64).ok_or(Errno::EINVAL)
    }

    fn attributes(&self) -> Result<Attributes> {
        let (size, blocks) = self.data.size_and_blocks();
        let mode = Kind::Regular.mode_bits() | self.mode.load(Ordering::Relaxed);
        Ok(Attributes { size, blocks, nlink: 0, ..anonymous_attributes(mode, self.ino) })
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        if let Some(mode) = change.mode {
            if self.seals() & F_SEAL_EXEC != 0 && (mode ^ self.mode.load(Ordering::Relaxed)) & 0o111 != 0 {
                return Err(Errno::EPERM);
            }
            self.mode.store(mode, Ordering::Relaxed);
        }
        if let Some(size) = change.size {
            let (seals, now) = (self.seals(), self.data.size());
            if size < now && seals & F_SEAL_SHRINK != 0 || size > now && seals & F_SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            self.data.truncate(size)?;
        }
        Ok(())
    }

    fn mappable(&self, file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        let _ = file;
        Ok(self.data.mappable((crate::attributes::device(0, 1), self.ino, self.name.clone())))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        let seals = self.seals();
        if mode & PUNCH_HOLE != 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if mode & KEEP_SIZE == 0
            && offset.saturating_add(length) > self.data.size()
            && seals & F_SEAL_GROW != 0
        {
            return Err(Errno::EPERM);
        }
        self.data.allocate(mode, offset, length)
    }

    fn describe(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.name).into_owned();
        text.push_str(" (deleted)");
        text
    }
}
