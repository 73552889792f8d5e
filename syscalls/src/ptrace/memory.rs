//! Memory of other processes: peeks and pokes, process_vm_readv(2), and what `/proc/PID/mem` rests on.

use super::{Access, Request, may_access};
use crate::args::Args;
use crate::table::Context;
use crate::thread::{self, Memory, Thread};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use kernel::mm::Reach;
use kernel::sync::Mutex;
use kernel::task::calls::{self, Call};
use kernel::uaccess::{self, MAX_TRANSFER, Sink, Source, Span};
use linux_raw_sys::general as raw;

/// Bytes that one request moves at most: they lie in the kernel heap meanwhile.
pub const MAX_REQUEST: usize = 256 << 10;

/// A copy that a thread of the other process makes.
struct Copy {
    address: u64,
    write: bool,
    reach: Reach,
    /// The bytes, and how many of them were copied. Taken out while they are.
    bytes: Mutex<(Vec<u8>, usize)>,
}

impl Copy {
    fn perform(&self, memory: &Memory) {
        let (mut bytes, _) = core::mem::take(&mut *self.bytes.lock());
        let done = if self.write {
            memory.space.write_for_other(self.address, &bytes, self.reach)
        } else {
            memory.space.read_for_other(self.address, &mut bytes, self.reach)
        };
        *self.bytes.lock() = (bytes, done);
    }
}

impl Call for Copy {
    fn run(&self) {
        self.perform(&thread::current().memory());
    }
}

/// Has the copy made; the bytes and how many were copied. `ESRCH` if the other process ends first.
fn perform(target: &Thread, copy: Copy) -> Result<(Vec<u8>, usize)> {
    let own = thread::current().memory();
    let copy = Arc::new(copy);
    if Arc::ptr_eq(&own, &target.memory()) {
        copy.perform(&own);
    } else {
        calls::ask(&target.task.group, Some(&target.task), copy.clone())?;
    }
    let outcome = core::mem::take(&mut *copy.bytes.lock());
    Ok(outcome)
}

/// Reads at most `length` bytes of another process, as far as that goes; at most [`MAX_REQUEST`].
pub fn read(target: &Thread, address: u64, length: usize, reach: Reach) -> Result<Vec<u8>> {
    let bytes = Mutex::new((vec![0; length.min(MAX_REQUEST)], 0));
    let (mut bytes, done) = perform(target, Copy { address, write: false, reach, bytes })?;
    bytes.truncate(done);
    Ok(bytes)
}

/// Writes to another process as far as that goes; bytes written.
pub fn write(target: &Thread, address: u64, bytes: Vec<u8>, reach: Reach) -> Result<usize> {
    let bytes = Mutex::new((bytes, 0));
    perform(target, Copy { address, write: true, reach, bytes }).map(|(_, done)| done)
}

fn thread_of(request: &Request<'_>) -> Result<Arc<Thread>> {
    thread::find(request.tracee.tid()).ok_or(Errno::ESRCH)
}

/// `PTRACE_PEEKTEXT`, `PTRACE_PEEKDATA`.
pub(super) fn peek(request: &Request<'_>) -> Result<u64> {
    let bytes = read(&*thread_of(request)?, request.address, 8, Reach::Forced)?;
    let word: [u8; 8] = bytes.as_slice().try_into().map_err(|_| Errno::EIO)?;
    uaccess::write(request.data, &word)?;
    Ok(0)
}

/// `PTRACE_POKETEXT`, `PTRACE_POKEDATA`.
pub(super) fn poke(request: &Request<'_>) -> Result<u64> {
    let bytes = request.data.to_le_bytes().to_vec();
    let done = write(&*thread_of(request)?, request.address, bytes, Reach::Forced)?;
    if done == 8 { Ok(0) } else { Err(Errno::EIO) }
}

/// process_vm_readv(2).
pub fn sys_process_vm_readv(context: &mut Context<'_>, args: Args) -> Result<u64> {
    transfer(context, args, false)
}

/// process_vm_writev(2).
pub fn sys_process_vm_writev(context: &mut Context<'_>, args: Args) -> Result<u64> {
    transfer(context, args, true)
}

/// The other process's ranges: nothing is checked but that lengths are positive.
fn remote_ranges(address: u64, count: u64) -> Result<Vec<(u64, u64)>> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let entries = uaccess::read_array::<raw::iovec>(address, count as usize)?;
    if entries.iter().any(|entry| (entry.iov_len as i64) < 0) {
        return Err(Errno::EINVAL);
    }
    Ok(entries.iter().map(|entry| (entry.iov_base as u64, entry.iov_len)).collect())
}

fn transfer(context: &Context<'_>, args: Args, write: bool) -> Result<u64> {
    if args.u64(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let local = uaccess::read_iovec(args.u64(1), args.u64(2))?;
    if local.iter().all(|span| span.length == 0) {
        return Ok(0);
    }
    let remote = remote_ranges(args.u64(3), args.u64(4))?;
    if remote.iter().all(|range| range.1 == 0) {
        return Ok(0);
    }
    let target = thread::find(context.named(args.i32(0))?).ok_or(Errno::ESRCH)?;
    may_access(&context.thread.task, &target.task, Access::Real)?;
    let done = if write { write_all(&target, &local, &remote) } else { read_all(&target, &local, &remote) };
    match done {
        (0, Some(errno)) => Err(errno),
        (done, _) => Ok(done as u64),
    }
}

/// Parts of the ranges that one request can move.
fn parts(remote: &[(u64, u64)]) -> impl Iterator<Item = (u64, usize)> {
    remote.iter().flat_map(|&(start, length)| {
        (0..length.min(MAX_TRANSFER))
            .step_by(MAX_REQUEST)
            .map(move |done| (start.wrapping_add(done), (length - done).min(MAX_REQUEST as u64) as usize))
    })
}

fn read_all(target: &Thread, local: &[Span], remote: &[(u64, u64)]) -> (usize, Option<Errno>) {
    let mut sink = Sink::user(local);
    for (address, length) in parts(remote) {
        let wanted = length.min(sink.left());
        if wanted == 0 {
            break;
        }
        let bytes = match read(target, address, wanted, Reach::Permitted) {
            Ok(bytes) => bytes,
            Err(errno) => return (sink.done(), Some(errno)),
        };
        let put = sink.put(&bytes).unwrap_or(0);
        if put < wanted {
            return (sink.done(), Some(Errno::EFAULT));
        }
    }
    (sink.done(), None)
}

fn write_all(target: &Thread, local: &[Span], remote: &[(u64, u64)]) -> (usize, Option<Errno>) {
    let mut source = Source::user(local);
    let mut done = 0;
    for (address, length) in parts(remote) {
        let wanted = length.min(source.left());
        if wanted == 0 {
            break;
        }
        let mut bytes = vec![0; wanted];
        let taken = source.take(&mut bytes).unwrap_or(0);
        bytes.truncate(taken);
        match write(target, address, bytes, Reach::Permitted) {
            Ok(written) => done += written,
            Err(errno) => return (done, Some(errno)),
        }
        if done < source.done() || taken < wanted {
            return (done, Some(Errno::EFAULT));
        }
    }
    (done, None)
}
