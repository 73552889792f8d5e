//! Extended attributes (xattr(7)): names, sizes and permissions; storage is the filesystem's.

use super::permission::{Access, check_path, is_owner, want_write};
use super::{Lookup, Path, Target};
use crate::acl::{self, Acl};
use crate::attributes::Kind;
use crate::inode::AclMode;
use crate::{Errno, Result, notify};
use alloc::vec::Vec;
use kernel::cred::cap;
use linux_raw_sys::general as raw;

/// Longest name.
const NAME_MAX: usize = 255;
/// Largest value.
const SIZE_MAX: usize = 64 << 10;

fn place(target: &Target) -> Result<&Path> {
    match target {
        Target::Place(path) => Ok(path),
        Target::File(_) => Err(Errno::EOPNOTSUPP),
    }
}

/// Linux's xattr_permission.
fn may(lookup: &Lookup<'_>, path: &Path, name: &[u8], writes: bool) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Errno::ERANGE);
    }
    if writes {
        want_write(path)?;
    }
    let refused = if writes { Errno::EPERM } else { Errno::ENODATA };
    let admin = lookup.cred.has(cap::SYS_ADMIN);
    if name.starts_with(b"security.") || name.starts_with(b"system.") {
        return if writes && name.starts_with(b"security.") && !admin { Err(refused) } else { Ok(()) };
    }
    if name.starts_with(b"trusted.") {
        return if admin { Ok(()) } else { Err(refused) };
    }
    if name.starts_with(b"user.") {
        let kind = path.dentry.kind();
        if !matches!(kind, Kind::Regular | Kind::Directory) {
            return Err(refused);
        }
        let owner = path.inode().owner()?;
        let sticky = kind == Kind::Directory && owner.mode & raw::S_ISVTX != 0;
        if writes && sticky && !is_owner(lookup.cred, &owner) {
            return Err(Errno::EPERM);
        }
    }
    check_path(lookup.cred, path, if writes { Access::WRITE } else { Access::READ })
}

/// `EINVAL` for a namespace without a name in it (Linux's xattr_resolve_name).
fn has_suffix(name: &[u8]) -> Result<()> {
    let bare = [&b"user."[..], b"trusted.", b"security."];
    if bare.contains(&name) { Err(Errno::EINVAL) } else { Ok(()) }
}

/// getxattr(2): the whole value; `ENODATA`.
pub fn get_xattr(lookup: &Lookup<'_>, target: &Target, name: &[u8]) -> Result<Vec<u8>> {
    let path = place(target)?;
    may(lookup, path, name, false)?;
    has_suffix(name)?;
    if acl::is_name(name) && !path.inode().keeps_acls() {
        return Err(Errno::EOPNOTSUPP);
    }
    path.inode().xattr(name)
}

/// Linux's vfs_set_acl: an access control list comes, or goes.
fn set_acl(lookup: &Lookup<'_>, path: &Path, name: &[u8], value: &[u8]) -> Result<()> {
    let inode = path.inode();
    let list = if value.is_empty() { None } else { Acl::parse(value)? };
    if !inode.keeps_acls() {
        return Err(Errno::EOPNOTSUPP);
    }
    if name == acl::DEFAULT && !path.dentry.is_directory() {
        return if list.is_some() { Err(Errno::EACCES) } else { Ok(()) };
    }
    let owner = inode.owner()?;
    if !is_owner(lookup.cred, &owner) {
        return Err(Errno::EPERM);
    }
    if let Some(list) = &list {
        list.check()?;
    }
    let mut mode = AclMode::default();
    let mut value = list.as_ref().map(Acl::value);
    if name == acl::ACCESS {
        mode.drop_set_gid = !lookup.cred.in_group(owner.gid) && !lookup.cred.has(cap::FSETID);
        if let Some((permissions, all)) = list.map(|list| list.mode()) {
            mode.permissions = Some(permissions);
            value = value.filter(|_| !all);
        }
    }
    inode.set_acl(name, value, &mode)?;
    notify::happened(&path.dentry, raw::IN_ATTRIB);
    Ok(())
}

/// setxattr(2); `flags` are `XATTR_CREATE` and `XATTR_REPLACE`.
pub fn set_xattr(lookup: &Lookup<'_>, target: &Target, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
    if flags & !(raw::XATTR_CREATE | raw::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    if value.len() > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let path = place(target)?;
    may(lookup, path, name, true)?;
    has_suffix(name)?;
    if acl::is_name(name) {
        return set_acl(lookup, path, name, value);
    }
    path.inode().set_xattr(name, Some(value), flags)?;
    notify::happened(&path.dentry, raw::IN_ATTRIB);
    Ok(())
}

/// removexattr(2): `ENODATA`.
pub fn remove_xattr(lookup: &Lookup<'_>, target: &Target, name: &[u8]) -> Result<()> {
    let path = place(target)?;
    may(lookup, path, name, true)?;
    has_suffix(name)?;
    if acl::is_name(name) {
        return set_acl(lookup, path, name, &[]);
    }
    path.inode().set_xattr(name, None, raw::XATTR_REPLACE)?;
    notify::happened(&path.dentry, raw::IN_ATTRIB);
    Ok(())
}

/// listxattr(2): names, each with its NUL; `trusted.` names only for who may read them.
pub fn list_xattr(lookup: &Lookup<'_>, target: &Target) -> Result<Vec<u8>> {
    let Target::Place(path) = target else { return Ok(Vec::new()) };
    let names = path.inode().list_xattr()?;
    if lookup.cred.has(cap::SYS_ADMIN) {
        return Ok(names);
    }
    let visible = |name: &&[u8]| !name.starts_with(b"trusted.");
    Ok(names.split_inclusive(|&byte| byte == 0).filter(visible).flatten().copied().collect())
}
