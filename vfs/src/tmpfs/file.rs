//! Open regular files in memory.

use super::TmpInode;
use crate::attributes::{AttributeChange, Attributes, Owner};
use crate::file::{FileOps, OpenFile};
use crate::inode::Inode;
use crate::namespace::without_set_ids;
use crate::page_file::PageFile;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::cred::cap;
use kernel::mm::Mappable;
use kernel::task;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// An open regular file.
pub(super) struct TmpFile {
    pub inode: Arc<TmpInode>,
    pub data: Arc<PageFile>,
}

impl TmpFile {
    /// What a write does beside writing: times, and set-ID bits go.
    pub(super) fn written(&self) {
        let mut meta = self.inode.meta.lock();
        let now = kernel::time::file_time();
        (meta.mtime, meta.ctime) = (now, now);
        if meta.mode & (raw::S_ISUID | raw::S_ISGID) != 0 {
            let cred = task::current().cred();
            if !cred.has(cap::FSETID) {
                let mode = raw::S_IFREG | meta.mode;
                meta.mode = without_set_ids(&cred, &Owner { mode, uid: meta.uid, gid: meta.gid, acl: false });
            }
        }
    }
}

impl FileOps for TmpFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let done = self.data.read(offset, sink)?;
        if file.notes_access() {
            self.inode.accessed();
        }
        Ok(done)
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let done = self.data.write(offset, source)?;
        if done > 0 {
            self.written();
        }
        Ok(done)
    }

    fn append(&self, _file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        let (done, end) = self.data.append(source)?;
        if done > 0 {
            self.written();
        }
        Ok((done, end))
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
        self.inode.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.inode.set_attributes(change)
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        Ok(self.data.mappable((self.inode.fs.dev, self.inode.ino, Vec::new())))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        let known = raw::FALLOC_FL_KEEP_SIZE | raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_ZERO_RANGE;
        if mode & !known != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        self.data.allocate(mode, offset, length)?;
        self.written();
        Ok(())
    }
}
