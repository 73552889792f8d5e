//! uname(2), sysinfo(2), getrandom(2), getcpu(2), sethostname(2).

use crate::args::Args;
use crate::strace::flags;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::sync::{BootCell, Mutex};
use kernel::task::{self, lock_table};
use kernel::uaccess::{self, MAX_TRANSFER};
use kernel::{boot, frames, heap};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_uname, "uname", sys_uname, &[Show::Address]),
    full(raw::__NR_sysinfo, "sysinfo", sys_sysinfo, &[Show::Address]),
    full(
        raw::__NR_getrandom,
        "getrandom",
        sys_getrandom,
        &[Show::BytesOut, Show::Unsigned, Show::Flags(flags::GETRANDOM)],
    ),
    full(raw::__NR_getcpu, "getcpu", sys_getcpu, &[Show::Address, Show::Address, Show::Address]),
    full(raw::__NR_sethostname, "sethostname", sys_sethostname, &[Show::BytesIn, Show::Unsigned]),
    full(raw::__NR_setdomainname, "setdomainname", sys_setdomainname, &[Show::BytesIn, Show::Unsigned]),
];

/// Host name and domain name of the sandbox.
type Names = Mutex<[Vec<u8>; 2]>;

static NAMES: BootCell<Box<Names>> = BootCell::new();

/// Notes the names. Called once, at boot.
pub fn init(hostname: &str, domainname: &str) {
    NAMES.set(Box::new(Mutex::new([hostname.into(), domainname.into()])));
}

/// One of the names that uname(2) tells and that can be changed.
#[derive(Debug, Clone, Copy)]
pub enum Name {
    /// The host's.
    Host,
    /// The NIS domain's.
    Domain,
}

/// Longest name (`__NEW_UTS_LEN`).
pub const NAME_MAX: usize = 64;

/// What it is now.
pub fn name(which: Name) -> Vec<u8> {
    NAMES.get().and_then(|names| names.lock().get(which as usize).cloned()).unwrap_or_default()
}

/// Changes it to what `change` makes of it, if anything.
pub fn change_name(which: Name, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) {
    if let Some(names) = NAMES.get()
        && let Some(name) = names.lock().get_mut(which as usize)
        && let Some(new) = change(name)
    {
        *name = new;
    }
}

fn set_name(context: &Context<'_>, args: Args, which: Name) -> Result<u64> {
    if !context.cred().has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let length = usize::try_from(args.i32(1)).ok().filter(|length| *length <= NAME_MAX);
    let new = uaccess::read_bytes(args.u64(0), length.ok_or(Errno::EINVAL)?)?;
    change_name(which, |_| Some(new));
    Ok(0)
}

fn sys_sethostname(context: &mut Context<'_>, args: Args) -> Result<u64> {
    set_name(context, args, Name::Host)
}

fn sys_setdomainname(context: &mut Context<'_>, args: Args) -> Result<u64> {
    set_name(context, args, Name::Domain)
}

fn sys_uname(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const FIELD: usize = 65;
    /// The part of a personality(2) that is an execution domain, and the one of 32-bit Linux.
    const PER_MASK: u32 = 0xff;
    const PER_LINUX32: u32 = 8;
    let personality = context.thread.task.group.personality.load(Ordering::Relaxed);
    let machine: &[u8] = if personality & PER_MASK == PER_LINUX32 { b"i686" } else { b"x86_64" };
    let config = boot::config().ok_or(Errno::EIO)?;
    let (host, domain) = (name(Name::Host), name(Name::Domain));
    let fields: [&[u8]; 6] =
        [b"Linux", &host, config.host.release.as_bytes(), config.host.version.as_bytes(), machine, &domain];
    let mut name = [0u8; FIELD * 6];
    for (slot, field) in name.chunks_exact_mut(FIELD).zip(fields) {
        for (byte, value) in slot.iter_mut().take(FIELD - 1).zip(field) {
            *byte = *value;
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
    // Most ask for a few bytes: no allocation for them.
    let mut few = [0u8; 256];
    let mut many = if length > few.len() as u64 { vec![0u8; 4096] } else { Vec::new() };
    let bytes = if many.is_empty() { &mut few[..] } else { &mut many[..] };
    while done < length {
        if done > 0 && task::current().interrupted() {
            break;
        }
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
