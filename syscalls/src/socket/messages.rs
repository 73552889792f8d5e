//! sendmsg(2), recvmsg(2) and the calls for several messages at once.

use super::{control, flags, socket};
use crate::args::Args;
use crate::file::Walk;
use crate::table::{Context, Row, Show, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::mem::offset_of;
use kernel::time;
use kernel::uaccess::{self, Sink, Source};
use linux_raw_sys::{general as raw, net};
use netstack::address::{Address, LENGTH_MAX};
use netstack::message::{Destination, Incoming, Outgoing};
use netstack::socket::Socket;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_sendmsg,
        "sendmsg",
        sys_sendmsg,
        &[Show::Fd, Show::Address, flags::MESSAGE],
        super::NOT_SENT,
    ),
    partial(
        raw::__NR_recvmsg,
        "recvmsg",
        sys_recvmsg,
        &[Show::Fd, Show::Address, flags::MESSAGE],
        super::NOT_RECEIVED,
    ),
    partial(
        raw::__NR_sendmmsg,
        "sendmmsg",
        sys_sendmmsg,
        &[Show::Fd, Show::Address, Show::Unsigned, flags::MESSAGE],
        super::NOT_SENT,
    ),
    partial(
        raw::__NR_recvmmsg,
        "recvmmsg",
        sys_recvmmsg,
        &[Show::Fd, Show::Address, Show::Unsigned, flags::MESSAGE, Show::Timespec],
        super::NOT_RECEIVED,
    ),
];

/// Messages of one call, and buffers of one message, at most (`UIO_MAXIOV`).
const VECTOR_MAX: u32 = 1024;
/// Do not wait after the first message (`MSG_WAITFORONE`).
const WAIT_FOR_ONE: u32 = 0x10000;

/// A `struct msghdr`, checked.
struct Header {
    at: u64,
    raw: net::msghdr,
    name_length: usize,
}

impl Header {
    fn read(at: u64) -> Result<Header> {
        let raw: net::msghdr = uaccess::read(at)?;
        // A null name has no length, whatever is written there.
        let length = if raw.msg_name.is_null() { 0 } else { raw.msg_namelen };
        let name_length = usize::try_from(length).map_err(|_| Errno::EINVAL)?.min(LENGTH_MAX);
        if raw.msg_iovlen > VECTOR_MAX as usize {
            return Err(Errno::EMSGSIZE);
        }
        Ok(Header { at, raw, name_length })
    }
}

fn send(
    context: &Context<'_>,
    socket: &Arc<dyn Socket>,
    nonblocking: bool,
    at: u64,
    flags: u32,
) -> Result<usize> {
    let header = Header::read(at)?;
    let address = uaccess::read_bytes(header.raw.msg_name as u64, header.name_length)?;
    let spans = uaccess::read_iovec(header.raw.msg_iov as u64, header.raw.msg_iovlen as u64)?;
    let attached = match header.raw.msg_controllen {
        0 => Default::default(),
        length => control::read(context, &**socket, header.raw.msg_control as u64, length)?,
    };
    let walk = Walk::new(context);
    let lookup = walk.lookup();
    let to = (!address.is_empty()).then_some(Destination { address: &address, lookup: &lookup });
    let nonblocking = nonblocking || flags & net::MSG_DONTWAIT != 0;
    let mut source = Source::user(&spans);
    socket.send(&mut Outgoing { source: &mut source, flags, nonblocking, to, attached })
}

