//! inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2); fanotify_init(2), which is refused.

use super::{Walk, descriptor_limit, file};
use crate::args::Args;
use crate::strace::flags::{Names, OPEN};
use crate::table::{Context, Row, Show, partial, refused};
use crate::{Errno, Result};
use linux_raw_sys::general as raw;
use vfs::file::{FileRef, OpenFile};
use vfs::namespace::{self, Access, Target, WalkFlags};
use vfs::notify::{self, Inotify};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(raw::__NR_inotify_init, "inotify_init", |context, _| make(context, 0), &[], MISSING),
    partial(
        raw::__NR_inotify_init1,
        "inotify_init1",
        |context, args| make(context, args.u32(0)),
        &[Show::Flags(OPEN)],
        MISSING,
    ),
    partial(
        raw::__NR_inotify_add_watch,
        "inotify_add_watch",
        sys_inotify_add_watch,
        &[Show::Fd, Show::Path, Show::Flags(EVENTS)],
        MISSING,
    ),
    partial(
        raw::__NR_inotify_rm_watch,
        "inotify_rm_watch",
        sys_inotify_rm_watch,
        &[Show::Fd, Show::Int],
        MISSING,
    ),
    refused(
        raw::__NR_fanotify_init,
        "fanotify_init",
        |_, _| Err(Errno::EPERM),
        &[Show::Unsigned, Show::Flags(OPEN)],
        "as Linux refuses those without CAP_SYS_ADMIN over the host",
    ),
    refused(
        raw::__NR_fanotify_mark,
        "fanotify_mark",
        |context, args| file(context, args.i32(0)).and(Err(Errno::EINVAL)),
        &[Show::Fd, Show::Unsigned, Show::Unsigned, Show::Fd, Show::Path],
        "there is no fanotify descriptor",
    ),
];

const MISSING: &str = "changes that are made from outside the sandbox are not seen";

const EVENTS: Names = &[
    (raw::IN_ALL_EVENTS as u64, "IN_ALL_EVENTS"),
    (raw::IN_ACCESS as u64, "IN_ACCESS"),
    (raw::IN_MODIFY as u64, "IN_MODIFY"),
    (raw::IN_ATTRIB as u64, "IN_ATTRIB"),
    (raw::IN_CLOSE_WRITE as u64, "IN_CLOSE_WRITE"),
    (raw::IN_CLOSE_NOWRITE as u64, "IN_CLOSE_NOWRITE"),
    (raw::IN_OPEN as u64, "IN_OPEN"),
    (raw::IN_MOVED_FROM as u64, "IN_MOVED_FROM"),
    (raw::IN_MOVED_TO as u64, "IN_MOVED_TO"),
    (raw::IN_CREATE as u64, "IN_CREATE"),
    (raw::IN_DELETE as u64, "IN_DELETE"),
    (raw::IN_DELETE_SELF as u64, "IN_DELETE_SELF"),
    (raw::IN_MOVE_SELF as u64, "IN_MOVE_SELF"),
    (raw::IN_ONLYDIR as u64, "IN_ONLYDIR"),
    (raw::IN_DONT_FOLLOW as u64, "IN_DONT_FOLLOW"),
    (raw::IN_EXCL_UNLINK as u64, "IN_EXCL_UNLINK"),
    (raw::IN_MASK_CREATE as u64, "IN_MASK_CREATE"),
    (raw::IN_MASK_ADD as u64, "IN_MASK_ADD"),
    (raw::IN_ISDIR as u64, "IN_ISDIR"),
    (raw::IN_ONESHOT as u64, "IN_ONESHOT"),
];

/// Bits that mean something to inotify_add_watch(2) (`ALL_INOTIFY_BITS`).
const KNOWN: u32 = raw::IN_ALL_EVENTS
    | raw::IN_UNMOUNT
    | raw::IN_Q_OVERFLOW
    | raw::IN_IGNORED
    | raw::IN_ONLYDIR
    | raw::IN_DONT_FOLLOW
    | raw::IN_EXCL_UNLINK
    | raw::IN_MASK_ADD
    | raw::IN_ISDIR
    | raw::IN_ONESHOT
    | raw::IN_MASK_CREATE;

fn make(context: &Context<'_>, flags: u32) -> Result<u64> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let opened = OpenFile::new(Inotify::new()?, None, raw::O_RDONLY | flags & raw::O_NONBLOCK);
    let limit = descriptor_limit(context);
    context.files().insert(opened, flags & raw::O_CLOEXEC != 0, limit).map(|fd| fd as u64)
}

fn instance(file: &FileRef) -> Result<&Inotify> {
    file.ops.as_any().downcast_ref::<Inotify>().ok_or(Errno::EINVAL)
}

fn sys_inotify_add_watch(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let mask = args.u32(2);
    if mask & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    let open = file(context, args.i32(0))?;
    const EITHER: u32 = raw::IN_MASK_ADD | raw::IN_MASK_CREATE;
    if mask & EITHER == EITHER {
        return Err(Errno::EINVAL);
    }
    let instance = instance(&open)?;
    let path = args.path(1)?;
    let walk = Walk::new(context);
    let lookup = walk.lookup();
    let mut how = WalkFlags::empty();
    how.set(WalkFlags::FOLLOW, mask & raw::IN_DONT_FOLLOW == 0);
    how.set(WalkFlags::DIRECTORY, mask & raw::IN_ONLYDIR != 0);
    // Pipes and sockets without a name have nothing that happens to it.
    let Target::Place(place) = namespace::find(&lookup, raw::AT_FDCWD, &path, how)? else {
        return Err(Errno::ENOENT);
    };
    namespace::check_inode_permission(lookup.cred, &**place.inode(), Access::READ)?;
    notify::watch(instance, &place.dentry, mask).map(|wd| wd as u64)
}

fn sys_inotify_rm_watch(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let open = file(context, args.i32(0))?;
    if instance(&open)?.remove(args.i32(1)) { Ok(0) } else { Err(Errno::EINVAL) }
}
