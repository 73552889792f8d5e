//! sendto(2) and recvfrom(2).

use super::{address, flags, socket};
use crate::Result;
use crate::args::Args;
use crate::file::Walk;
use crate::file::one_span;
use crate::table::{Context, Row, Show, partial};
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::{general as raw, net};
use netstack::address::Address;
use netstack::message::{Attached, Destination, Incoming, Outgoing};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_sendto,
        "sendto",
        sys_sendto,
        &[Show::Fd, Show::BytesIn, Show::Unsigned, flags::MESSAGE, Show::Address, Show::Int],
        super::NOT_SENT,
    ),
    partial(
        raw::__NR_recvfrom,
        "recvfrom",
        sys_recvfrom,
        &[Show::Fd, Show::BytesOut, Show::Unsigned, flags::MESSAGE, Show::Address, Show::Address],
        super::NOT_RECEIVED,
    ),
];

fn sys_sendto(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let spans = [one_span(args.u64(1), args.u64(2).min(i64::MAX as u64))?];
    let (socket, file) = socket(context, args.i32(0))?;
    let flags = args.u32(3);
    let mut message = Outgoing {
        source: &mut Source::user(&spans),
        flags,
        nonblocking: file.nonblocking() || flags & net::MSG_DONTWAIT != 0,
        to: None,
        attached: Attached::default(),
    };
    if args.u64(4) == 0 {
        return socket.send(&mut message).map(|count| count as u64);
    }
    let address = address::read(args.u64(4), args.i32(5))?;
    let walk = Walk::new(context);
    let lookup = walk.lookup();
    let to = (!address.is_empty()).then_some(Destination { address: &address, lookup: &lookup });
    let mut message = Outgoing { to, ..message };
    socket.send(&mut message).map(|count| count as u64)
}

fn sys_recvfrom(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let spans = [one_span(args.u64(1), args.u64(2).min(i64::MAX as u64))?];
    let (socket, file) = socket(context, args.i32(0))?;
    let flags = args.u32(3);
    let nonblocking = file.nonblocking() || flags & net::MSG_DONTWAIT != 0;
    let mut sink = Sink::user(&spans);
    let mut message = Incoming::new(&mut sink, flags, nonblocking);
    message.wants_name = args.u64(4) != 0;
    let count = super::receive(&*socket, &mut message)?;
    if args.u64(4) != 0 {
        address::write(&message.from.unwrap_or(Address::none()), args.u64(4), args.u64(5))?;
    }
    Ok(count as u64)
}
