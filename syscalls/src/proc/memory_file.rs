//! `/proc/PID/mem`: a process's memory as a file (proc_pid_mem(5)).

use super::nodes::PROC;
use crate::ptrace::memory::{MAX_REQUEST, read, write};
use crate::ptrace::{Access, may_access};
use crate::thread::{self, Memory, Thread};
use alloc::sync::{Arc, Weak};
use alloc::vec;
use core::any::Any;
use kernel::mm::Reach;
use kernel::task::Pid;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;
use vfs::file::{FileOps, OpenFile};
use vfs::generated::Special;
use vfs::inode::Inode;
use vfs::{Errno, Result};

/// The node of the process of thread `tid`.
pub fn node(place: &[&[u8]], owner: (u32, u32), tid: Pid) -> Arc<dyn Inode> {
    let open = move |_flags| -> Result<Arc<dyn FileOps>> {
        let thread = thread::find(tid).ok_or(Errno::ESRCH)?;
        may_access(&thread::current().task, &thread.task, Access::Filesystem).map_err(|_| Errno::EACCES)?;
        let memory = thread.memory();
        Ok(Arc::new(ProcessMemory { tid, program: memory.program_number(), memory: Arc::downgrade(&memory) }))
    };
    Arc::new(Special { common: PROC.node(place, 0o600, owner), open: alloc::boxed::Box::new(open) })
}

/// An open `mem`: the memory that the process had when it was opened. A new program's is another one.
struct ProcessMemory {
    tid: Pid,
    program: u32,
    memory: Weak<Memory>,
}

impl ProcessMemory {
    /// A thread that still runs in that memory.
    fn thread(&self) -> Option<Arc<Thread>> {
        let memory = self.memory.upgrade()?;
        let thread = thread::find(self.tid)?;
        let same = Arc::ptr_eq(&thread.memory(), &memory) && memory.program_number() == self.program;
        same.then_some(thread)
    }
}

impl FileOps for ProcessMemory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let mut done = 0;
        while sink.left() > 0 {
            let Some(thread) = self.thread() else { break };
            let wanted = sink.left().min(MAX_REQUEST);
            let at = offset.wrapping_add(done as u64);
            // The process may end meanwhile: then there is nothing more.
            let bytes = match read(&thread, at, wanted, Reach::Forced) {
                Err(Errno::ESRCH) => break,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                return if done > 0 { Ok(done) } else { Err(Errno::EIO) };
            }
            let put = sink.put(&bytes)?;
            done += put;
            if put < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let mut done = 0;
        while source.left() > 0 {
            let Some(thread) = self.thread() else { break };
            let mut bytes = vec![0; source.left().min(MAX_REQUEST)];
            let taken = source.take(&mut bytes)?;
            bytes.truncate(taken);
            let written = match write(&thread, offset.wrapping_add(done as u64), bytes, Reach::Forced) {
                Err(Errno::ESRCH) => break,
                written => written?,
            };
            done += written;
            if written == 0 && done == 0 {
                return Err(Errno::EIO);
            }
            if written < taken {
                break;
            }
        }
        Ok(done)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, count as u64))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn waits(&self) -> bool {
        true
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        // Addresses are unsigned: there is no negative position (`mem_lseek`).
        match whence {
            raw::SEEK_SET => Ok(offset as u64),
            raw::SEEK_CUR => Ok(position.wrapping_add_signed(offset)),
            _ => Err(Errno::EINVAL),
        }
    }
}
