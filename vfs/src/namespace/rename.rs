//! rename(2), renameat2(2).

use super::permission::{Access, check_inode, may_create, may_delete, want_write};
use super::walk::Parent;
use super::{Dentry, Lookup, Path};
use crate::{Errno, Result, notify};
use alloc::sync::Arc;
use linux_raw_sys::general as raw;

const NOREPLACE: u32 = raw::RENAME_NOREPLACE;
const EXCHANGE: u32 = raw::RENAME_EXCHANGE;

/// renameat2(2). `RENAME_WHITEOUT` is refused with `EINVAL`, as by filesystems that do not have it.
pub fn rename(
    lookup: &Lookup<'_>,
    old_base: i32,
    old: &[u8],
    new_base: i32,
    new: &[u8],
    flags: u32,
) -> Result<()> {
    if flags & !(NOREPLACE | EXCHANGE) != 0 || flags == NOREPLACE | EXCHANGE {
        return Err(Errno::EINVAL);
    }
    let from = Parent::find(lookup, old_base, old)?;
    let to = Parent::find(lookup, new_base, new)?;
    if !Arc::ptr_eq(&from.directory.mount, &to.directory.mount) {
        return Err(Errno::EXDEV);
    }
    let old_name = from.name().ok_or(Errno::EBUSY)?;
    let taken = if flags & NOREPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY };
    let new_name = to.name().ok_or(taken)?;
    want_write(&from.directory)?;

    let (first, second) = (&from.directory.dentry, &to.directory.dentry);
    let same_directory = Arc::ptr_eq(first, second);
    let tree = first.tree().clone();
    // With it no directory changes its parent, so what is above what stays true.
    let _still = (!same_directory).then(|| tree.rename.lock());
    // A directory before what is below it, as when a directory is removed; otherwise by address.
    let swap = match () {
        () if second.contains(first) => true,
        () if first.contains(second) => false,
        () => Arc::as_ptr(first) > Arc::as_ptr(second),
    };
    let (outer, inner) = if swap { (second, first) } else { (first, second) };
    let held = {
        let _outer = outer.lock_ops();
        let _inner = (!same_directory).then(|| inner.lock_ops());
        let source = first.lookup_locked(old_name)?;
        if second.is_removed() {
            return Err(Errno::ENOENT);
        }
        let target = match second.lookup_locked(new_name) {
            Err(Errno::ENOENT) => None,
            other => Some(other?),
        };
        let case = Case {
            source: &source,
            target: target.as_ref(),
            flags,
            slashes: (from.slash(), to.slash()),
            above: (source.contains(second), target.as_ref().is_some_and(|target| target.contains(first))),
        };
        case.check()?;
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(target.inode(), source.inode())) {
            return Ok(());
        }
        may_rename(lookup, (&from.directory, &source), (&to.directory, target.as_ref()), flags)?;
        // A directory that is replaced must stay empty while it goes.
        let replaced = target.as_ref().filter(|target| flags & EXCHANGE == 0 && target.is_directory());
        let _inside = replaced.map(|target| target.lock_ops());
        from.directory.inode().rename(old_name, to.directory.inode(), new_name, flags)?;
        match &target {
            Some(target) if flags & EXCHANGE != 0 => Dentry::exchange_children(&source, target),
            _ => first.move_child(&source, second, new_name),
        }
        (source.clone(), target.clone())
    };
    if let Some(replaced) = held.1.as_ref().filter(|_| flags & EXCHANGE == 0) {
        replaced.drop_absent();
    }
    let (source, target) = held;
    if flags & EXCHANGE != 0 {
        notify::moved((first, old_name), (second, new_name), &source, None);
        if let Some(target) = &target {
            notify::moved((second, new_name), (first, old_name), target, None);
        }
    } else {
        notify::moved((first, old_name), (second, new_name), &source, target.as_ref());
    }
    Ok(())
}

/// What Linux's do_renameat2 looks at before permissions.
struct Case<'a, D> {
    source: &'a D,
    target: Option<&'a D>,
    flags: u32,
    /// Whether a slash follows the old and the new name.
    slashes: (bool, bool),
    /// Whether the source is above the new place, and the target above the old one.
    above: (bool, bool),
}

