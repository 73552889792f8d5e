//! memfd_create(2): a file in memory without a name, and its seals (fcntl(2) `F_ADD_SEALS`).

use crate::anonymous::{Birth, MEMORY};
use crate::attributes::{AttributeChange, Attributes, Kind};
use crate::file::{FileOps, FileRef, OpenFile};
use crate::page_file::PageFile;
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use kernel::mm::{Backing, Mappable};
use kernel::sync::{Mutex, RwLock};
use kernel::time::file_time;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// Any change through a write.
const WRITES: u32 = raw::F_SEAL_WRITE | raw::F_SEAL_FUTURE_WRITE;
const ALL: u32 = raw::F_SEAL_SEAL | raw::F_SEAL_SHRINK | raw::F_SEAL_GROW | WRITES | raw::F_SEAL_EXEC;
const ANY_EXEC: u32 = 0o111;

struct Meta {
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    atime: raw::timespec,
    mtime: raw::timespec,
    ctime: raw::timespec,
}

/// A file in memory.
pub struct Memfd {
    /// `/memfd:NAME (deleted)`, as `/proc` shows it.
    shown: Vec<u8>,
    data: Arc<PageFile>,
    /// Held for reading by whatever the seals forbid, so that a seal holds from the moment it is there. Stands with the inode
    /// locks, above that of the data.
    seals: RwLock<u32>,
    /// Shared mappings that may be written.
    writable_mappings: Arc<AtomicUsize>,
    birth: Birth,
    meta: Mutex<Meta>,
    this: Weak<Memfd>,
}

/// Which seals the seals asked for bring (`memfd_add_seals`): `EINVAL`, `EPERM`, `EBUSY`.
fn with_seals(now: u32, asked: u32, executable: bool, mapped_writable: bool) -> Result<u32> {
    if asked & !ALL != 0 {
        return Err(Errno::EINVAL);
    }
    if now & raw::F_SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    if asked & raw::F_SEAL_WRITE != 0 && now & raw::F_SEAL_WRITE == 0 && mapped_writable {
        return Err(Errno::EBUSY);
    }
    // An executable that stays one cannot be changed any more.
    let implied = if asked & raw::F_SEAL_EXEC != 0 && executable {
        raw::F_SEAL_SHRINK | raw::F_SEAL_GROW | WRITES
    } else {
        0
    };
    Ok(now | asked | implied)
}

/// How many bytes of a write may go (`shmem_write_begin`): without growth, pages that end within the file, or all.
fn writable_length(seals: u32, size: u64, offset: u64, length: u64) -> Result<u64> {
    if seals & WRITES != 0 {
        return Err(Errno::EPERM);
    }
    if seals & raw::F_SEAL_GROW == 0 || offset.saturating_add(length) <= size {
        return Ok(length);
    }
    (size / PAGE_SIZE * PAGE_SIZE).checked_sub(offset).filter(|&whole| whole > 0).ok_or(Errno::EPERM)
}

/// Whether a file is a memfd that is sealed against writes: no new shared mapping of it may be written.
pub fn is_write_sealed(file: &FileRef) -> bool {
    file.ops.as_any().downcast_ref::<Memfd>().is_some_and(|memfd| memfd.seals() & WRITES != 0)
}

impl Memfd {
    /// An empty one; without `sealable` it is sealed against seals, and unless `executable` against becoming so
    /// (`MFD_NOEXEC_SEAL`).
    pub fn new(name: &[u8], sealable: bool, executable: bool) -> Arc<Memfd> {
        let birth = Birth::by_current();
        let seals = if sealable { 0 } else { raw::F_SEAL_SEAL };
        let (seals, mode) = if executable { (seals, 0o777) } else { (seals | raw::F_SEAL_EXEC, 0o666) };
        let meta = Meta {
            mode,
            uid: birth.uid,
            gid: birth.gid,
            atime: birth.time,
            mtime: birth.time,
            ctime: birth.time,
        };
        Arc::new_cyclic(|this| Memfd {
            shown: [b"/memfd:", name, b" (deleted)"].concat(),
            data: PageFile::new(None),
            seals: RwLock::new(seals),
            writable_mappings: Arc::default(),
            birth,
            meta: Mutex::new(meta),
            this: this.clone(),
        })
    }

