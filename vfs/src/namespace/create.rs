//! mkdir(2), mknod(2), symlink(2), link(2).

use super::permission::{Start, may_create, may_link, want_write};
use super::walk::Parent;
use super::{Lookup, Path, Target, WalkFlags, find};
use crate::attributes::Kind;
use crate::inode::{NewKind, NewNode};
use crate::{Errno, Result, notify};
use alloc::sync::Arc;
use kernel::cred::cap;
use linux_raw_sys::general as raw;

/// What is to be made at a name that must not exist (Linux's filename_create): finds the name, holds its directory, and
/// lets `make` put it there.
fn create_at<T>(
    lookup: &Lookup<'_>,
    base: i32,
    path: &[u8],
    directory_wanted: bool,
    make: impl FnOnce(&Path, &[u8]) -> Result<T>,
) -> Result<T> {
    let parent = Parent::find(lookup, base, path)?;
    let name = parent.name().ok_or(Errno::EEXIST)?;
    let directory = &parent.directory;
    let result = {
        let _ops = directory.dentry.lock_ops();
        match directory.dentry.lookup_locked(name) {
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        // A slash asks for a directory, which only mkdir makes.
        if parent.slash() && !directory_wanted {
            return Err(Errno::ENOENT);
        }
        want_write(directory)?;
        make(directory, name)
    };
    directory.dentry.trim_cache();
    result
}

/// `mode` is what was asked for, with its kind.
fn make(lookup: &Lookup<'_>, directory: &Path, name: &[u8], what: NewKind<'_>, mode: u32) -> Result<()> {
    let owner = may_create(lookup.cred, directory, None)?;
    let start = Start::new(lookup, directory, &owner, mode)?;
    let node = NewNode { what, mode: start.mode & 0o7777, uid: lookup.cred.fsuid, gid: start.gid };
    let made = directory.inode().create(name, &node);
    match made {
        Ok(inode) => {
            start.give_lists(&*inode)?;
            let kind = inode.kind();
            directory.dentry.attach(name, inode);
            notify::name_changed(&directory.dentry, name, kind, raw::IN_CREATE, 0);
            Ok(())
        }
        Err(error) => {
            if error == Errno::EEXIST {
                directory.dentry.forget(name);
            }
            Err(error)
        }
    }
}

/// mkdirat(2).
pub fn make_directory(lookup: &Lookup<'_>, base: i32, path: &[u8], mode: u32) -> Result<()> {
    // S_ISVTX is all that Linux takes beside the permission bits.
    let mode = raw::S_IFDIR | (mode & 0o1777);
    create_at(lookup, base, path, true, |directory, name| {
        make(lookup, directory, name, NewKind::Directory, mode)
    })
}

/// mknodat(2): `mode` with its `S_IFMT` bits (none: a regular file), `dev` as `st_dev` has
/// it.
pub fn make_node(lookup: &Lookup<'_>, base: i32, path: &[u8], mode: u32, dev: u64) -> Result<()> {
    let kind = match mode & raw::S_IFMT {
        0 => Kind::Regular,
        raw::S_IFDIR => return Err(Errno::EPERM),
        _ => Kind::from_mode(mode).filter(|kind| *kind != Kind::Symlink).ok_or(Errno::EINVAL)?,
    };
    let what = match kind {
        Kind::Fifo => NewKind::Fifo,
        Kind::Socket => NewKind::Socket,
        Kind::CharDevice | Kind::BlockDevice => NewKind::Device(kind, dev),
        _ => NewKind::Regular,
    };
    // A character device 0:0 is a whiteout, which everyone may make.
    let privileged = kind == Kind::BlockDevice || kind == Kind::CharDevice && dev != 0;
    let mode = kind.mode_bits() | (mode & 0o7777);
    create_at(lookup, base, path, false, |directory, name| {
        may_create(lookup.cred, directory, None)?;
        if privileged && !lookup.cred.has(cap::MKNOD) {
            return Err(Errno::EPERM);
        }
        make(lookup, directory, name, what, mode)
    })
}

/// What bind(2) does for a path: a socket's node, and its place. `mode` are permission bits before the umask.
pub fn make_socket(lookup: &Lookup<'_>, path: &[u8], mode: u32) -> Result<Path> {
    // The umask counts even where a default access control list stands in for it (unix_bind_bsd).
    let mode = raw::S_IFSOCK | (mode & 0o7777 & !lookup.fs.umask());
    create_at(lookup, raw::AT_FDCWD, path, false, |directory, name| {
        make(lookup, directory, name, NewKind::Socket, mode)?;
        Ok(Path { mount: directory.mount.clone(), dentry: directory.dentry.lookup_locked(name)? })
    })
}

/// symlinkat(2).
pub fn symlink(lookup: &Lookup<'_>, text: &[u8], base: i32, path: &[u8]) -> Result<()> {
    if text.is_empty() {
        return Err(Errno::ENOENT);
    }
    create_at(lookup, base, path, false, |directory, name| {
        make(lookup, directory, name, NewKind::Symlink(text), raw::S_IFLNK | 0o777)
    })
}

/// linkat(2); `flags` are `AT_SYMLINK_FOLLOW` and `AT_EMPTY_PATH`: `EINVAL` for others.
pub fn link(
    lookup: &Lookup<'_>,
    old_base: i32,
    old: &[u8],
    new_base: i32,
    new: &[u8],
    flags: u32,
) -> Result<()> {
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & raw::AT_EMPTY_PATH != 0 && old.is_empty() && !lookup.cred.has(cap::DAC_READ_SEARCH) {
        return Err(Errno::ENOENT);
    }
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    walk.set(WalkFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
    let source = find(lookup, old_base, old, walk)?;
    create_at(lookup, new_base, new, false, |directory, name| {
        if directory.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        let Target::Place(source) = &source else { return Err(Errno::EXDEV) };
        if !Arc::ptr_eq(&source.mount, &directory.mount) {
            return Err(Errno::EXDEV);
        }
        may_link(lookup.cred, source)?;
        may_create(lookup.cred, directory, None)?;
        if source.dentry.is_directory() {
            return Err(Errno::EPERM);
        }
        if source.inode().attributes()?.nlink == 0 && !source.dentry.is_linkable() {
            return Err(Errno::ENOENT);
        }
        directory.inode().link(name, source.inode())?;
        directory.dentry.attach(name, source.inode().clone());
        notify::happened_to_inode(&source.dentry, raw::IN_ATTRIB);
        notify::name_changed(&directory.dentry, name, source.dentry.kind(), raw::IN_CREATE, 0);
        Ok(())
    })
}
