//! Open queues: what a descriptor of mq_open(2), or of a file in `/dev/mqueue`, can do.

use super::{FILE_SIZE, Filesystem, Notice, Queue};
use crate::attributes::{AttributeChange, Attributes};
use crate::file::{DirEntry, Emit, FileOps, OpenFile};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use kernel::poll::{PollEvents, PollTable};
use kernel::task::{self, Pid};
use kernel::uaccess::Sink;
use linux_raw_sys::general as raw;

/// An open queue.
pub struct OpenQueue(pub Arc<Queue>);

impl OpenQueue {
    /// What read(2) gives (`mqueue_read_file`).
    fn text(&self) -> String {
        let (sigev, signal, pid) = match self.0.notice() {
            Some((pid, Notice::Signal(signal, _))) => (0, signal, pid),
            Some((pid, Notice::Silent)) => (1, 0, pid),
            Some((pid, Notice::Socket(..))) => (2, 0, pid),
            None => (0, 0, Pid::NONE),
        };
        let pid = task::current().group.space.shown(pid);
        let bytes = self.0.usage().1;
        format!("QSIZE:{bytes:<10} NOTIFY:{sigev:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n")
    }
}

impl FileOps for OpenQueue {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let text = self.text();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        sink.put(text.as_bytes().get(from..).unwrap_or(&[]))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        crate::host::seek_in((position, offset, whence), || Ok(FILE_SIZE), |_| Err(Errno::ENXIO))
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.0.changed);
        let count = self.0.usage().0;
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, count > 0);
        events.set(PollEvents::WRITABLE, count < self.0.capacity);
        events
    }

    fn pollable(&self) -> bool {
        true
    }

    fn attributes(&self) -> Result<Attributes> {
        self.0.attributes()
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.0.set_attributes(change)
    }

    fn filesystem(&self) -> Option<raw::statfs> {
        Some(super::statfs())
    }

    fn describe(&self) -> String {
        let deleted = if self.0.meta.lock().nlink == 0 { " (deleted)" } else { "" };
        format!("/{}{deleted}", String::from_utf8_lossy(&self.0.name))
    }

    fn flush(&self) -> Result<()> {
        if let Some(task) = task::current_if_any() {
            self.0.unregister(task.group.tgid);
        }
        Ok(())
    }

    fn reopen(&self, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenQueue(self.0.clone())))
    }
}

/// The open directory.
pub(super) struct OpenDirectory(pub Arc<Filesystem>);

impl FileOps for OpenDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, _offset: u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        crate::host::seek_in((position, offset, whence), || Ok(0), |_| Err(Errno::EINVAL))
    }

    fn read_dir(&self, position: u64, _room: usize, emit: Emit<'_>) -> Result<()> {
        let own = self.0.birth.ino;
        let directory = raw::DT_DIR as u8;
        for (at, name) in [(0, &b"."[..]), (1, b"..")] {
            if position <= at && !emit(DirEntry { ino: own, next: at + 1, kind: directory, name }) {
                return Ok(());
            }
        }
        let entries: Vec<_> = {
            let queues = self.0.queues.lock();
            let entry = |(cookie, name, queue): (u64, &Arc<[u8]>, &Arc<Queue>)| {
                (cookie, name.clone(), queue.birth.ino)
            };
            queues.from(position).map(entry).collect()
        };
        for (cookie, name, ino) in entries {
            if !emit(DirEntry { ino, next: cookie + 1, kind: raw::DT_REG as u8, name: &name }) {
                break;
            }
        }
        Ok(())
    }

    fn attributes(&self) -> Result<Attributes> {
        self.0.attributes()
    }
}
