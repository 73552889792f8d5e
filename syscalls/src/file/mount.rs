//! mount(2) and umount2(2): tmpfs, proc, sysfs, mqueue and binds, for whoever has `CAP_SYS_ADMIN` in the sandbox. What the
//! sandbox was started with is locked, as Linux locks what a user namespace inherits (mount_namespaces(7)): it can be covered and
//! made stricter, but neither taken away nor opened up.
//!
//! All processes share one namespace of mounts, so mounts propagate to nobody: `MS_SHARED` is refused, the other types are what
//! every mount has already, but for `MS_UNBINDABLE`. The newer calls (fsopen(2), open_tree(2), …) are not there; mount(8) falls back.

mod options;

use super::Walk;
use crate::args::Args;
use crate::table::{Context, Row, Show, full, partial, refused};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::cred::cap;
use kernel::uaccess;
use linux_raw_sys::general as raw;
use options::TmpfsOptions;
use vfs::inode::Inode;
use vfs::namespace::{self, Lookup, MountFlags, MountOptions, Path, WalkFlags};
use vfs::tmpfs;

const A: Show = Show::Address;
const NEW_CALLS: &str = "as a kernel before Linux 5.2; mount(8) falls back to mount(2)";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_mount,
        "mount",
        sys_mount,
        &[Show::Path, Show::Path, Show::Path, A, A],
        "tmpfs, proc, sysfs, mqueue and binds; MS_SHARED: EINVAL",
    ),
    full(raw::__NR_umount2, "umount2", sys_umount, &[Show::Path, Show::Unsigned]),
    refused(raw::__NR_open_tree, "open_tree", absent, &[Show::Fd, Show::Path, A], NEW_CALLS),
    refused(raw::__NR_open_tree_attr, "open_tree_attr", absent, &[Show::Fd, Show::Path, A, A, A], NEW_CALLS),
    refused(
        raw::__NR_move_mount,
        "move_mount",
        absent,
        &[Show::Fd, Show::Path, Show::Fd, Show::Path, A],
        NEW_CALLS,
    ),
    refused(raw::__NR_fsopen, "fsopen", absent, &[Show::Path, A], NEW_CALLS),
    refused(raw::__NR_fsconfig, "fsconfig", absent, &[Show::Fd, A, Show::Path, A, A], NEW_CALLS),
    refused(raw::__NR_fsmount, "fsmount", absent, &[Show::Fd, A, A], NEW_CALLS),
    refused(raw::__NR_fspick, "fspick", absent, &[Show::Fd, Show::Path, A], NEW_CALLS),
    refused(raw::__NR_mount_setattr, "mount_setattr", absent, &[Show::Fd, Show::Path, A, A, A], NEW_CALLS),
    refused(raw::__NR_statmount, "statmount", absent, &[A, A, A, A], NEW_CALLS),
    refused(raw::__NR_listmount, "listmount", absent, &[A, A, A, A], NEW_CALLS),
];

/// Linux takes no more of a mount's options than a page.
const PAGE: usize = 4096;
/// What mount(2) was told apart from older calls by (`MS_MGC_VAL`).
const MAGIC: u32 = 0xc0ed_0000;
/// umount2(2).
const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;
const PROPAGATION: u32 = raw::MS_SHARED | raw::MS_PRIVATE | raw::MS_SLAVE | raw::MS_UNBINDABLE;
const ATIME: u32 = raw::MS_NOATIME | raw::MS_NODIRATIME | raw::MS_RELATIME | raw::MS_STRICTATIME;

fn absent(_context: &mut Context<'_>, _args: Args) -> Result<u64> {
    Err(Errno::ENOSYS)
}

fn optional_text(args: &Args, index: usize) -> Result<Option<uaccess::Text>> {
    if args.u64(index) == 0 { Ok(None) } else { args.path(index).map(Some) }
}

/// The options: text up to its NUL, as much as there is of a page.
fn data(address: u64) -> Result<Vec<u8>> {
    if address == 0 {
        return Ok(Vec::new());
    }
    let first = PAGE - (address % PAGE as u64) as usize;
    let mut text = uaccess::read_bytes(address, first)?;
    // What lies behind the page's end need not be there (`copy_mount_options`).
    text.extend(uaccess::read_bytes(address.saturating_add(first as u64), PAGE - first).unwrap_or_default());
    text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(PAGE - 1));
    Ok(text)
}

/// What mount(2)'s flags mean for the mount, not the filesystem.
fn mount_flags(flags: u32) -> MountFlags {
    let mut mount = MountFlags::from_bits_truncate(flags);
    let default = flags & (raw::MS_NOATIME | raw::MS_STRICTATIME) == 0;
    mount.set(MountFlags::RELATIME, default);
    if flags & raw::MS_STRICTATIME != 0 {
        mount.remove(MountFlags::NO_ATIME);
    }
    mount
}

