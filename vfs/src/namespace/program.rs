//! Finding and opening what execve(2) is to run.

use super::permission::{Access, check, check_path};
use super::{Lookup, MountFlags, Target, WalkFlags, find};
use crate::attributes::{Kind, Owner};
use crate::file::{FileRef, OpenFile};
use crate::{Errno, Result, notify};
use alloc::format;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;

/// The name of a program as `AT_EXECFN` and scripts show it (Linux's alloc_bprm).
pub fn executable_name(base: i32, path: &[u8]) -> Vec<u8> {
    if base == raw::AT_FDCWD || path.first() == Some(&b'/') {
        return path.to_vec();
    }
    let mut name = format!("/dev/fd/{base}").into_bytes();
    if !path.is_empty() {
        name.push(b'/');
        name.extend_from_slice(path);
    }
    name
}

/// Opens a program: `EACCES` unless it is a regular file that the caller may execute, on a mount that allows it.
pub fn open_executable(lookup: &Lookup<'_>, path: &[u8]) -> Result<FileRef> {
    open_executable_at(lookup, raw::AT_FDCWD, path, 0)
}

/// As [`open_executable`], with execveat(2)'s base and flags (`AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`).
pub fn open_executable_at(lookup: &Lookup<'_>, base: i32, path: &[u8], flags: u32) -> Result<FileRef> {
    let path = match find(lookup, base, path, WalkFlags::from_at(flags))? {
        Target::Place(path) => path,
        // A memfd.
        Target::File(file) => {
            let attributes = file.ops.attributes().map_err(|_| Errno::EACCES)?;
            if attributes.kind() != Kind::Regular {
                return Err(Errno::EACCES);
            }
            check(lookup.cred, &Owner::from(&attributes), Access::EXECUTE)?;
            return Ok(OpenFile::new(file.ops.clone(), None, raw::O_RDONLY | raw::O_LARGEFILE));
        }
    };
    match path.dentry.kind() {
        Kind::Regular => {}
        Kind::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if path.mount.flags().contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    check_path(lookup.cred, &path, Access::EXECUTE)?;
    let flags = raw::O_RDONLY | raw::O_LARGEFILE;
    let ops = path.inode().clone().open(flags)?;
    let file = OpenFile::new(ops, Some(path), flags);
    notify::through(&file, raw::IN_OPEN);
    // Its header is read in any case.
    notify::read(&file);
    Ok(file)
}

/// Size of an open file; 0 if it has none.
pub fn file_size(file: &FileRef) -> u64 {
    let attributes = match &file.path {
        Some(path) => path.inode().attributes(),
        None => file.ops.attributes(),
    };
    attributes.map_or(0, |attributes| attributes.size)
}