    /// `F_GET_SEALS`.
    pub fn seals(&self) -> u32 {
        *self.seals.read()
    }

    /// `F_ADD_SEALS`: `EPERM` when sealed against it, `EBUSY` against writes while there are shared mappings that may be
    /// written, `EINVAL`.
    pub fn add_seals(&self, asked: u32) -> Result<()> {
        let mut seals = self.seals.write();
        let executable = self.meta.lock().mode & ANY_EXEC != 0;
        let mapped = self.writable_mappings.load(Ordering::SeqCst) > 0;
        *seals = with_seals(*seals, asked, executable, mapped)?;
        Ok(())
    }

    fn written(&self) {
        let now = file_time();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
        meta.mode &= !(raw::S_ISUID | raw::S_ISGID);
    }

    fn write(&self, seals: u32, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let left = source.left() as u64;
        if left == 0 {
            return Ok(0);
        }
        let length = writable_length(seals, self.data.size(), offset, left)?;
        let done = if length == left {
            self.data.write(offset, source)?
        } else {
            self.write_part(offset, source, length as usize)?
        };
        self.written();
        Ok(done)
    }

    /// Writes `length` bytes of a longer source.
    fn write_part(&self, offset: u64, source: &mut Source<'_>, length: usize) -> Result<usize> {
        let mut buffer = [0u8; 512];
        let mut done = 0;
        while done < length {
            let part = buffer.get_mut(..(length - done).min(512)).unwrap_or(&mut []);
            let outcome = source.take(part).and_then(|count| {
                let bytes = part.get(..count).unwrap_or(&[]);
                self.data.write(offset.saturating_add(done as u64), &mut Source::kernel(bytes))
            });
            match outcome {
                Ok(count) if count > 0 => done += count,
                Err(errno) if done == 0 => return Err(errno),
                _ => break,
            }
        }
        Ok(done)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        let seals = self.seals.read();
        let now = self.data.size();
        if size < now && *seals & raw::F_SEAL_SHRINK != 0 || size > now && *seals & raw::F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        self.data.truncate(size)
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
        let seals = self.seals.read();
        self.write(*seals, offset, source)
    }

    fn append(&self, _file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        let seals = self.seals.read();
        let size = self.data.size();
        let length = source.left() as u64;
        if writable_length(*seals, size, size, length)? < length {
            let done = self.write(*seals, size, source)?;
            return Ok((done, size.saturating_add(done as u64)));
        }
        let outcome = self.data.append(source)?;
        self.written();
        Ok(outcome)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        crate::host::seek_in(
            (position, offset, whence),
            || Ok(self.data.size()),
            |start| self.data.seek(start, whence == raw::SEEK_HOLE),
        )
    }

