//! Ids of processes and users: getpid(2), getuid(2), setuid(2) and their families (credentials(7)).

use crate::args::Args;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::cred::{ALL_CAPABILITIES, Cred, cap};
use kernel::task::Pid;
use kernel::uaccess;
use linux_raw_sys::general as raw;

const ID: Show = Show::Int;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_getpid, "getpid", |context, _| shown(context, context.thread.task.group.tgid), &[]),
    full(raw::__NR_gettid, "gettid", |context, _| shown(context, context.thread.task.tid()), &[]),
    full(
        raw::__NR_getppid,
        "getppid",
        |context, _| shown(context, context.thread.task.group.parent_id()),
        &[],
    ),
    full(raw::__NR_getuid, "getuid", |context, _| Ok(u64::from(context.cred().uid)), &[]),
    full(raw::__NR_geteuid, "geteuid", |context, _| Ok(u64::from(context.cred().euid)), &[]),
    full(raw::__NR_getgid, "getgid", |context, _| Ok(u64::from(context.cred().gid)), &[]),
    full(raw::__NR_getegid, "getegid", |context, _| Ok(u64::from(context.cred().egid)), &[]),
    full(raw::__NR_getresuid, "getresuid", sys_getresuid, &[Show::Address, Show::Address, Show::Address]),
    full(raw::__NR_getresgid, "getresgid", sys_getresgid, &[Show::Address, Show::Address, Show::Address]),
    full(raw::__NR_setuid, "setuid", sys_setuid, &[ID]),
    full(raw::__NR_setgid, "setgid", sys_setgid, &[ID]),
    full(raw::__NR_setreuid, "setreuid", sys_setreuid, &[ID, ID]),
    full(raw::__NR_setregid, "setregid", sys_setregid, &[ID, ID]),
    full(raw::__NR_setresuid, "setresuid", sys_setresuid, &[ID, ID, ID]),
    full(raw::__NR_setresgid, "setresgid", sys_setresgid, &[ID, ID, ID]),
    full(raw::__NR_setfsuid, "setfsuid", sys_setfsuid, &[ID]),
    full(raw::__NR_setfsgid, "setfsgid", sys_setfsgid, &[ID]),
    full(raw::__NR_getgroups, "getgroups", sys_getgroups, &[Show::Int, Show::Address]),
    full(raw::__NR_setgroups, "setgroups", sys_setgroups, &[Show::Int, Show::Address]),
];

fn shown(context: &Context<'_>, pid: Pid) -> Result<u64> {
    Ok(context.shown(pid) as u64)
}

/// "Leave as it is".
const KEEP: u32 = u32::MAX;

fn sys_getresuid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let cred = context.cred();
    write_three(args, [cred.uid, cred.euid, cred.suid])
}

fn sys_getresgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let cred = context.cred();
    write_three(args, [cred.gid, cred.egid, cred.sgid])
}

fn write_three(args: Args, ids: [u32; 3]) -> Result<u64> {
    for (index, id) in ids.iter().enumerate() {
        uaccess::write(args.u64(index), id)?;
    }
    Ok(0)
}

/// Changes the running task's credentials by `edit`, which says no with an error.
fn change(context: &mut Context<'_>, edit: impl FnOnce(&mut Cred) -> Result<()>) -> Result<u64> {
    let old = context.cred().clone();
    let mut new = (*old).clone();
    edit(&mut new)?;
    adjust_capabilities(&old, &mut new);
    let ids = |cred: &Cred| (cred.euid, cred.egid, cred.fsuid, cred.fsgid);
    if ids(&old) != ids(&new) {
        // What the old identity left in memory is not the new one's to read (`commit_creds`).
        context.thread.task.group.dumpable.store(0, Ordering::Relaxed);
    }
    context.set_cred(new);
    Ok(0)
}

/// Capabilities follow the user ids (capabilities(7), "Effect of user ID changes").
fn adjust_capabilities(old: &Cred, new: &mut Cred) {
    const KEEP_CAPS: u32 = 1 << 4;
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    if new.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    let any_root = |cred: &Cred| cred.uid == 0 || cred.euid == 0 || cred.suid == 0;
    if any_root(old) && !any_root(new) && new.securebits & KEEP_CAPS == 0 {
        new.permitted = 0;
        new.effective = 0;
        new.ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = 0;
    } else if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
    /// Capabilities that go with the filesystem user id.
    const FILESYSTEM: u64 = (1 << cap::CHOWN)
        | (1 << cap::DAC_OVERRIDE)
        | (1 << cap::DAC_READ_SEARCH)
        | (1 << cap::FOWNER)
        | (1 << cap::FSETID);
    if old.fsuid == 0 && new.fsuid != 0 {
        new.effective &= !FILESYSTEM;
    } else if old.fsuid != 0 && new.fsuid == 0 {
        new.effective |= new.permitted & FILESYSTEM;
    }
    new.effective &= ALL_CAPABILITIES;
}

fn valid(id: u32) -> Result<u32> {
    if id == KEEP { Err(Errno::EINVAL) } else { Ok(id) }
}

fn sys_setuid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let id = valid(args.u32(0))?;
    change(context, |cred| {
        if cred.has(cap::SETUID) {
            cred.uid = id;
            cred.suid = id;
        } else if id != cred.uid && id != cred.suid {
            return Err(Errno::EPERM);
        }
        cred.euid = id;
        cred.fsuid = id;
        Ok(())
    })
}

