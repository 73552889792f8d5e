//! Open regular files of the host: transfers go straight between the host and program memory.

use super::{HostFd, HostInode};
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{FileOps, OpenFile};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use core::any::Any;
use kernel::mm::{Backing, Mappable};
use kernel::uaccess::{Sink, Source, Span};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// An open regular file.
pub struct HostFile {
    inode: Arc<HostInode>,
    fd: Arc<HostFd>,
    /// Size of a file that can never change.
    size: Option<u64>,
}

impl HostFile {
    pub(super) fn new(inode: Arc<HostInode>, fd: Arc<HostFd>) -> HostFile {
        let size = inode.immutable().then(|| inode.attributes().map_or(0, |attributes| attributes.size));
        HostFile { inode, fd, size }
    }

    /// Its host descriptor.
    pub fn host_fd(&self) -> &Arc<HostFd> {
        &self.fd
    }

    /// `EBADF` before the host is asked: calls that write are death by the filter where nothing is writable.
    fn check_writable(&self) -> Result<()> {
        if self.fd.covers(raw::O_WRONLY) { Ok(()) } else { Err(Errno::EBADF) }
    }

    /// Its size now.
    pub fn size(&self) -> Result<u64> {
        match self.size {
            Some(size) => Ok(size),
            None => host::fstatat(self.fd.number(), c"", raw::AT_EMPTY_PATH).map(|stat| stat.st_size as u64),
        }
    }
}

/// What lseek(2) gives for a file of `size` bytes; `SEEK_DATA` and `SEEK_HOLE` are `find`'s.
pub(crate) fn seek_in(
    (position, offset, whence): (u64, i64, u32),
    size: impl FnOnce() -> Result<u64>,
    find: impl FnOnce(u64) -> Result<u64>,
) -> Result<u64> {
    let base = match whence {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => position,
        raw::SEEK_END => size()?,
        raw::SEEK_DATA | raw::SEEK_HOLE => {
            let start = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            return if start >= size()? { Err(Errno::ENXIO) } else { find(start) };
        }
        _ => return Err(Errno::EINVAL),
    };
    let to = base.checked_add_signed(offset).ok_or(Errno::EINVAL)?;
    if to > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(to) }
}

/// Transfers span by span until one is short: what was transferred before an error counts.
fn each_span(
    mut next: impl FnMut() -> Option<Span>,
    mut transfer: impl FnMut(Span, u64) -> Result<usize>,
    mut advance: impl FnMut(usize),
) -> Result<usize> {
    let mut done = 0;
    while let Some(span) = next() {
        match transfer(span, done as u64) {
            Ok(count) => {
                advance(count);
                done += count;
                if (count as u64) < span.length {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Reads from a host descriptor at an offset.
pub(crate) fn read_host(fd: i32, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
    let sink = core::cell::RefCell::new(sink);
    let left = || {
        let mut sink = sink.borrow_mut();
        let most = sink.left() as u64;
        sink.span().filter(|_| most > 0).map(|span| Span { length: span.length.min(most), ..span })
    };
    each_span(
        left,
        |span, done| host::pread(fd, span, offset.saturating_add(done)),
        |count| sink.borrow_mut().advance(count),
    )
}

/// Writes with `transfer` (a host call on one span, given the bytes written before it).
fn write_host(source: &mut Source<'_>, transfer: impl FnMut(Span, u64) -> Result<usize>) -> Result<usize> {
    let source = core::cell::RefCell::new(source);
    let left = || {
        let mut source = source.borrow_mut();
        let most = source.left() as u64;
        source.span().filter(|_| most > 0).map(|span| Span { length: span.length.min(most), ..span })
    };
    each_span(left, transfer, |count| source.borrow_mut().advance(count))
}

impl FileOps for HostFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        // Nearly every file is read until 0 comes: that last read is answered here where the size cannot change.
        if self.size.is_some_and(|size| offset >= size) {
            return Ok(0);
        }
        read_host(self.fd.number(), offset, sink)
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        self.check_writable()?;
        let fd = self.fd.number();
        let done = write_host(source, |span, done| host::pwrite(fd, span, offset.saturating_add(done)))?;
        self.inode.data_changed();
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        // The end is looked for and written to under one lock: whole for everyone inside. Against writers outside only
        // the host could help (`RWF_APPEND`), with a call that the filter does not have.
        let _alone = self.inode.end.lock();
        let end = self.size()?;
        let done = self.write_at(file, end, source)?;
        Ok((done, end.saturating_add(done as u64)))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        seek_in(
            (position, offset, whence),
            || self.size(),
            |start| host::lseek(self.fd.number(), start as i64, whence),
        )
    }

    fn attributes(&self) -> Result<Attributes> {
        self.inode.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        // ftruncate(2) needs a descriptor that can be written, which may be this one alone (permission bits changed since).
        let mut rest = *change;
        if let Some(size) = change.size
            && self.fd.covers(raw::O_WRONLY)
        {
            host::ftruncate(self.fd.number(), size)?;
            rest.size = None;
        }
        self.inode.set_attributes(&rest)
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        Ok(Arc::new(HostMapping { inode: self.inode.clone(), fd: self.fd.clone(), size: self.size }))
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        if self.inode.fs.read_only { Ok(()) } else { host::fsync(self.fd.number(), data_only) }
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        self.check_writable()?;
        host::fallocate(self.fd.number(), mode, offset, length)?;
        self.inode.data_changed();
        Ok(())
    }

    fn describe(&self) -> String {
        String::from_utf8_lossy(&self.inode.host_path()).into_owned()
    }
}

/// What a mapping of a host file holds.
struct HostMapping {
    inode: Arc<HostInode>,
    fd: Arc<HostFd>,
    size: Option<u64>,
}

impl Mappable for HostMapping {
    fn backing(&self, offset: u64, length: u64, _shared: bool, _writable: bool) -> Result<Backing> {
        let fd = self.fd.number();
        // A file that may grow is mapped past its end: the host gives SIGBUS there until it has grown.
        let Some(size) = self.size else { return Ok(Backing::Host { fd, offset, length }) };
        let inside = size.next_multiple_of(PAGE_SIZE).saturating_sub(offset).min(length);
        Ok(match inside {
            0 => Backing::BeyondEnd { length },
            length => Backing::Host { fd, offset, length },
        })
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        let (dev, ino) = self.inode.id();
        (dev, ino, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeking_follows_lseek() {
        let seek = |position, offset, whence| seek_in((position, offset, whence), || Ok(100), Ok);
        assert_eq!(seek(10, 5, raw::SEEK_CUR), Ok(15));
        assert_eq!(seek(10, -11, raw::SEEK_CUR), Err(Errno::EINVAL));
        assert_eq!(seek(0, -100, raw::SEEK_END), Ok(0));
        assert_eq!(seek(0, 1 << 40, raw::SEEK_SET), Ok(1 << 40));
        assert_eq!(seek(i64::MAX as u64, 1, raw::SEEK_CUR), Err(Errno::EINVAL));
        assert_eq!(seek(0, 100, raw::SEEK_DATA), Err(Errno::ENXIO));
        assert_eq!(seek(0, -1, raw::SEEK_HOLE), Err(Errno::ENXIO));
        assert_eq!(seek(0, 0, 77), Err(Errno::EINVAL));
    }
}
