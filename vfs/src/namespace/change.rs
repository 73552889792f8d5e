//! What is told and changed about a target: stat(2), access(2), chmod(2), chown(2), utimensat(2), truncate(2), statfs(2).

use super::permission::{Access, check, check_path, is_owner, want_write, without_set_ids};
use super::{Lookup, MountFlags, Target, WalkFlags, find};
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::OpenFile;
use crate::{Errno, Result, notify};
use kernel::cred::{ALL_CAPABILITIES, Cred, cap};
use kernel::time;
use linux_raw_sys::general as raw;

/// securebits(7): capabilities do not follow the user id.
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// statfs(2): flags are valid.
const ST_VALID: u32 = 0x20;

/// stat(2), fstat(2), statx(2).
pub fn status(target: &Target) -> Result<Attributes> {
    match target {
        Target::Place(path) => path.inode().attributes(),
        Target::File(file) => file.ops.attributes(),
    }
}

/// The same of an open file.
pub fn status_of_open(file: &OpenFile) -> Result<Attributes> {
    match &file.path {
        Some(path) => path.inode().attributes(),
        None => file.ops.attributes(),
    }
}

fn owner(target: &Target) -> Result<Owner> {
    match target {
        Target::Place(path) => path.inode().owner(),
        Target::File(file) => file.ops.attributes().map(|attributes| Owner::from(&attributes)),
    }
}

fn kind(target: &Target) -> Result<Kind> {
    match target {
        Target::Place(path) => Ok(path.dentry.kind()),
        Target::File(file) => file.ops.attributes().map(|attributes| attributes.kind()),
    }
}

fn writable_mount(target: &Target) -> Result<()> {
    match target {
        Target::Place(path) => want_write(path),
        Target::File(_) => Ok(()),
    }
}

fn change(target: &Target, change: &AttributeChange) -> Result<()> {
    match target {
        Target::Place(path) => {
            path.inode().set_attributes(change)?;
            notify::happened(&path.dentry, notify::mask_of_change(change));
            Ok(())
        }
        Target::File(file) => file.ops.set_attributes(change),
    }
}

fn permission(cred: &Cred, target: &Target, wanted: Access) -> Result<()> {
    match target {
        Target::Place(path) => check_path(cred, path, wanted),
        Target::File(_) => check(cred, &owner(target)?, wanted),
    }
}

/// faccessat2(2): `mode` is `R_OK`, `W_OK`, `X_OK`; `flags` are `AT_EACCESS`, `AT_SYMLINK_NOFOLLOW`, `AT_EMPTY_PATH`.
pub fn access(lookup: &Lookup<'_>, base: i32, path: &[u8], mode: u32, flags: u32) -> Result<()> {
    let known = raw::AT_EACCESS | raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH;
    let wanted = Access::from_bits(mode).ok_or(Errno::EINVAL)?;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    // AT_EACCESS is AT_REMOVEDIR's bit; without it the real ids count.
    let real = (flags & raw::AT_EACCESS == 0).then(|| with_real_ids(lookup.cred));
    let lookup = Lookup { cred: real.as_ref().unwrap_or(lookup.cred), ..*lookup };
    let target = find(&lookup, base, path, WalkFlags::from_at(flags))?;
    if wanted.contains(Access::EXECUTE)
        && let Target::Place(path) = &target
        && path.dentry.kind() == Kind::Regular
        && path.mount.flags().contains(MountFlags::NO_EXEC)
    {
        return Err(Errno::EACCES);
    }
    permission(lookup.cred, &target, wanted)
}

/// Credentials as access(2) looks at them (access_override_creds).
fn with_real_ids(cred: &Cred) -> Cred {
    let effective = match () {
        () if cred.securebits & SECBIT_NO_SETUID_FIXUP != 0 => cred.effective,
        () if cred.uid == 0 => cred.permitted & ALL_CAPABILITIES,
        () => 0,
    };
    Cred { fsuid: cred.uid, fsgid: cred.gid, effective, ..cred.clone() }
}

/// chmod(2), fchmod(2).
pub fn change_mode(lookup: &Lookup<'_>, target: &Target, mode: u32) -> Result<()> {
    writable_mount(target)?;
    if kind(target)? == Kind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let owner = owner(target)?;
    if !is_owner(lookup.cred, &owner) {
        return Err(Errno::EPERM);
    }
    let mut mode = mode & 0o7777;
    if !lookup.cred.in_group(owner.gid) && !lookup.cred.has(cap::FSETID) {
        mode &= !raw::S_ISGID;
    }
    change(target, &AttributeChange { mode: Some(mode), ..AttributeChange::default() })
}

