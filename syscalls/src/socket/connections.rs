//! Making, naming and connecting sockets.

use super::{address, flags, socket};
use crate::args::Args;
use crate::file::events::install_pair;
use crate::file::{Walk, descriptor_limit};
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use boundary::sysctl::SOMAXCONN;
use kernel::boot;
use linux_raw_sys::{general as raw, net};
use netstack::socket::{Shutdown, create, create_pair, open};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_socket, "socket", sys_socket, &[flags::FAMILY, flags::KIND, Show::Int]),
    full(
        raw::__NR_socketpair,
        "socketpair",
        sys_socketpair,
        &[flags::FAMILY, flags::KIND, Show::Int, Show::Address],
    ),
    full(raw::__NR_bind, "bind", sys_bind, &[Show::Fd, Show::Address, Show::Int]),
    full(raw::__NR_connect, "connect", sys_connect, &[Show::Fd, Show::Address, Show::Int]),
    full(raw::__NR_listen, "listen", sys_listen, &[Show::Fd, Show::Int]),
    full(raw::__NR_accept, "accept", sys_accept, &[Show::Fd, Show::Address, Show::Address]),
    full(raw::__NR_accept4, "accept4", sys_accept4, &[Show::Fd, Show::Address, Show::Address, flags::ACCEPT]),
    full(raw::__NR_getsockname, "getsockname", sys_getsockname, &[Show::Fd, Show::Address, Show::Address]),
    full(raw::__NR_getpeername, "getpeername", sys_getpeername, &[Show::Fd, Show::Address, Show::Address]),
    full(raw::__NR_shutdown, "shutdown", sys_shutdown, &[Show::Fd, flags::HOW]),
];

/// `SOCK_CLOEXEC` and `SOCK_NONBLOCK`, which are `O_*` bits.
const FLAGS: u32 = raw::O_CLOEXEC | raw::O_NONBLOCK;
/// The bits of a socket's type.
const KIND: u32 = 0xf;

fn kind_and_flags(kind: u32) -> Result<(u32, u32)> {
    if kind & !(KIND | FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((kind & KIND, kind & FLAGS))
}

fn sys_socket(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (kind, flags) = kind_and_flags(args.u32(1))?;
    let file = open(create(args.u32(0), kind, args.u32(2))?, flags);
    let fd = context.files().insert(file, flags & raw::O_CLOEXEC != 0, descriptor_limit(context))?;
    Ok(fd as u64)
}

fn sys_socketpair(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (kind, flags) = kind_and_flags(args.u32(1))?;
    let (first, second) = create_pair(args.u32(0), kind, args.u32(2))?;
    let files = (open(first, flags), open(second, flags));
    install_pair(context, files, flags, args.u64(3))
}

fn sys_bind(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    let address = address::read(args.u64(1), args.i32(2))?;
    let walk = Walk::new(context);
    socket.bind(&address, &walk.lookup()).map(|()| 0)
}

fn sys_connect(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, file) = socket(context, args.i32(0))?;
    let address = address::read(args.u64(1), args.i32(2))?;
    let walk = Walk::new(context);
    socket.connect(&address, &walk.lookup(), file.nonblocking()).map(|()| 0)
}

fn sys_listen(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    // As unsigned: a negative backlog is the longest.
    let most = boot::sysctl_number(&SOMAXCONN, 0);
    socket.listen(u64::from(args.u32(1)).min(most) as usize).map(|()| 0)
}

fn sys_accept(context: &mut Context<'_>, args: Args) -> Result<u64> {
    accept(context, args, 0)
}

fn sys_accept4(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    if flags & !FLAGS != 0 { Err(Errno::EINVAL) } else { accept(context, args, flags) }
}

fn accept(context: &mut Context<'_>, args: Args, flags: u32) -> Result<u64> {
    let (socket, file) = socket(context, args.i32(0))?;
    let accepted = socket.accept(file.nonblocking())?;
    let peer = accepted.peer_name();
    let file = open(accepted, flags);
    if args.u64(1) != 0 {
        // A unix peer that has gone has no name any more.
        address::write(&peer.map_err(|_| Errno::ECONNABORTED)?, args.u64(1), args.u64(2))?;
    }
    let fd = context.files().insert(file, flags & raw::O_CLOEXEC != 0, descriptor_limit(context))?;
    Ok(fd as u64)
}

fn sys_getsockname(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    address::write(&socket.name()?, args.u64(1), args.u64(2)).map(|()| 0)
}

fn sys_getpeername(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    address::write(&socket.peer_name()?, args.u64(1), args.u64(2)).map(|()| 0)
}

fn sys_shutdown(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    let how = match args.u32(1) {
        net::SHUT_RD => Shutdown::RECEIVE,
        net::SHUT_WR => Shutdown::SEND,
        net::SHUT_RDWR => Shutdown::all(),
        _ => return Err(Errno::EINVAL),
    };
    socket.shutdown(how).map(|()| 0)
}
