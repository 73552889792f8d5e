//! prctl(2), arch_prctl(2), personality(2).

use super::seccomp;
use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use core::sync::atomic::Ordering;
use kernel::cred::{Cred, cap};
use kernel::signal::COUNT;
use kernel::task::TIMER_SLACK_NS;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use linux_raw_sys::prctl as pr;
use trap_handler::{region, stack};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(
        raw::__NR_prctl,
        "prctl",
        sys_prctl,
        &[Show::Int, Show::Address, Show::Address, Show::Address, Show::Address],
    ),
    partial(
        raw::__NR_arch_prctl,
        "arch_prctl",
        sys_arch_prctl,
        &[Show::Address, Show::Address],
        "ARCH_SET_GS: GS is the kernel's",
    ),
    full(raw::__NR_personality, "personality", sys_personality, &[Show::Address]),
];

fn change(context: &mut Context<'_>, edit: impl FnOnce(&mut Cred) -> Result<()>) -> Result<u64> {
    let mut cred = (**context.cred()).clone();
    edit(&mut cred)?;
    context.set_cred(cred);
    Ok(0)
}

fn set_bit(set: &mut u32, bit: u32, on: bool) {
    if on { *set |= bit } else { *set &= !bit }
}

fn sys_prctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const KEEP_CAPS: u32 = 1 << 4;
    let task = &context.thread.task;
    let (option, value) = (args.u32(0), args.u64(1));
    let rest_is_zero = args.u64(2) == 0 && args.u64(3) == 0 && args.u64(4) == 0;
    match option {
        pr::PR_SET_NAME => {
            let name = uaccess::read_string(value, 16, Errno::E2BIG).or_else(|errno| match errno {
                // A longer name is cut, not refused.
                Errno::E2BIG => uaccess::read_bytes(value, 15),
                other => Err(other),
            })?;
            let mut comm = [0; 16];
            for (slot, byte) in comm.iter_mut().take(15).zip(name) {
                *slot = byte;
            }
            *task.comm.lock() = comm;
            Ok(0)
        }
        pr::PR_GET_NAME => {
            let comm = *task.comm.lock();
            uaccess::write(value, &comm)?;
            Ok(0)
        }
        pr::PR_SET_PDEATHSIG => {
            if value > COUNT as u64 {
                return Err(Errno::EINVAL);
            }
            task.death_signal.store(value as i32, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_GET_PDEATHSIG => {
            uaccess::write(value, &task.death_signal.load(Ordering::Relaxed))?;
            Ok(0)
        }
        pr::PR_GET_DUMPABLE => Ok(task.group.dumpable.load(Ordering::Relaxed) as u64),
        pr::PR_SET_DUMPABLE => {
            if value > 1 {
                return Err(Errno::EINVAL);
            }
            task.group.dumpable.store(value as i32, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_GET_KEEPCAPS => Ok(u64::from(task.cred().securebits & KEEP_CAPS != 0)),
        pr::PR_SET_KEEPCAPS => {
            if value > 1 {
                return Err(Errno::EINVAL);
            }
            change(context, |cred| {
                set_bit(&mut cred.securebits, KEEP_CAPS, value != 0);
                Ok(())
            })
        }
        pr::PR_GET_SECUREBITS => Ok(u64::from(task.cred().securebits)),
        pr::PR_SET_SECUREBITS => {
            if !task.cred().has(cap::SETPCAP) {
                return Err(Errno::EPERM);
            }
            change(context, |cred| {
                cred.securebits = value as u32;
                Ok(())
            })
        }
        pr::PR_SET_NO_NEW_PRIVS => {
            if value != 1 || !rest_is_zero {
                return Err(Errno::EINVAL);
            }
            task.no_new_privs.store(true, Ordering::Relaxed);
            Ok(0)
        }
        pr::PR_GET_NO_NEW_PRIVS => {
            if value != 0 || !rest_is_zero {
                return Err(Errno::EINVAL);
            }
            Ok(u64::from(task.no_new_privs.load(Ordering::Relaxed)))
        }
        pr::PR_CAPBSET_READ => {
            if value > u64::from(cap::LAST) {
                return Err(Errno::EINVAL);
            }
            Ok(task.cred().bounding >> value & 1)
        }
        pr::PR_CAPBSET_DROP => {
            if !task.cred().has(cap::SETPCAP) {
                return Err(Errno::EPERM);
            }
            if value > u64::from(cap::LAST) {
                return Err(Errno::EINVAL);
            }
            change(context, |cred| {
                cred.bounding &= !(1 << value);
                Ok(())
            })
        }
        pr::PR_CAP_AMBIENT => ambient(context, value, args.u64(2)),
        pr::PR_SET_CHILD_SUBREAPER => {
            task.group.family.lock().subreaper = value != 0;
            Ok(0)
        }
        pr::PR_GET_CHILD_SUBREAPER => {
            let subreaper = task.group.family.lock().subreaper;
            uaccess::write(value, &i32::from(subreaper))?;
            Ok(0)
        }
        // Yama's: whoever may trace may do so without it.
        pr::PR_SET_PTRACER => Ok(0),
        pr::PR_GET_TIMERSLACK => Ok(task.timer_slack.load(Ordering::Relaxed)),
        pr::PR_SET_TIMERSLACK => {
            let slack = if value as i64 > 0 { value } else { TIMER_SLACK_NS };
            task.timer_slack.store(slack, Ordering::Relaxed);
            Ok(0)
        }
        // Statistical timing is the only kind there is.
        pr::PR_GET_TIMING => Ok(0),
        pr::PR_SET_TIMING if value == 0 => Ok(0),
        pr::PR_GET_SECCOMP => Ok(seccomp::mode(context)),
        pr::PR_SET_SECCOMP => seccomp::set_by_prctl(context, value, args.u64(2)),
        pr::PR_GET_TSC => {
            uaccess::write(value, &1i32)?;
            Ok(0)
        }
        pr::PR_SET_TSC if value == 1 => Ok(0),
        pr::PR_GET_THP_DISABLE if value == 0 && rest_is_zero => Ok(0),
        pr::PR_SET_THP_DISABLE => Ok(0),
        pr::PR_GET_TID_ADDRESS => {
            uaccess::write(value, &task.clear_child_tid.load(Ordering::Relaxed))?;
            Ok(0)
        }
        // A name for anonymous memory is only for people who read maps.
        0x53564d41 => Err(Errno::EINVAL),
        _ => Err(Errno::EINVAL),
    }
}

fn ambient(context: &mut Context<'_>, operation: u64, capability: u64) -> Result<u64> {
    if operation != 4 && capability > u64::from(cap::LAST) {
        return Err(Errno::EINVAL);
    }
    let cred = context.cred();
    match operation {
        1 => Ok(cred.ambient >> capability & 1),
        2 => {
            let bit = 1 << capability;
            if cred.permitted & bit == 0 || cred.inheritable & bit == 0 {
                return Err(Errno::EPERM);
            }
            change(context, |cred| {
                cred.ambient |= bit;
                Ok(())
            })
        }
        3 => change(context, |cred| {
            cred.ambient &= !(1 << capability);
            Ok(())
        }),
        4 => change(context, |cred| {
            cred.ambient = 0;
            Ok(())
        }),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_arch_prctl(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    const GET_CPUID: u32 = 0x1011;
    match args.u32(0) {
        SET_FS => {
            if !region::is_user(args.u64(1), 0) {
                return Err(Errno::EPERM);
            }
            stack::set_fs_base(args.u64(1))?;
            Ok(0)
        }
        GET_FS => {
            uaccess::write(args.u64(1), &stack::fs_base())?;
            Ok(0)
        }
        GET_GS => {
            uaccess::write(args.u64(1), &0u64)?;
            Ok(0)
        }
        SET_GS => {
            kernel::warn!("arch_prctl(ARCH_SET_GS): GS is the kernel's in this sandbox: EINVAL");
            Err(Errno::EINVAL)
        }
        GET_CPUID => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_personality(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let personality = &context.thread.task.group.personality;
    let old = personality.load(Ordering::Relaxed);
    if args.u32(0) != u32::MAX {
        personality.store(args.u32(0), Ordering::Relaxed);
    }
    Ok(u64::from(old))
}
