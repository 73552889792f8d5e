//! capget(2), capset(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use kernel::uaccess;
use linux_raw_sys::general as raw;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_capget, "capget", sys_capget, &[Show::Address, Show::Address]),
    full(raw::__NR_capset, "capset", sys_capset, &[Show::Address, Show::Address]),
];

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// Reads the header: number of 32-bit words a set, and the process. An unknown version is answered with the newest.
fn header(address: u64) -> Result<(usize, i32)> {
    let [version, pid]: [u32; 2] = uaccess::read(address)?;
    match version {
        VERSION_1 => Ok((1, pid as i32)),
        VERSION_2 | VERSION_3 => Ok((2, pid as i32)),
        _ => {
            uaccess::write(address, &VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

fn sys_capget(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (words, pid) = match header(args.u64(0)) {
        Err(Errno::EINVAL) if args.u64(1) == 0 => return Ok(0),
        other => other?,
    };
    let cred = match pid {
        0 => context.cred().clone(),
        pid if pid < 0 => return Err(Errno::EINVAL),
        pid => crate::thread::task(context.named(pid)?)?.cred(),
    };
    if args.u64(1) == 0 {
        return Ok(0);
    }
    for word in 0..words {
        let part = |set: u64| (set >> (word * 32)) as u32;
        let data = [part(cred.effective), part(cred.permitted), part(cred.inheritable)];
        uaccess::write(args.u64(1).wrapping_add(word as u64 * 12), &data)?;
    }
    Ok(0)
}

fn sys_capset(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (words, pid) = header(args.u64(0))?;
    let task = &context.thread.task;
    if pid != 0 && pid != task.own_tid() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        let data: [u32; 3] = uaccess::read(args.u64(1).wrapping_add(word as u64 * 12))?;
        for (set, part) in sets.iter_mut().zip(data) {
            *set |= u64::from(part) << (word * 32);
        }
    }
    let [effective, permitted, inheritable] = sets;
    let old = context.cred();
    if permitted & !old.permitted != 0
        || effective & !permitted != 0
        || inheritable & !(old.inheritable | old.permitted) != 0
    {
        return Err(Errno::EPERM);
    }
    let mut new = (**old).clone();
    (new.effective, new.permitted, new.inheritable) = (effective, permitted, inheritable);
    new.ambient &= permitted & inheritable;
    context.set_cred(new);
    Ok(0)
}