    fn attributes(&self) -> Result<Attributes> {
        let (size, blocks) = self.data.size_and_blocks();
        let meta = self.meta.lock();
        Ok(Attributes {
            size,
            blocks,
            nlink: 0,
            uid: meta.uid,
            gid: meta.gid,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            ..self.birth.attributes(MEMORY, Kind::Regular.mode_bits() | meta.mode)
        })
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        if let Some(size) = change.size {
            self.truncate(size)?;
        }
        let now = file_time();
        let seals = self.seals.read();
        let mut meta = self.meta.lock();
        if let Some(mode) = change.mode {
            if *seals & raw::F_SEAL_EXEC != 0 && (mode ^ meta.mode) & ANY_EXEC != 0 {
                return Err(Errno::EPERM);
            }
            meta.mode = mode & 0o7777;
        }
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        meta.atime = change.atime.unwrap_or(meta.atime);
        let truncated = if change.size.is_some() { now } else { meta.mtime };
        meta.mtime = change.mtime.unwrap_or(truncated);
        meta.ctime = now;
        Ok(())
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        let memfd = self.this.upgrade().ok_or(Errno::EBADF)?;
        let inner = self.data.mappable((MEMORY, self.birth.ino, self.shown.clone()));
        Ok(Arc::new(MemfdMapping { memfd, inner, counted: AtomicBool::new(false) }))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        if mode & !(raw::FALLOC_FL_KEEP_SIZE | raw::FALLOC_FL_PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let seals = self.seals.read();
        let punches = mode & raw::FALLOC_FL_PUNCH_HOLE != 0;
        if punches && *seals & WRITES != 0 {
            return Err(Errno::EPERM);
        }
        // Also when the size is to be kept, as Linux has it.
        if !punches && *seals & raw::F_SEAL_GROW != 0 && offset.saturating_add(length) > self.data.size() {
            return Err(Errno::EPERM);
        }
        self.data.allocate(mode, offset, length)?;
        self.written();
        Ok(())
    }

    fn describe(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    fn reopen(&self, flags: u32) -> Result<Arc<dyn FileOps>> {
        if flags & raw::O_TRUNC != 0 {
            self.truncate(0)?;
        }
        Ok(self.this.upgrade().ok_or(Errno::ENXIO)?)
    }
}

/// One mmap(2) of a memfd.
struct MemfdMapping {
    memfd: Arc<Memfd>,
    inner: Arc<dyn Mappable>,
    /// It is one of the memfd's writable mappings.
    counted: AtomicBool,
}

impl Mappable for MemfdMapping {
    fn backing(&self, offset: u64, length: u64, shared: bool, writable: bool) -> Result<Backing> {
        if shared && writable && !self.counted.load(Ordering::SeqCst) {
            let seals = self.memfd.seals.read();
            if *seals & WRITES != 0 {
                return Err(Errno::EPERM);
            }
            if !self.counted.swap(true, Ordering::SeqCst) {
                self.memfd.writable_mappings.fetch_add(1, Ordering::SeqCst);
            }
        }
        self.inner.backing(offset, length, shared, writable)
    }

    fn end(&self) -> Option<u64> {
        self.inner.end()
    }

    fn remove(&self, offset: u64, length: u64) -> Option<Result<()>> {
        if *self.memfd.seals.read() & WRITES != 0 {
            return Some(Err(Errno::EPERM));
        }
        self.inner.remove(offset, length)
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        self.inner.describe()
    }
}

impl Drop for MemfdMapping {
    fn drop(&mut self) {
        if *self.counted.get_mut() {
            self.memfd.writable_mappings.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_only_come_and_one_ends_their_coming() {
        assert_eq!(
            with_seals(raw::F_SEAL_GROW, raw::F_SEAL_SEAL, false, false),
            Ok(raw::F_SEAL_GROW | raw::F_SEAL_SEAL)
        );
        assert_eq!(with_seals(raw::F_SEAL_SEAL, raw::F_SEAL_GROW, false, false), Err(Errno::EPERM));
        assert_eq!(with_seals(0, 64, false, false), Err(Errno::EINVAL));
        assert_eq!(with_seals(0, raw::F_SEAL_WRITE, false, true), Err(Errno::EBUSY));
        assert_eq!(with_seals(0, raw::F_SEAL_FUTURE_WRITE, false, true), Ok(raw::F_SEAL_FUTURE_WRITE));
        assert_eq!(with_seals(0, raw::F_SEAL_EXEC, true, false), Ok(ALL & !raw::F_SEAL_SEAL));
    }

    #[test]
    fn a_write_that_would_grow_a_sealed_file_goes_as_far_as_its_whole_pages() {
        let grow = raw::F_SEAL_GROW;
        assert_eq!(writable_length(grow, 5000, 0, 5000), Ok(5000));
        assert_eq!(writable_length(grow, 5000, 0, 8192), Ok(4096));
        assert_eq!(writable_length(grow, 5000, 4096, 8192), Err(Errno::EPERM));
        assert_eq!(writable_length(grow, 5000, 6000, 1), Err(Errno::EPERM));
        assert_eq!(writable_length(0, 5000, 6000, 1), Ok(1));
        assert_eq!(writable_length(raw::F_SEAL_WRITE, 5000, 0, 1), Err(Errno::EPERM));
    }
}