trait IsDirectory {
    fn is_directory(&self) -> bool;
}

impl IsDirectory for Arc<Dentry> {
    fn is_directory(&self) -> bool {
        Dentry::is_directory(self)
    }
}

impl<D: IsDirectory> Case<'_, D> {
    fn check(&self) -> Result<()> {
        let exchange = self.flags & EXCHANGE != 0;
        match self.target {
            Some(_) if self.flags & NOREPLACE != 0 => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if exchange && self.slashes.1 && !target.is_directory() => {
                return Err(Errno::ENOTDIR);
            }
            _ => {}
        }
        if !self.source.is_directory() && (self.slashes.0 || !exchange && self.slashes.1) {
            return Err(Errno::ENOTDIR);
        }
        match self.above {
            (true, _) => Err(Errno::EINVAL),
            (_, true) if exchange => Err(Errno::EINVAL),
            (_, true) => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }
}

/// Permissions, kinds, and what is in use.
fn may_rename(
    lookup: &Lookup<'_>,
    (from, source): (&Path, &Arc<Dentry>),
    (to, target): (&Path, Option<&Arc<Dentry>>),
    flags: u32,
) -> Result<()> {
    let cred = lookup.cred;
    if target.is_none() && to.inode().is_immutable() {
        return Err(Errno::ENOENT);
    }
    may_delete(cred, from, source, source.is_directory())?;
    match target {
        None => may_create(cred, to, None).map(drop)?,
        Some(target) if flags & EXCHANGE != 0 => may_delete(cred, to, target, target.is_directory())?,
        Some(target) => may_delete(cred, to, target, source.is_directory())?,
    }
    // A directory that changes its parent has its `..` written.
    if !Arc::ptr_eq(&from.dentry, &to.dentry) {
        let exchanged = target.filter(|_| flags & EXCHANGE != 0);
        for moved in [Some(source), exchanged].into_iter().flatten() {
            if moved.is_directory() {
                check_inode(cred, &**moved.inode(), Access::WRITE)?;
            }
        }
    }
    if source.is_mountpoint() || target.is_some_and(|target| target.is_mountpoint()) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node(bool);

    impl IsDirectory for Node {
        fn is_directory(&self) -> bool {
            self.0
        }
    }

    const FILE: Node = Node(false);
    const DIRECTORY: Node = Node(true);

    fn case<'a>(source: &'a Node, target: Option<&'a Node>, flags: u32) -> Case<'a, Node> {
        Case { source, target, flags, slashes: (false, false), above: (false, false) }
    }

    #[test]
    fn flags_decide_whether_the_target_must_exist() {
        assert_eq!(case(&FILE, Some(&FILE), NOREPLACE).check(), Err(Errno::EEXIST));
        assert_eq!(case(&FILE, None, EXCHANGE).check(), Err(Errno::ENOENT));
        assert_eq!(case(&FILE, None, NOREPLACE).check(), Ok(()));
        assert_eq!(case(&FILE, Some(&DIRECTORY), EXCHANGE).check(), Ok(()));
    }

    #[test]
    fn slashes_ask_for_directories() {
        let slash =
            |source, slashes, flags| Case { slashes, ..case(source, Some(&DIRECTORY), flags) }.check();
        assert_eq!(slash(&FILE, (true, false), 0), Err(Errno::ENOTDIR));
        assert_eq!(slash(&FILE, (false, true), 0), Err(Errno::ENOTDIR));
        assert_eq!(slash(&FILE, (false, true), EXCHANGE), Ok(()));
        assert_eq!(slash(&DIRECTORY, (true, true), 0), Ok(()));
    }

    #[test]
    fn a_directory_cannot_go_into_itself_nor_over_what_is_above_it() {
        let above = |above, flags| Case { above, ..case(&DIRECTORY, Some(&DIRECTORY), flags) }.check();
        assert_eq!(above((true, false), 0), Err(Errno::EINVAL));
        assert_eq!(above((false, true), 0), Err(Errno::ENOTEMPTY));
        assert_eq!(above((false, true), EXCHANGE), Err(Errno::EINVAL));
    }
}
