//! unlink(2), rmdir(2).

use super::Lookup;
use super::permission::{may_delete, want_write};
use super::walk::Parent;
use crate::attributes::Kind;
use crate::{Errno, Result, notify};
use linux_raw_sys::general as raw;

/// unlinkat(2) without `AT_REMOVEDIR`.
pub fn unlink(lookup: &Lookup<'_>, base: i32, path: &[u8]) -> Result<()> {
    let parent = Parent::find(lookup, base, path)?;
    let name = parent.name().ok_or(Errno::EISDIR)?;
    let directory = &parent.directory;
    want_write(directory)?;
    // The victim lives until the directory's lock is released: its end may be the end of its data.
    let victim = {
        let _ops = directory.dentry.lock_ops();
        let victim = directory.dentry.lookup_locked(name)?;
        if parent.slash() {
            let kind = victim.kind();
            return Err(if kind == Kind::Directory { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        may_delete(lookup.cred, directory, &victim, false)?;
        if victim.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        directory.inode().unlink(name)?;
        directory.dentry.detach(name);
        victim
    };
    let kind = victim.kind();
    notify::happened_to_inode(&victim, raw::IN_ATTRIB);
    drop(victim);
    notify::name_changed(&directory.dentry, name, kind, raw::IN_DELETE, 0);
    Ok(())
}

/// rmdir(2), unlinkat(2) with `AT_REMOVEDIR`.
pub fn remove_directory(lookup: &Lookup<'_>, base: i32, path: &[u8]) -> Result<()> {
    let parent = Parent::find(lookup, base, path)?;
    let Some(name) = parent.name() else {
        return Err(match parent.last.as_ref().map(|last| last.name.bytes()) {
            Some(b".") => Errno::EINVAL,
            Some(_) => Errno::ENOTEMPTY,
            None => Errno::EBUSY,
        });
    };
    let directory = &parent.directory;
    want_write(directory)?;
    let victim = {
        let _ops = directory.dentry.lock_ops();
        let victim = directory.dentry.lookup_locked(name)?;
        may_delete(lookup.cred, directory, &victim, true)?;
        if victim.is_mountpoint() {
            return Err(Errno::EBUSY);
        }
        // Nobody makes anything in it while it goes.
        let _inside = victim.lock_ops();
        directory.inode().rmdir(name)?;
        directory.dentry.detach(name);
        victim.clone()
    };
    victim.drop_absent();
    drop(victim);
    notify::name_changed(&directory.dentry, name, Kind::Directory, raw::IN_DELETE, 0);
    Ok(())
}