fn receive(
    context: &Context<'_>,
    socket: &Arc<dyn Socket>,
    nonblocking: bool,
    at: u64,
    flags: u32,
) -> Result<usize> {
    let header = Header::read(at)?;
    let spans = uaccess::read_iovec(header.raw.msg_iov as u64, header.raw.msg_iovlen as u64)?;
    let nonblocking = nonblocking || flags & net::MSG_DONTWAIT != 0;
    let mut sink = Sink::user(&spans);
    let mut message = Incoming::new(&mut sink, flags, nonblocking);
    message.wants_name = !header.raw.msg_name.is_null();
    let count = super::receive(&**socket, &mut message)?;
    let (mut report, from) = (message.report, message.from);
    report |= flags & net::MSG_CMSG_CLOEXEC;
    let mut room = control::Room::new(header.raw.msg_control as u64, header.raw.msg_controllen);
    room.put_all(context, &**socket, message, flags & net::MSG_CMSG_CLOEXEC != 0);
    if !header.raw.msg_name.is_null() {
        let from = from.unwrap_or(Address::none());
        let bytes = from.bytes();
        uaccess::write_bytes(header.raw.msg_name as u64, bytes.get(..header.name_length).unwrap_or(bytes))?;
        uaccess::write(header.at + offset_of!(net::msghdr, msg_namelen) as u64, &(bytes.len() as i32))?;
    }
    report |= room.report();
    uaccess::write(header.at + offset_of!(net::msghdr, msg_flags) as u64, &report)?;
    uaccess::write(header.at + offset_of!(net::msghdr, msg_controllen) as u64, &room.used())?;
    Ok(count)
}

fn sys_sendmsg(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, file) = socket(context, args.i32(0))?;
    send(context, &socket, file.nonblocking(), args.u64(1), args.u32(2)).map(|count| count as u64)
}

fn sys_recvmsg(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, file) = socket(context, args.i32(0))?;
    receive(context, &socket, file.nonblocking(), args.u64(1), args.u32(2)).map(|count| count as u64)
}

/// Address of message `index` of a vector of `struct mmsghdr`.
fn message_at(vector: u64, index: u32) -> Result<u64> {
    let offset = u64::from(index) * size_of::<net::mmsghdr>() as u64;
    vector.checked_add(offset).ok_or(Errno::EFAULT)
}

/// Notes how long message `index` was.
fn write_length(at: u64, count: usize) -> Result<()> {
    uaccess::write(at + offset_of!(net::mmsghdr, msg_len) as u64, &(count as u32))
}

fn sys_sendmmsg(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, file) = socket(context, args.i32(0))?;
    let mut sent = 0;
    let outcome = (0..args.u32(2).min(VECTOR_MAX)).try_for_each(|index| {
        let at = message_at(args.u64(1), index)?;
        let count = send(context, &socket, file.nonblocking(), at, args.u32(3))?;
        write_length(at, count)?;
        sent += 1;
        Ok(())
    });
    // What went before an error counts.
    if sent > 0 { Ok(sent) } else { outcome.map(|()| 0) }
}

fn sys_recvmmsg(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(4))?;
    let end = match &timeout {
        Some(timeout) => Some(time::monotonic().saturating_add(time::from_timespec(timeout)?)),
        None => None,
    };
    let (socket, file) = socket(context, args.i32(0))?;
    socket.gather_error();
    if let Some(error) = socket.common().take_error() {
        return Err(error);
    }
    let mut flags = args.u32(3);
    let mut received = 0;
    let mut outcome = Ok(());
    // The time is looked at after each message only (recvmmsg(2), BUGS).
    while received < u64::from(args.u32(2).min(VECTOR_MAX)) {
        outcome = message_at(args.u64(1), received as u32).and_then(|at| {
            let count = receive(context, &socket, file.nonblocking(), at, flags & !WAIT_FOR_ONE)?;
            write_length(at, count)
        });
        if outcome.is_err() {
            break;
        }
        received += 1;
        if flags & WAIT_FOR_ONE != 0 {
            flags |= net::MSG_DONTWAIT;
        }
        if end.is_some_and(|end| time::monotonic() >= end) {
            break;
        }
    }
    if let Some(end) = end {
        uaccess::write(args.u64(4), &time::timespec(end.saturating_sub(time::monotonic())))?;
    }
    match outcome {
        Err(error) if received == 0 => Err(error),
        // The next call gets it.
        Err(error) if error != Errno::EAGAIN && error.0 < Errno::ERESTARTSYS.0 => {
            socket.common().set_error(error);
            Ok(received)
        }
        _ => Ok(received),
    }
}
