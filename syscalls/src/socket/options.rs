//! getsockopt(2) and setsockopt(2).

use super::{control, flags, socket};
use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::{general as raw, net};
use netstack::options;
use netstack::socket::Socket;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_getsockopt,
        "getsockopt",
        sys_getsockopt,
        &[Show::Fd, flags::LEVEL, Show::Int, Show::Address, Show::Address],
    ),
    full(
        raw::__NR_setsockopt,
        "setsockopt",
        sys_setsockopt,
        &[Show::Fd, flags::LEVEL, Show::Int, Show::Address, Show::Int],
    ),
];

/// Bytes of an option's value that are looked at.
const VALUE_MAX: usize = 4096;

fn sys_getsockopt(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    let (level, name) = (args.u32(1), args.u32(2));
    let room: i32 = uaccess::read(args.u64(4))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let value = match (level, name) {
        (net::SOL_SOCKET, net::SO_PEERPIDFD) => {
            let peer = options::get(&*socket, net::SO_PEERPIDFD)?.bytes();
            control::peer_pidfd(context, &peer)?.to_ne_bytes().to_vec()
        }
        (net::SOL_SOCKET, _) => options::get(&*socket, name)?.bytes(),
        _ => unknown_option(socket.option(level, name).map(|value| value.bytes()), level, name)?,
    };
    if level == net::SOL_SOCKET && name == net::SO_PEERNAME && room < value.len() {
        return Err(Errno::EINVAL);
    }
    let value = value.get(..room).unwrap_or(&value);
    uaccess::write_bytes(args.u64(3), value)?;
    uaccess::write(args.u64(4), &(value.len() as i32))?;
    Ok(0)
}

fn sys_setsockopt(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (socket, _file) = socket(context, args.i32(0))?;
    let (level, name) = (args.u32(1), args.u32(2));
    let length = usize::try_from(args.i32(4)).map_err(|_| Errno::EINVAL)?;
    let value = uaccess::read_bytes(args.u64(3), length.min(VALUE_MAX))?;
    set(&*socket, level, name, &value).map(|()| 0)
}

fn set(socket: &dyn Socket, level: u32, name: u32, value: &[u8]) -> Result<()> {
    if level == net::SOL_SOCKET {
        options::set(socket, name, value)?;
    } else {
        unknown_option(socket.set_option(level, name, value), level, name)?;
    }
    socket.option_was_set(level, name, value);
    Ok(())
}

fn unknown_option<T>(outcome: Result<T>, level: u32, name: u32) -> Result<T> {
    outcome.inspect_err(|error| {
        if *error == Errno::ENOPROTOOPT {
            kernel::warn!("socket option {name} of level {level} is not implemented: ENOPROTOOPT");
        }
    })
}