fn sys_setgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let id = valid(args.u32(0))?;
    change(context, |cred| {
        if cred.has(cap::SETGID) {
            cred.gid = id;
            cred.sgid = id;
        } else if id != cred.gid && id != cred.sgid {
            return Err(Errno::EPERM);
        }
        cred.egid = id;
        cred.fsgid = id;
        Ok(())
    })
}

fn sys_setreuid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (real, effective) = (args.u32(0), args.u32(1));
    change(context, |cred| {
        let able = cred.has(cap::SETUID);
        let old_real = cred.uid;
        if real != KEEP {
            if !able && real != cred.uid && real != cred.euid {
                return Err(Errno::EPERM);
            }
            cred.uid = real;
        }
        if effective != KEEP {
            if !able && ![old_real, cred.euid, cred.suid].contains(&effective) {
                return Err(Errno::EPERM);
            }
            cred.euid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old_real) {
            cred.suid = cred.euid;
        }
        cred.fsuid = cred.euid;
        Ok(())
    })
}

fn sys_setregid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (real, effective) = (args.u32(0), args.u32(1));
    change(context, |cred| {
        let able = cred.has(cap::SETGID);
        let old_real = cred.gid;
        if real != KEEP {
            if !able && real != cred.gid && real != cred.egid {
                return Err(Errno::EPERM);
            }
            cred.gid = real;
        }
        if effective != KEEP {
            if !able && ![old_real, cred.egid, cred.sgid].contains(&effective) {
                return Err(Errno::EPERM);
            }
            cred.egid = effective;
        }
        if real != KEEP || (effective != KEEP && effective != old_real) {
            cred.sgid = cred.egid;
        }
        cred.fsgid = cred.egid;
        Ok(())
    })
}

fn sys_setresuid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let wanted = [args.u32(0), args.u32(1), args.u32(2)];
    change(context, |cred| {
        let have = [cred.uid, cred.euid, cred.suid];
        let [uid, euid, suid] = pick_three(wanted, have, cred.has(cap::SETUID))?;
        (cred.uid, cred.euid, cred.suid, cred.fsuid) = (uid, euid, suid, euid);
        Ok(())
    })
}

fn sys_setresgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let wanted = [args.u32(0), args.u32(1), args.u32(2)];
    change(context, |cred| {
        let have = [cred.gid, cred.egid, cred.sgid];
        let [gid, egid, sgid] = pick_three(wanted, have, cred.has(cap::SETGID))?;
        (cred.gid, cred.egid, cred.sgid, cred.fsgid) = (gid, egid, sgid, egid);
        Ok(())
    })
}

/// Without the capability each new id must be one of the three old ones.
fn pick_three(wanted: [u32; 3], have: [u32; 3], able: bool) -> Result<[u32; 3]> {
    let mut new = have;
    for (slot, id) in new.iter_mut().zip(wanted) {
        if id == KEEP {
            continue;
        }
        if !able && !have.contains(&id) {
            return Err(Errno::EPERM);
        }
        *slot = id;
    }
    Ok(new)
}

fn sys_setfsuid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let id = args.u32(0);
    let old = context.cred().fsuid;
    let _ = change(context, |cred| {
        if id != KEEP && (cred.has(cap::SETUID) || [cred.uid, cred.euid, cred.suid, cred.fsuid].contains(&id))
        {
            cred.fsuid = id;
        }
        Ok(())
    });
    Ok(u64::from(old))
}

fn sys_setfsgid(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let id = args.u32(0);
    let old = context.cred().fsgid;
    let _ = change(context, |cred| {
        if id != KEEP && (cred.has(cap::SETGID) || [cred.gid, cred.egid, cred.sgid, cred.fsgid].contains(&id))
        {
            cred.fsgid = id;
        }
        Ok(())
    });
    Ok(u64::from(old))
}

fn sys_getgroups(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let groups = context.cred().groups.clone();
    let room = args.i32(0);
    if room < 0 {
        return Err(Errno::EINVAL);
    }
    if room > 0 {
        if (room as usize) < groups.len() {
            return Err(Errno::EINVAL);
        }
        for (index, group) in groups.iter().enumerate() {
            uaccess::write(args.u64(1).wrapping_add(index as u64 * 4), group)?;
        }
    }
    Ok(groups.len() as u64)
}

fn sys_setgroups(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const NGROUPS_MAX: u32 = 65536;
    if !context.cred().has(cap::SETGID) {
        return Err(Errno::EPERM);
    }
    if args.u32(0) > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut groups = uaccess::read_array::<u32>(args.u64(1), args.u32(0) as usize)?.into_vec();
    groups.sort_unstable();
    change(context, |cred| {
        cred.groups = Arc::new(groups);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_can_only_shuffle_its_own_three_ids() {
        assert_eq!(pick_three([2, 3, KEEP], [1, 2, 3], false), Ok([2, 3, 3]));
        assert_eq!(pick_three([4, KEEP, KEEP], [1, 2, 3], false), Err(Errno::EPERM));
        assert_eq!(pick_three([4, 5, 6], [1, 2, 3], true), Ok([4, 5, 6]));
    }
}
