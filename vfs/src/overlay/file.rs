//! Open files of an overlay.

use super::OverlayInode;
use super::data::UpperData;
use crate::Result;
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{FileOps, OpenFile};
use crate::host::seek_in;
use crate::inode::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::mm::{Backing, Mappable};
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;

/// An open regular file whose contents are in the upper.
pub(super) struct OverlayFile {
    node: Arc<OverlayInode>,
    data: Arc<UpperData>,
}

impl OverlayFile {
    pub(super) fn new(node: Arc<OverlayInode>, data: Arc<UpperData>) -> OverlayFile {
        OverlayFile { node, data }
    }
}

impl FileOps for OverlayFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        self.data.read(offset, sink)
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let (done, _) = self.data.write(Some(offset), source)?;
        self.node.written()?;
        Ok(done)
    }

    fn append(&self, _file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        let written = self.data.write(None, source)?;
        self.node.written()?;
        Ok(written)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        let find = |start| self.data.find(start, whence == raw::SEEK_DATA);
        seek_in((position, offset, whence), || Ok(self.data.size()), find)
    }

    fn attributes(&self) -> Result<Attributes> {
        self.node.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.node.set_attributes(change)
    }

    fn mappable(&self, _file: &OpenFile) -> Result<Arc<dyn Mappable>> {
        self.data.note_mapping();
        Ok(Arc::new(OverlayMapping { node: self.node.clone(), data: self.data.clone() }))
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        self.data.allocate(mode, offset, length)?;
        self.node.modified()
    }
}

struct OverlayMapping {
    node: Arc<OverlayInode>,
    data: Arc<UpperData>,
}

impl Mappable for OverlayMapping {
    fn backing(&self, offset: u64, length: u64, _shared: bool, _writable: bool) -> Result<Backing> {
        self.data.backing(offset, length)
    }

    fn end(&self) -> Option<u64> {
        Some(self.data.size())
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        let dev = self.node.attributes().map_or(0, |attributes| attributes.dev);
        (dev, self.node.ino, Vec::new())
    }
}