fn sys_mount(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let fstype = optional_text(&args, 2)?;
    let source = optional_text(&args, 0)?;
    let data = data(args.u64(4))?;
    let mut flags = args.u32(3);
    let walk = Walk::new(context);
    let lookup = walk.lookup();
    let at = find(&lookup, &args.path(1)?)?;
    if flags & 0xffff_0000 == MAGIC {
        flags &= 0xffff;
    }
    if flags & raw::MS_NOUSER != 0 {
        return Err(Errno::EINVAL);
    }
    if !lookup.cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let source = source.unwrap_or_default();
    match () {
        () if flags & raw::MS_REMOUNT != 0 => remount(&lookup, &at, flags, &data),
        () if flags & raw::MS_BIND != 0 => {
            let from = named(&lookup, &source)?;
            let recursive = flags & raw::MS_REC != 0;
            lookup.fs.namespace().bind(&from, &at, recursive).map(|_| 0)
        }
        () if flags & PROPAGATION != 0 => change_type(&at, flags),
        () if flags & raw::MS_MOVE != 0 => {
            let from = named(&lookup, &source)?;
            lookup.fs.namespace().move_mount(&from, &at).map(|()| 0)
        }
        () => new_mount(&lookup, &at, (flags, &source, fstype.as_deref(), &data)),
    }
}

fn find(lookup: &Lookup<'_>, path: &[u8]) -> Result<Path> {
    namespace::find(lookup, raw::AT_FDCWD, path, WalkFlags::FOLLOW)?.place()
}

/// What a bind or a move starts from: `EINVAL` without a name.
fn named(lookup: &Lookup<'_>, source: &[u8]) -> Result<Path> {
    if source.is_empty() { Err(Errno::EINVAL) } else { find(lookup, source) }
}

fn remount(lookup: &Lookup<'_>, at: &Path, flags: u32, data: &[u8]) -> Result<u64> {
    if !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let mut wanted = mount_flags(flags);
    if flags & ATIME == 0 {
        // The default is to keep them.
        let times = MountFlags::NO_ATIME | MountFlags::NO_DIRATIME | MountFlags::RELATIME;
        wanted = wanted.difference(times) | at.mount.flags().intersection(times);
    }
    if flags & raw::MS_BIND == 0 {
        // The filesystem's own options: those of tmpfs that can change are not kept apart from its mounts.
        let known = match &*at.mount.options.fstype {
            b"tmpfs" => TmpfsOptions::parse(data).map(|options| options == TmpfsOptions::default()),
            _ => Ok(data.is_empty()),
        };
        if !known? {
            return Err(Errno::EINVAL);
        }
    }
    lookup.fs.namespace().remount(&at.mount, wanted).map(|()| 0)
}

/// `do_change_type`.
fn change_type(at: &Path, flags: u32) -> Result<u64> {
    let kind = flags & PROPAGATION;
    let rest = flags & !(PROPAGATION | raw::MS_REC | raw::MS_SILENT);
    if rest != 0 || !kind.is_power_of_two() || !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    if kind == raw::MS_SHARED {
        kernel::warn!("mount: MS_SHARED: there is one namespace of mounts, which shares with nobody: EINVAL");
        return Err(Errno::EINVAL);
    }
    at.mount.set_unbindable(kind == raw::MS_UNBINDABLE);
    Ok(0)
}

/// Flags, source, type and options of a new mount.
type New<'a> = (u32, &'a [u8], Option<&'a [u8]>, &'a [u8]);

fn new_mount(lookup: &Lookup<'_>, at: &Path, (flags, source, fstype, data): New<'_>) -> Result<u64> {
    let fstype = fstype.ok_or(Errno::EINVAL)?;
    let (inode, shown): (Arc<dyn Inode>, Vec<u8>) = match fstype {
        b"tmpfs" => {
            let options = TmpfsOptions::parse(data)?;
            let owner = (options.uid.unwrap_or(lookup.cred.fsuid), options.gid.unwrap_or(lookup.cred.fsgid));
            let size = options.bytes(half_of_memory());
            (tmpfs::mount(size, options.mode.unwrap_or(0o1777), owner)?, options.shown())
        }
        b"proc" => (crate::proc::root(kernel::task::current().group.space), without_options(data)?),
        b"sysfs" => (crate::proc::sys_root(), without_options(data)?),
        b"mqueue" => (vfs::mqueue::filesystem()?.clone(), without_options(data)?),
        other => {
            kernel::warn!("mount: filesystem {} is not there: ENODEV", String::from_utf8_lossy(other));
            return Err(Errno::ENODEV);
        }
    };
    let source = if source.is_empty() { b"none" } else { source };
    let options = MountOptions {
        flags: mount_flags(flags),
        source: source.to_vec(),
        fstype: fstype.to_vec(),
        options: shown,
    };
    lookup.fs.namespace().mount(inode, at, options).map(|_| 0)
}

fn without_options(data: &[u8]) -> Result<Vec<u8>> {
    if data.is_empty() { Ok(Vec::new()) } else { Err(Errno::EINVAL) }
}

fn half_of_memory() -> u64 {
    kernel::boot::config().map_or(0, |config| config.options.memory_limit) / 2
}

fn sys_umount(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(1);
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let walk = Walk::new(context);
    let lookup = walk.lookup();
    let mut how = WalkFlags::FOLLOW;
    how.set(WalkFlags::FOLLOW, flags & UMOUNT_NOFOLLOW == 0);
    let target = namespace::find(&lookup, raw::AT_FDCWD, &args.path(0)?, how)?.place()?;
    target.mount.forgive_use();
    if !lookup.cred.has(cap::SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let detach = flags & MNT_DETACH != 0;
    if flags & MNT_EXPIRE != 0 {
        if flags & (MNT_FORCE | MNT_DETACH) != 0 {
            return Err(Errno::EINVAL);
        }
        return lookup.fs.namespace().expire(target).map(|()| 0);
    }
    lookup.fs.namespace().umount(target, detach)?;
    Ok(0)
}
