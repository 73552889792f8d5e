//! uname(2), sysinfo(2), getrandom(2), getcpu(2), sethostname(2).

use crate::args::Args;
use crate::table::{Context, Row, Show, full, refused};
use crate::{Errno, Result};
use kernel::task::lock_table;
use kernel::uaccess::{self, MAX_TRANSFER};
use kernel::{boot, frames, heap};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_uname, "uname", sys_uname, &[Show::Address]),
    full(raw::__NR_sysinfo, "sysinfo", sys_sysinfo, &[Show::Address]),
    full(raw::__NR_getrandom, "getrandom", sys_getrandom, &[Show::BytesOut, Show::Unsigned, Show::Unsigned]),
    full(raw::__NR_getcpu, "getcpu", sys_getcpu, &[Show::Address, Show::Address, Show::Address]),
    refused(
        raw::__NR_sethostname,
        "sethostname",
        |_, _| Err(Errno::EPERM),
        &[Show::Path, Show::Unsigned],
        "the name is given with --hostname",
    ),
    refused(
        raw::__NR_setdomainname,
        "setdomainname",
        |_, _| Err(Errno::EPERM),
        &[Show::Path, Show::Unsigned],
        "there is none",
    ),
];

fn sys_uname(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    const FIELD: usize = 65;
    let config = boot::config().ok_or(Errno::EIO)?;
    let fields: [&str; 6] =
        ["Linux", &config.hostname, &config.host.release, &config.host.version, "x86_64", "(none)"];
    let mut name = [0u8; FIELD * 6];
    for (slot, field) in name.chunks_exact_mut(FIELD).zip(fields) {
        for (byte, value) in slot.iter_mut().take(FIELD - 1).zip(field.bytes()) {
            *byte = value;
        }
    }
    uaccess::write_bytes(args.u64(0), &name)?;
    Ok(0)
}

fn sys_sysinfo(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let total = boot::config().ok_or(Errno::EIO)?.options.memory_limit;
    let used = frames::usage().0 * 4096 + heap::used();
    let uptime = host::clock_ns(raw::CLOCK_BOOTTIME)? / 1_000_000_000;
    let mut info = [0u64; 14];
    info[0] = uptime;
    info[4] = total;
    info[5] = total.saturating_sub(used);
    info[6] = used;
    info[10] = lock_table()?.len() as u64 & 0xffff;
    info[13] = 1; // mem_unit
    uaccess::write(args.u64(0), &info)?;
    Ok(0)
}

fn sys_getrandom(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(2);
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let length = args.u64(1).min(MAX_TRANSFER);
    let mut done = 0u64;
    let mut bytes = [0u8; 256];
    while done < length {
        let part = (length - done).min(bytes.len() as u64) as usize;
        let room = bytes.get_mut(..part).unwrap_or(&mut []);
        let count = host::getrandom(room, 0)?;
        if uaccess::write_bytes(args.u64(0).wrapping_add(done), room.get(..count).unwrap_or(&[])).is_err() {
            return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
        }
        done += count as u64;
    }
    Ok(done)
}

fn sys_getcpu(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    // Linux keeps the processor's number in TSC_AUX: bits 0 to 11, the node above.
    let mut aux = 0u32;
    // SAFETY: reads two registers.
    unsafe { core::arch::x86_64::__rdtscp(&mut aux) };
    uaccess::write_optional(args.u64(0), &(aux & 0xfff))?;
    uaccess::write_optional(args.u64(1), &(aux >> 12))?;
    Ok(0)
}
