//! Who may do what: permission bits, owners and capabilities, on virtual credentials (path_resolution(7), capabilities(7)).
//! A host filesystem may refuse more by itself.

use super::{Dentry, Lookup, Path};
use crate::acl::{self, Acl};
use crate::attributes::{Attributes, Kind, Owner};
use crate::inode::{AclMode, Inode};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::cred::{Cred, cap};
use linux_raw_sys::general as raw;

bitflags::bitflags! {
    /// What is wanted of an inode; the bits are access(2)'s.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Access: u32 {
        /// Execute, or search a directory.
        const EXECUTE = 1;
        /// Write.
        const WRITE = 2;
        /// Read.
        const READ = 4;
    }
}

impl Access {
    /// What opening with `O_*` flags wants.
    pub fn of_open(flags: u32) -> Access {
        let mut access = match flags & raw::O_ACCMODE {
            raw::O_RDONLY => Access::READ,
            raw::O_WRONLY => Access::WRITE,
            _ => Access::READ | Access::WRITE,
        };
        if flags & raw::O_TRUNC != 0 {
            access |= Access::WRITE;
        }
        access
    }
}

fn is_directory(owner: &Owner) -> bool {
    owner.mode & raw::S_IFMT == raw::S_IFDIR
}

/// Linux's generic_permission for what has no access control list: `EACCES`.
pub fn check(cred: &Cred, owner: &Owner, wanted: Access) -> Result<()> {
    if by_mode(cred, owner, wanted) { Ok(()) } else { by_capability(cred, owner, wanted) }
}

/// Linux's generic_permission: `EACCES`.
pub fn check_inode(cred: &Cred, inode: &dyn Inode, wanted: Access) -> Result<()> {
    check_owned(cred, inode, &inode.owner()?, wanted)
}

/// The same, of an inode whose owner is known.
pub(super) fn check_owned(cred: &Cred, inode: &dyn Inode, owner: &Owner, wanted: Access) -> Result<()> {
    // Without bits for the group (the mask) a list gives nobody anything, and whom capabilities let in it does not keep out.
    let decides = owner.acl && cred.fsuid != owner.uid && owner.mode & 0o070 != 0;
    if !decides || by_capability(cred, owner, wanted).is_ok() {
        return check(cred, owner, wanted);
    }
    let acl = inode.xattr(acl::ACCESS).and_then(|value| Acl::kept(&value));
    let granted = match acl {
        Ok(Some(acl)) => acl.permits(cred, owner, wanted).is_ok(),
        // There is none, or it was taken away meanwhile.
        _ => by_mode(cred, owner, wanted),
    };
    if granted { Ok(()) } else { Err(Errno::EACCES) }
}

fn by_mode(cred: &Cred, owner: &Owner, wanted: Access) -> bool {
    let shift = match () {
        () if cred.fsuid == owner.uid => 6,
        () if cred.in_group(owner.gid) => 3,
        () => 0,
    };
    Access::from_bits_truncate(owner.mode >> shift & 7).contains(wanted)
}