/// chown(2), fchown(2), lchown(2); `None` leaves an id as it is.
pub fn change_owner(lookup: &Lookup<'_>, target: &Target, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    writable_mount(target)?;
    let (cred, owner) = (lookup.cred, owner(target)?);
    if !may_change_owner(cred, &owner, uid, gid) {
        return Err(Errno::EPERM);
    }
    let mode = (owner.mode & raw::S_IFMT != raw::S_IFDIR)
        .then(|| without_set_ids(cred, &owner))
        .filter(|&mode| mode != owner.mode & 0o7777);
    // Also where no owner changes: to take the bits away is a change of mode (`setattr_prepare`).
    if mode.is_some() && !is_owner(cred, &owner) {
        return Err(Errno::EPERM);
    }
    change(target, &AttributeChange { uid, gid, mode, ..AttributeChange::default() })
}

fn may_change_owner(cred: &Cred, owner: &Owner, uid: Option<u32>, gid: Option<u32>) -> bool {
    let owns = cred.fsuid == owner.uid;
    let uid_allowed = uid.is_none_or(|uid| owns && uid == owner.uid);
    let gid_allowed = gid.is_none_or(|gid| owns && (gid == owner.gid || cred.in_group(gid)));
    cred.has(cap::CHOWN) || uid_allowed && gid_allowed
}

/// Times for [`set_times`].
#[derive(Debug, Clone, Copy)]
pub enum Times {
    /// Both now (a null pointer, or two `UTIME_NOW`).
    Now,
    /// Access and modification time; nanoseconds may be `UTIME_NOW` and `UTIME_OMIT`.
    Given(raw::timespec, raw::timespec),
}

impl Times {
    /// From utimensat(2)'s argument (`None`: a null pointer): `EINVAL` for nanoseconds that are none.
    pub fn new(times: Option<[raw::timespec; 2]>) -> Result<Times> {
        let Some([atime, mtime]) = times else { return Ok(Times::Now) };
        let valid = |time: &raw::timespec| {
            is(time, raw::UTIME_NOW)
                || is(time, raw::UTIME_OMIT)
                || (0..1_000_000_000).contains(&time.tv_nsec)
        };
        match () {
            () if !valid(&atime) || !valid(&mtime) => Err(Errno::EINVAL),
            () if is(&atime, raw::UTIME_NOW) && is(&mtime, raw::UTIME_NOW) => Ok(Times::Now),
            () => Ok(Times::Given(atime, mtime)),
        }
    }
}

impl Times {
    /// Whether both times are to stay (`UTIME_OMIT`).
    pub fn is_nothing(self) -> bool {
        matches!(self, Times::Given(atime, mtime) if is(&atime, raw::UTIME_OMIT) && is(&mtime, raw::UTIME_OMIT))
    }
}

fn is(time: &raw::timespec, special: u32) -> bool {
    time.tv_nsec == i64::from(special)
}

/// utimensat(2), futimens(3).
pub fn set_times(lookup: &Lookup<'_>, target: &Target, times: Times) -> Result<()> {
    let now = time::file_time();
    let owner = || owner(target);
    let (atime, mtime) = match times {
        Times::Now => {
            writable_mount(target)?;
            if !is_owner(lookup.cred, &owner()?) {
                permission(lookup.cred, target, Access::WRITE)?;
            }
            (Some(now), Some(now))
        }
        times if times.is_nothing() => return Ok(()),
        Times::Given(atime, mtime) => {
            writable_mount(target)?;
            if !is_owner(lookup.cred, &owner()?) {
                return Err(Errno::EPERM);
            }
            let value = |time: raw::timespec| match () {
                () if is(&time, raw::UTIME_OMIT) => None,
                () if is(&time, raw::UTIME_NOW) => Some(now),
                () => Some(time),
            };
            (value(atime), value(mtime))
        }
    };
    change(target, &AttributeChange { atime, mtime, ..AttributeChange::default() })
}

