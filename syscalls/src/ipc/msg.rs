//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::{GET, command, structures};
use crate::args::Args;
use crate::strace::flags::Names;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::cred::cap;
use kernel::ipc::msg::{self, Message, Queue};
use kernel::ipc::{Object, seconds};
use kernel::uaccess;
use linux_raw_sys::general as raw;

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_msgget, "msgget", sys_msgget, &[Show::Int, Show::Flags(GET)]),
    full(raw::__NR_msgsnd, "msgsnd", sys_msgsnd, &[Show::Int, A, Show::Unsigned, Show::Flags(TRANSFER)]),
    full(
        raw::__NR_msgrcv,
        "msgrcv",
        sys_msgrcv,
        &[Show::Int, A, Show::Unsigned, Show::Int, Show::Flags(TRANSFER)],
    ),
    full(raw::__NR_msgctl, "msgctl", sys_msgctl, &[Show::Int, Show::OneOf(CONTROL), A]),
];

const TRANSFER: Names = &[
    (0o4000, "IPC_NOWAIT"),
    (msg::flag::NOERROR as u64, "MSG_NOERROR"),
    (msg::flag::EXCEPT as u64, "MSG_EXCEPT"),
    (msg::flag::COPY as u64, "MSG_COPY"),
];
const CONTROL: Names = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "MSG_STAT"),
    (12, "MSG_INFO"),
    (13, "MSG_STAT_ANY"),
];

fn sys_msgget(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    msg::get(args.i32(0), args.u32(1)).map(|id| id as u64)
}

fn sys_msgsnd(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, address) = (args.i32(0), args.u64(1));
    let kind: i64 = uaccess::read(address)?;
    let length = Some(args.u64(2)).filter(|&length| length <= msg::size_max());
    let length = length.filter(|_| id >= 0 && kind >= 1).ok_or(Errno::EINVAL)? as usize;
    let text = uaccess::read_bytes(address.wrapping_add(size_of::<i64>() as u64), length)?;
    msg::send(id, Message::new(kind, text)?, args.u32(3)).map(|()| 0)
}

fn sys_msgrcv(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, address) = (args.i32(0), args.u64(1));
    let room = args.i64(2);
    if id < 0 || room < 0 {
        return Err(Errno::EINVAL);
    }
    let room = room as usize;
    let message = msg::receive(id, room, args.i64(3), args.u32(4))?;
    let text = message.text.get(..room.min(message.text.len())).unwrap_or(&[]);
    uaccess::write(address, &message.kind)?;
    uaccess::write_bytes(address.wrapping_add(size_of::<i64>() as u64), text)?;
    Ok(text.len() as u64)
}

fn sys_msgctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, what, address) = (args.i32(0), args.u32(1), args.u64(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = context.cred();
    let queues = msg::queues()?;
    match what {
        command::IPC_INFO | command::MSG_INFO => write_limits(what, address),
        command::IPC_STAT | command::MSG_STAT | command::MSG_STAT_ANY => {
            let by_place = what != command::IPC_STAT;
            let queue = if by_place { queues.at(id)? } else { queues.find(id)? };
            if what != command::MSG_STAT_ANY {
                queue.perm().check(cred, 0o444)?;
            }
            write_status(&queue, address)?;
            Ok(if by_place { queue.id() as u64 } else { 0 })
        }
        command::IPC_SET => {
            /// Place of `msg_qbytes` in the structure.
            const QUEUE_BYTES: u64 = 88;
            let (uid, gid, bits) = structures::read_perm(address)?;
            let bytes: u64 = uaccess::read(address.wrapping_add(QUEUE_BYTES))?;
            let queue = queues.find(id)?;
            let mut state = queue.lock()?;
            state.perm.check_owner(cred)?;
            if bytes > msg::queue_bytes() && !cred.has(cap::SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            state.perm.set(uid, gid, bits);
            state.qbytes = bytes;
            state.ctime = seconds();
            drop(state);
            queue.changed();
            Ok(0)
        }
        command::IPC_RMID => queues.find(id)?.remove().map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// `struct msginfo`.
fn write_limits(what: u32, address: u64) -> Result<u64> {
    /// Values that Linux tells and does not use (`linux/msg.h`): the pool in KiB, segment size, segments.
    const SEGMENT_SIZE: i32 = 16;
    const SEGMENTS: i32 = 0xffff;
    let queues = msg::queues()?;
    let (used, highest) = queues.usage();
    let bytes = msg::queue_bytes() as i32;
    let all = queues.max() as i32;
    let (pool, map, tql) = if what == command::MSG_INFO {
        let states: (usize, u64) = queues.all().iter().fold((0, 0), |(count, bytes), queue| {
            queue.lock().map_or((count, bytes), |state| (count + state.count(), bytes + state.cbytes))
        });
        (used as i32, states.0 as i32, states.1 as i32)
    } else {
        (all.wrapping_mul(bytes) / 1024, bytes, bytes)
    };
    // msgpool, msgmap, msgmax, msgmnb, msgmni, msgssz, msgtql, msgseg.
    let mut info = [0u8; 32];
    let words = [pool, map, msg::size_max() as i32, bytes, all, SEGMENT_SIZE, tql, SEGMENTS];
    for (slot, word) in info.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_ne_bytes());
    }
    uaccess::write(address, &info)?;
    Ok(highest as u64)
}

/// `struct msqid64_ds`.
fn write_status(queue: &Arc<Queue>, address: u64) -> Result<()> {
    let own = kernel::task::current().group.space;
    let state = queue.lock()?;
    let perm = structures::perm_words(&state.perm, queue.id());
    let rest = [
        state.stime as u64,
        state.rtime as u64,
        state.ctime as u64,
        state.cbytes,
        state.count() as u64,
        state.qbytes,
        structures::pids(own.shown(state.lspid), own.shown(state.lrpid)),
        0,
        0,
    ];
    drop(state);
    structures::write(address, perm, rest)
}