fn by_capability(cred: &Cred, owner: &Owner, wanted: Access) -> Result<()> {
    let any_execute = is_directory(owner) || owner.mode & 0o111 != 0;
    let only_looks = !wanted.contains(Access::WRITE) && (is_directory(owner) || wanted == Access::READ);
    let overridden = cred.has(cap::DAC_OVERRIDE) && (!wanted.contains(Access::EXECUTE) || any_execute)
        || cred.has(cap::DAC_READ_SEARCH) && only_looks;
    if overridden { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether the caller may search every directory.
pub(super) fn searches_all(cred: &Cred) -> bool {
    cred.has(cap::DAC_OVERRIDE) || cred.has(cap::DAC_READ_SEARCH)
}

/// Whether the caller may do what only owners may (inode_owner_or_capable).
pub fn is_owner(cred: &Cred, owner: &Owner) -> bool {
    cred.fsuid == owner.uid || cred.has(cap::FOWNER)
}

/// Permission on what a path leads to: `EROFS`, `EACCES`.
pub(super) fn check_path(cred: &Cred, path: &Path, wanted: Access) -> Result<()> {
    check_told(cred, path, None, wanted)
}

/// The same; `told` are its attributes, if finding it told them.
pub(super) fn check_told(cred: &Cred, path: &Path, told: Option<&Attributes>, wanted: Access) -> Result<()> {
    if wanted.contains(Access::WRITE) && path.mount.is_read_only() {
        // Devices and pipes are written to elsewhere.
        if matches!(path.dentry.kind(), Kind::Regular | Kind::Directory | Kind::Symlink) {
            return Err(Errno::EROFS);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let inode = &**path.inode();
    check_owned(cred, inode, &owner_of(inode, told)?, wanted)
}

/// The owner of an inode, from its attributes if finding it told them.
pub(super) fn owner_of(inode: &dyn Inode, told: Option<&Attributes>) -> Result<Owner> {
    match told {
        Some(told) => Ok(Owner { acl: inode.keeps_acls(), ..Owner::from(told) }),
        None => inode.owner(),
    }
}

/// `EROFS` if the mount refuses writes.
pub(super) fn want_write(path: &Path) -> Result<()> {
    if path.mount.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// Whether a name may be put into a directory: `ENOENT` if that was removed or can have no names but its own, `EROFS`, `EACCES`.
/// Gives the directory's owner.
pub(super) fn may_create(cred: &Cred, directory: &Path, told: Option<&Attributes>) -> Result<Owner> {
    if directory.dentry.is_removed() || directory.inode().is_immutable() {
        return Err(Errno::ENOENT);
    }
    want_write(directory)?;
    let inode = &**directory.inode();
    let owner = owner_of(inode, told)?;
    check_owned(cred, inode, &owner, Access::WRITE | Access::EXECUTE)?;
    Ok(owner)
}

/// Whether a file may get one more name (may_linkat, with `fs.protected_hardlinks` as distributions set it): others' files only
/// if they can be read and written and lend nobody's rights.
pub(super) fn may_link(cred: &Cred, source: &Path) -> Result<()> {
    let owner = source.inode().owner()?;
    let lends = owner.mode & raw::S_ISUID != 0
        || owner.mode & (raw::S_ISGID | raw::S_IXGRP) == raw::S_ISGID | raw::S_IXGRP;
    let harmless = owner.mode & raw::S_IFMT == raw::S_IFREG && !lends;
    let allowed = is_owner(cred, &owner)
        || harmless && check_inode(cred, &**source.inode(), Access::READ | Access::WRITE).is_ok();
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether the sticky bit of a directory keeps the caller from taking away a name of `victim`.
pub(super) fn sticky_forbids(cred: &Cred, directory: &Owner, victim: u32) -> bool {
    directory.mode & raw::S_ISVTX != 0
        && cred.fsuid != victim
        && cred.fsuid != directory.uid
        && !cred.has(cap::FOWNER)
}

/// Linux's may_delete: whether `victim` may be taken out of its directory, as a directory or as something else.
pub(super) fn may_delete(
    cred: &Cred,
    directory: &Path,
    victim: &Arc<Dentry>,
    as_directory: bool,
) -> Result<()> {
    let owner = directory.inode().owner()?;
    if directory.mount.is_read_only() {
        return Err(Errno::EROFS);
    }
    if directory.inode().is_immutable() {
        return Err(Errno::EPERM);
    }
    check_owned(cred, &**directory.inode(), &owner, Access::WRITE | Access::EXECUTE)?;
    if owner.mode & raw::S_ISVTX != 0 && sticky_forbids(cred, &owner, victim.inode().owner()?.uid) {
        return Err(Errno::EPERM);
    }
    match (as_directory, victim.is_directory()) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ if directory.dentry.is_removed() => Err(Errno::ENOENT),
        _ => Ok(()),
    }
}

/// What a new node in a directory starts with: its group, its mode, and its access control lists.
pub(super) struct Start {
    pub gid: u32,
    pub mode: u32,
    lists: [Option<Vec<u8>>; 2],
}

impl Start {
    /// `mode` as it was asked for, with its kind; `owner` is the directory's. The default list of the directory stands in for the
    /// umask (posix_acl_create).
    pub fn new(lookup: &Lookup<'_>, directory: &Path, owner: &Owner, mode: u32) -> Result<Start> {
        let inode = directory.inode();
        let (gid, mode) = for_new(lookup.cred, owner, mode);
        let none = Start { gid, mode: mode & !lookup.fs.umask(), lists: [None, None] };
        if mode & raw::S_IFMT == raw::S_IFLNK {
            return Ok(Start { mode, ..none });
        }
        if !inode.keeps_acls() {
            return Ok(none);
        }
        let default = match inode.xattr(acl::DEFAULT) {
            Ok(default) => default,
            // Also of the host's directories that keep none, or that the sandbox may not read.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EACCES) => return Ok(none),
            Err(error) => return Err(error),
        };
        let Some(list) = Acl::kept(&default)? else { return Ok(none) };
        let (mode, own) = list.inherited(mode);
        if inode.hands_acls_on() {
            return Ok(Start { mode, ..none });
        }
        let handed_on = (mode & raw::S_IFMT == raw::S_IFDIR).then_some(default);
        Ok(Start { gid, mode, lists: [own.map(|own| own.value()), handed_on] })
    }

    /// Gives a node that was just made its lists.
    pub fn give_lists(self, made: &dyn Inode) -> Result<()> {
        for (name, value) in [acl::ACCESS, acl::DEFAULT].into_iter().zip(self.lists) {
            if value.is_some() {
                made.set_acl(name, value, &AclMode::default())?;
            }
        }
        Ok(())
    }
}

/// Group and mode of a new node in a directory (inode_init_owner): a set-group-ID directory hands its group on, to
/// directories the bit as well.
fn for_new(cred: &Cred, directory: &Owner, mode: u32) -> (u32, u32) {
    if directory.mode & raw::S_ISGID == 0 {
        return (cred.fsgid, mode);
    }
    let gid = directory.gid;
    if mode & raw::S_IFMT == raw::S_IFDIR {
        return (gid, mode | raw::S_ISGID);
    }
    let both = raw::S_ISGID | raw::S_IXGRP;
    let strip = mode & both == both && !cred.in_group(gid) && !cred.has(cap::FSETID);
    (gid, if strip { mode & !raw::S_ISGID } else { mode })
}

/// What is left of the permission bits when someone writes to a file (or changes its owner): set-user-ID goes, and
/// set-group-ID where it means that and not mandatory locking.
pub(crate) fn without_set_ids(cred: &Cred, owner: &Owner) -> u32 {
    let mut mode = owner.mode & 0o7777 & !raw::S_ISUID;
    let outsider = !cred.in_group(owner.gid) && !cred.has(cap::FSETID);
    if owner.mode & raw::S_IXGRP != 0 || outsider {
        mode &= !raw::S_ISGID;
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, groups: &[u32]) -> Cred {
        Cred::new(uid, uid, groups.to_vec())
    }

    fn file(mode: u32) -> Owner {
        Owner { mode: raw::S_IFREG | mode, uid: 1000, gid: 100, acl: false }
    }

    fn directory(mode: u32) -> Owner {
        Owner { mode: raw::S_IFDIR | mode, ..file(0) }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let (owner, member, other) = (user(1000, &[100]), user(1001, &[100]), user(1002, &[]));
        assert!(check(&owner, &file(0o077), Access::READ).is_err());
        assert!(check(&member, &file(0o707), Access::READ).is_err());
        assert!(check(&other, &file(0o770), Access::READ).is_err());
        assert!(check(&owner, &file(0o700), Access::READ | Access::WRITE | Access::EXECUTE).is_ok());
        assert!(check(&member, &file(0o040), Access::READ).is_ok());
        assert!(check(&other, &file(0o001), Access::EXECUTE).is_ok());
        assert!(check(&other, &file(0o004), Access::READ | Access::WRITE).is_err());
    }

    #[test]
    fn root_overrides_all_but_the_execution_of_what_nobody_can_execute() {
        let root = user(0, &[]);
        assert!(check(&root, &file(0), Access::READ | Access::WRITE).is_ok());
        assert!(check(&root, &file(0o666), Access::EXECUTE).is_err());
        assert!(check(&root, &file(0o100), Access::EXECUTE).is_ok());
        assert!(check(&root, &directory(0), Access::EXECUTE | Access::WRITE).is_ok());
    }

    #[test]
    fn read_search_reads_files_and_searches_directories_only() {
        let mut cred = user(7, &[]);
        cred.effective = 1 << cap::DAC_READ_SEARCH;
        assert!(check(&cred, &file(0), Access::READ).is_ok());
        assert!(check(&cred, &file(0o700), Access::EXECUTE).is_err());
        assert!(check(&cred, &directory(0), Access::READ | Access::EXECUTE).is_ok());
        assert!(check(&cred, &directory(0), Access::WRITE).is_err());
    }

    #[test]
    fn in_a_sticky_directory_only_owners_delete() {
        let tmp = Owner { mode: raw::S_IFDIR | 0o1777, uid: 0, gid: 0, acl: false };
        assert!(sticky_forbids(&user(5, &[]), &tmp, 6));
        assert!(!sticky_forbids(&user(6, &[]), &tmp, 6));
        assert!(!sticky_forbids(&user(0, &[]), &tmp, 6));
        assert!(!sticky_forbids(&user(5, &[]), &directory(0o777), 6));
    }

    #[test]
    fn set_group_id_directories_hand_their_group_on() {
        let shared = directory(0o2775);
        let stranger = user(5, &[]);
        assert_eq!(for_new(&stranger, &directory(0o775), raw::S_IFREG | 0o644), (5, raw::S_IFREG | 0o644));
        assert_eq!(for_new(&stranger, &shared, raw::S_IFDIR | 0o755), (100, raw::S_IFDIR | 0o2755));
        assert_eq!(for_new(&stranger, &shared, raw::S_IFREG | 0o2755), (100, raw::S_IFREG | 0o755));
        assert_eq!(for_new(&user(5, &[100]), &shared, raw::S_IFREG | 0o2755).1, raw::S_IFREG | 0o2755);
    }

    #[test]
    fn writes_take_set_id_bits_away() {
        let modes: Vec<_> = [0o6755, 0o2644, 0o755]
            .iter()
            .map(|&mode| without_set_ids(&user(1000, &[100]), &file(mode)))
            .collect();
        assert_eq!(modes, [0o755, 0o2644, 0o755]);
        assert_eq!(without_set_ids(&user(1, &[]), &file(0o2644)), 0o644);
    }
}