/// truncate(2): `EISDIR`, `EINVAL` for what has no size. `allow` is asked about a size that is
/// more than before, once all else is allowed.
pub fn truncate(
    lookup: &Lookup<'_>,
    target: &Target,
    size: u64,
    allow: impl FnOnce(u64) -> Result<()>,
) -> Result<()> {
    match kind(target)? {
        Kind::Regular => {}
        Kind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    permission(lookup.cred, target, Access::WRITE)?;
    if let Target::Place(path) = target {
        crate::leases::break_for(path, true, false)?;
    }
    let before = status(target)?;
    if size > before.size {
        allow(size)?;
    }
    change(target, &size_change(lookup.cred, &Owner::from(&before), size))
}

/// ftruncate(2) of a file that was opened for writing: `EINVAL` otherwise. `allow` as for [`truncate`].
pub fn truncate_open(
    lookup: &Lookup<'_>,
    file: &crate::file::FileRef,
    size: u64,
    allow: impl FnOnce(u64) -> Result<()>,
) -> Result<()> {
    let target = super::target_of(file);
    if !file.writable() || kind(&target)? != Kind::Regular {
        return Err(Errno::EINVAL);
    }
    let before = status(&target)?;
    if size > before.size {
        allow(size)?;
    }
    let change = size_change(lookup.cred, &Owner::from(&before), size);
    // Through the file itself: its permission was checked when it was opened.
    match file.ops.set_attributes(&change) {
        Err(Errno::EINVAL) if file.path.is_some() => self::change(&target, &change),
        Ok(()) => {
            notify::written(file);
            Ok(())
        }
        other => other,
    }
}

fn size_change(cred: &Cred, owner: &Owner, size: u64) -> AttributeChange {
    let mode = (!cred.has(cap::FSETID))
        .then(|| without_set_ids(cred, owner))
        .filter(|&mode| mode != owner.mode & 0o7777);
    AttributeChange { size: Some(size), mode, mtime: Some(time::file_time()), ..AttributeChange::default() }
}

/// statfs(2), fstatfs(2).
pub fn statfs(target: &Target) -> Result<raw::statfs> {
    /// `PIPEFS_MAGIC` stands for every filesystem that only the kernel mounts.
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    match target {
        Target::Place(path) => {
            let mut told = path.inode().filesystem()?;
            let both = MountFlags::all().difference(MountFlags::RELATIME).bits();
            let relatime = path.mount.flags().contains(MountFlags::RELATIME);
            let flags = path.mount.flags().bits() & both | if relatime { 1 << 12 } else { 0 };
            told.f_flags = i64::from(flags | ST_VALID);
            Ok(told)
        }
        Target::File(file) => {
            if let Some(told) = file.ops.filesystem() {
                return Ok(raw::statfs { f_flags: i64::from(ST_VALID), ..told });
            }
            let none = raw::__kernel_fsid_t { val: [0, 0] };
            Ok(raw::statfs {
                f_type: PIPEFS_MAGIC,
                f_bsize: 4096,
                f_blocks: 0,
                f_bfree: 0,
                f_bavail: 0,
                f_files: 0,
                f_ffree: 0,
                f_fsid: none,
                f_namelen: 255,
                f_frsize: 4096,
                f_flags: i64::from(ST_VALID),
                f_spare: [0; 4],
            })
        }
    }
}

/// utimensat(2), futimesat(2): the target of a base and a path; without a path the base itself, which `O_PATH` (`EBADF`) and
/// flags (`EINVAL`) have no place in then.
pub fn find_or_base(lookup: &Lookup<'_>, base: i32, path: Option<&[u8]>, at_flags: u32) -> Result<Target> {
    match path {
        Some(path) => super::find_at(lookup, base, path, at_flags),
        None if at_flags != 0 => Err(Errno::EINVAL),
        None => lookup.files.use_file(base).map(|file| super::target_of(&file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(uid: u32, gid: u32) -> Owner {
        Owner { mode: raw::S_IFREG | 0o644, uid, gid, acl: false }
    }

    #[test]
    fn owners_give_files_to_their_groups_only() {
        let cred = Cred::new(1000, 1000, [100].into());
        assert!(may_change_owner(&cred, &file(1000, 1000), None, Some(100)));
        assert!(may_change_owner(&cred, &file(1000, 5), Some(1000), Some(5)));
        assert!(!may_change_owner(&cred, &file(1000, 1000), None, Some(7)));
        assert!(!may_change_owner(&cred, &file(1000, 1000), Some(1001), None));
        assert!(!may_change_owner(&cred, &file(1001, 1000), None, Some(100)));
        assert!(may_change_owner(&Cred::new(0, 0, [].into()), &file(1001, 7), Some(3), Some(4)));
    }

    #[test]
    fn access_looks_at_real_ids() {
        let mut cred = Cred::new(1000, 1000, [].into());
        (cred.fsuid, cred.effective) = (0, ALL_CAPABILITIES);
        let real = with_real_ids(&cred);
        assert_eq!((real.fsuid, real.effective), (1000, 0));
    }

    #[test]
    fn times_are_checked_as_utimensat_checks_them() {
        let time = |nsec: i64| raw::timespec { tv_sec: 1, tv_nsec: nsec };
        assert!(matches!(Times::new(None), Ok(Times::Now)));
        let now = time(raw::UTIME_NOW.into());
        assert!(matches!(Times::new(Some([now, now])), Ok(Times::Now)));
        assert!(matches!(Times::new(Some([now, time(0)])), Ok(Times::Given(..))));
        assert!(Times::new(Some([time(1_000_000_000), now])).is_err());
        assert!(Times::new(Some([time(-1), now])).is_err());
    }
}
