//! POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2).

use crate::args::Args;
use crate::file::{self, file};
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::{signal, time, uaccess};
use linux_raw_sys::general as raw;
use netstack::netlink;
use vfs::file::OpenFile;
use vfs::mqueue::{self, COOKIE, Message, Notice, OpenQueue, PRIORITIES, Queue};
use vfs::table::UsedFile;

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_mq_open, "mq_open", sys_mq_open, &[Show::Path, Show::OpenFlags, Show::Octal, A]),
    full(raw::__NR_mq_unlink, "mq_unlink", sys_mq_unlink, &[Show::Path]),
    full(
        raw::__NR_mq_timedsend,
        "mq_timedsend",
        sys_mq_timedsend,
        &[Show::Fd, Show::BytesIn, Show::Unsigned, Show::Unsigned, Show::Timespec],
    ),
    full(
        raw::__NR_mq_timedreceive,
        "mq_timedreceive",
        sys_mq_timedreceive,
        &[Show::Fd, Show::BytesOut, Show::Unsigned, A, Show::Timespec],
    ),
    partial(
        raw::__NR_mq_notify,
        "mq_notify",
        sys_mq_notify,
        &[Show::Fd, A],
        "SIGEV_THREAD, which needs a netlink socket",
    ),
    full(raw::__NR_mq_getsetattr, "mq_getsetattr", sys_mq_getsetattr, &[Show::Fd, A, A]),
];

/// `struct mq_attr`: flags, messages at most, bytes of a message at most, messages now, and four that are not used.
type Attributes = [i64; 8];

fn sys_mq_open(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(1);
    let given: Option<Attributes> = uaccess::read_optional(args.u64(3))?;
    let capacity = given.map(|[_, messages, size, ..]| (messages, size));
    let name = args.path(0)?;
    let mode = args.u32(2) & 0o7777 & !context.thread.fs().umask();
    let fs = mqueue::filesystem()?;
    let open = fs.open(&name, flags, mode, capacity)?;
    let file = OpenFile::new(open, None, flags);
    let limit = file::descriptor_limit(context);
    context.files().insert(file, true, limit).map(|fd| fd as u64)
}

fn sys_mq_unlink(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    mqueue::filesystem()?.unlink_queue(&args.path(0)?).map(|()| 0)
}

/// The open file of a descriptor, and the queue it is: `EBADF`.
fn queue<'a>(context: &'a Context<'_>, fd: i32) -> Result<(UsedFile<'a>, Arc<Queue>)> {
    let file = file::file(context, fd)?;
    let queue = file.ops.as_any().downcast_ref::<OpenQueue>().ok_or(Errno::EBADF)?.0.clone();
    Ok((file, queue))
}

/// An absolute time of `CLOCK_REALTIME` as a deadline: `EFAULT`, `EINVAL`.
fn deadline(address: u64) -> Result<Option<u64>> {
    let Some(until) = uaccess::read_optional::<raw::timespec>(address)? else { return Ok(None) };
    let left = time::from_timespec(&until)?.saturating_sub(time::realtime());
    Ok(Some(time::monotonic().saturating_add(left)))
}

fn sys_mq_timedsend(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (length, priority) = (args.u64(2), args.u32(3));
    let deadline = deadline(args.u64(4))?;
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = queue(context, args.i32(0))?;
    if !file.writable() {
        return Err(Errno::EBADF);
    }
    if length > queue.message_size {
        return Err(Errno::EMSGSIZE);
    }
    let text = uaccess::read_bytes(args.u64(1), length as usize)?;
    queue.send(Message::new(priority, text)?, file.nonblocking(), deadline).map(|()| 0)
}

fn sys_mq_timedreceive(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let deadline = deadline(args.u64(4))?;
    let (file, queue) = queue(context, args.i32(0))?;
    if !file.readable() {
        return Err(Errno::EBADF);
    }
    if args.u64(2) < queue.message_size {
        return Err(Errno::EMSGSIZE);
    }
    let message = queue.receive(file.nonblocking(), deadline)?;
    uaccess::write_optional(args.u64(3), &message.priority)?;
    uaccess::write_bytes(args.u64(1), &message.text)?;
    Ok(message.text.len() as u64)
}

fn sys_mq_notify(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SIGEV_SIGNAL: u32 = 0;
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD: u32 = 2;
    // The first half of a struct sigevent: value, signal, how.
    let notice = match uaccess::read_optional::<[u64; 2]>(args.u64(1))? {
        None => None,
        Some([value, word]) => {
            let number = word as i32;
            Some(match (word >> 32) as u32 {
                SIGEV_NONE => Notice::Silent,
                SIGEV_SIGNAL if (0..=signal::COUNT).contains(&number) => Notice::Signal(number, value),
                SIGEV_THREAD => {
                    let cookie: [u8; COOKIE] = uaccess::read(value)?;
                    Notice::Socket(netlink::of(&*file(context, number)?)?, cookie)
                }
                _ => return Err(Errno::EINVAL),
            })
        }
    };
    let (_, queue) = queue(context, args.i32(0))?;
    let pid = context.thread.task.group.tgid;
    match notice {
        Some(notice) => queue.register(pid, notice)?,
        None => queue.unregister(pid),
    }
    Ok(0)
}

fn sys_mq_getsetattr(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let new: Option<Attributes> = uaccess::read_optional(args.u64(1))?;
    let wanted = new.map(|[flags, ..]| flags);
    if wanted.is_some_and(|flags| flags & !i64::from(raw::O_NONBLOCK) != 0) {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = queue(context, args.i32(0))?;
    let flags = i64::from(file.flags() & raw::O_NONBLOCK);
    let old = [flags, queue.capacity as i64, queue.message_size as i64, queue.usage().0 as i64, 0, 0, 0, 0];
    if let Some(wanted) = wanted {
        file.set_flags(file.flags() & !raw::O_NONBLOCK | wanted as u32);
    }
    uaccess::write_optional(args.u64(2), &old).map(|()| 0)
}
