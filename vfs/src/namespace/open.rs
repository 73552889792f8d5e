//! open(2), openat(2), openat2(2).

use super::permission::{Access, Start, check, check_told, is_owner, may_create, owner_of};
use super::walk::{Last, Walk};
use super::{Dentry, Lookup, MountFlags, Path, Resolve, Target, WalkFlags};
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::file::{FileOps, FileRef, OpenFile};
use crate::inode::{Inode, NewKind, NewNode};
use crate::{Errno, Result, notify};
use alloc::sync::Arc;
use core::any::Any;
use linux_raw_sys::general as raw;

/// Flags that mean something beside `O_PATH`.
const PATH_FLAGS: u32 = raw::O_DIRECTORY | raw::O_NOFOLLOW | raw::O_PATH | raw::O_CLOEXEC;
/// Creation with `O_DIRECTORY` is refused since Linux 6.4.
const CREATE_DIRECTORY: u32 = raw::O_CREAT | raw::O_DIRECTORY;

/// Linux's build_open_flags: `EINVAL` for combinations that mean nothing.
fn checked_flags(flags: u32) -> Result<u32> {
    if flags & raw::O_PATH != 0 {
        return Ok(flags & PATH_FLAGS);
    }
    let unnamed = flags & raw::__O_TMPFILE != 0;
    if unnamed {
        let writes = flags & raw::O_ACCMODE != raw::O_RDONLY;
        if flags & (raw::O_TMPFILE | raw::O_CREAT) != raw::O_TMPFILE || !writes {
            return Err(Errno::EINVAL);
        }
    } else if flags & CREATE_DIRECTORY == CREATE_DIRECTORY {
        return Err(Errno::EINVAL);
    }
    // What a 64-bit kernel adds by itself; F_GETFL shows it.
    let mut flags = flags | raw::O_LARGEFILE;
    if flags & raw::__O_SYNC != 0 {
        flags |= raw::O_DSYNC;
    }
    Ok(flags)
}

/// What open(2) and openat2(2) say of their flags before they look at the path.
/// Gives them as they are kept.
pub fn check_flags(flags: u32, resolve: Resolve) -> Result<u32> {
    let flags = checked_flags(flags)?;
    let changes = raw::O_TRUNC | raw::O_CREAT | raw::__O_TMPFILE;
    if resolve.contains(Resolve::CACHED) && flags & changes != 0 {
        return Err(Errno::EAGAIN);
    }
    Ok(flags)
}

/// Opens a path. `flags` are `O_*`, `mode` the permission bits for a new file, before the umask.
///
/// Errors are open(2)'s. A named pipe may make the call wait.
pub fn open(
    lookup: &Lookup<'_>,
    base: i32,
    path: &[u8],
    flags: u32,
    mode: u32,
    resolve: Resolve,
) -> Result<FileRef> {
    let flags = check_flags(flags, resolve)?;
    let mut walk = Walk::new(lookup, base, path, resolve)?;
    if flags & raw::__O_TMPFILE != 0 {
        let directory = walk.finish(WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?.place()?;
        return open_unnamed(lookup, &directory, flags, mode);
    }
    if flags & raw::O_CREAT == 0 {
        let mut how = WalkFlags::empty();
        how.set(WalkFlags::FOLLOW, flags & raw::O_NOFOLLOW == 0);
        how.set(WalkFlags::DIRECTORY, flags & raw::O_DIRECTORY != 0);
        let opens = flags & raw::O_PATH == 0;
        let opened = walk.go_to_end(how, |walk, name| opens.then(|| walk.open_remembered(name, flags))?)?;
        let told = walk.told;
        return open_target(lookup, walk.arrived()?, told, opened, flags);
    }
    match find_or_create(lookup, &mut walk, flags, mode)? {
        Named::Made(created) => open_place(&created, None, flags & !raw::O_TRUNC),
        Named::Found(_) if flags & raw::O_EXCL != 0 => Err(Errno::EEXIST),
        Named::Found(directory) => {
            let told = walk.told;
            let target = walk.arrived()?;
            if let Target::Place(path) = &target {
                if path.dentry.is_directory() {
                    return Err(Errno::EISDIR);
                }
                may_create_in_sticky(lookup, &directory, path)?;
            }
            open_target(lookup, target, told, None, flags)
        }
    }
}

/// What a walk with `O_CREAT` came to.
enum Named {
    /// A new file.
    Made(Path),
    /// Something that was there, with its directory.
    Found(Path),
}

/// Linux's may_create_in_sticky with `protected_regular` and `protected_fifos` at 0: what somebody else has put into a sticky
/// directory that everybody may write to, and is neither a file nor a pipe, is not opened with `O_CREAT`: `EACCES`.
fn may_create_in_sticky(lookup: &Lookup<'_>, directory: &Path, found: &Path) -> Result<()> {
    if matches!(found.dentry.kind(), Kind::Regular | Kind::Fifo) {
        return Ok(());
    }
    let directory = directory.inode().owner()?;
    let open_to_all = raw::S_ISVTX | raw::S_IWOTH;
    if directory.mode & open_to_all != open_to_all {
        return Ok(());
    }
    let owner = found.inode().owner()?.uid;
    if owner == directory.uid || owner == lookup.cred.fsuid { Ok(()) } else { Err(Errno::EACCES) }
}

/// The end of a walk with `O_CREAT`: `walk` is at what was found.
fn find_or_create(lookup: &Lookup<'_>, walk: &mut Walk<'_>, flags: u32, mode: u32) -> Result<Named> {
    let exclusive = flags & raw::O_EXCL != 0;
    while let Some(Last { name, slash }) = walk.walk_to_last()? {
        if name.is_dots() {
            let directory = walk.at.clone();
            walk.step(&name, false)?;
            return Ok(Named::Found(directory));
        }
        if slash {
            return Err(Errno::EISDIR);
        }
        let (directory, above) = (walk.at.clone(), walk.told);
        let found = match directory.dentry.lookup(name.bytes(), false, &mut walk.told) {
            Err(Errno::ENOENT) => {
                let last = (name.bytes(), exclusive);
                create_or_lookup(lookup, (&directory, above.as_ref()), last, mode)?
            }
            other => (other?, false),
        };
        if found.1 {
            return Ok(Named::Made(Path { mount: directory.mount, dentry: found.0 }));
        }
        if !walk.step_into(found.0, !exclusive && flags & raw::O_NOFOLLOW == 0)? {
            return Ok(Named::Found(directory));
        }
    }
    Ok(Named::Found(walk.at.clone()))
}

/// Makes a regular file at a name that was not there, or finds what came to be there meanwhile; `true` if it was made. The directory
/// comes with its attributes, if finding it told them.
fn create_or_lookup(
    lookup: &Lookup<'_>,
    (directory, told): (&Path, Option<&Attributes>),
    (name, exclusive): (&[u8], bool),
    mode: u32,
) -> Result<(Arc<Dentry>, bool)> {
    let parent = &directory.dentry;
    let _ops = parent.lock_ops();
    // A filesystem that would have to be asked again says so when the file is made.
    if parent.inode().cacheable() || parent.remembered(name).is_some() {
        match parent.lookup_locked(name) {
            Err(Errno::ENOENT) => {}
            other => return Ok((other?, false)),
        }
    }
    let owner = may_create(lookup.cred, directory, told)?;
    let start = Start::new(lookup, directory, &owner, raw::S_IFREG | mode & 0o7777)?;
    match parent.inode().create(name, &regular_node(lookup, &start)) {
        Ok(inode) => {
            start.give_lists(&*inode)?;
            let made = parent.attach(name, inode);
            notify::name_changed(parent, name, Kind::Regular, raw::IN_CREATE, 0);
            Ok((made, true))
        }
        // Someone outside was faster, in a shared directory.
        Err(Errno::EEXIST) if !exclusive => {
            parent.forget(name);
            Ok((parent.lookup_locked(name)?, false))
        }
        Err(error) => Err(error),
    }
}

fn regular_node(lookup: &Lookup<'_>, start: &Start) -> NewNode<'static> {
    NewNode { what: NewKind::Regular, mode: start.mode & 0o7777, uid: lookup.cred.fsuid, gid: start.gid }
}

/// `O_TMPFILE`.
fn open_unnamed(lookup: &Lookup<'_>, directory: &Path, flags: u32, mode: u32) -> Result<FileRef> {
    let owner = may_create(lookup.cred, directory, None)?;
    let start = Start::new(lookup, directory, &owner, raw::S_IFREG | mode & 0o7777)?;
    let inode = directory.inode().create_unnamed(&regular_node(lookup, &start))?;
    start.give_lists(&*inode)?;
    let ino = inode.attributes()?.ino;
    let dentry = directory.dentry.unnamed(inode, ino, flags & raw::O_EXCL == 0);
    open_place(&Path { mount: directory.mount.clone(), dentry }, None, flags & !raw::O_TRUNC)
}

/// Opens what a walk has come to; `told` are its attributes and `opened` is what it opened, if that was one question.
fn open_target(
    lookup: &Lookup<'_>,
    target: Target,
    told: Option<Attributes>,
    opened: Option<Arc<dyn FileOps>>,
    flags: u32,
) -> Result<FileRef> {
    let path = match target {
        Target::Place(path) => path,
        Target::File(file) => return open_again(lookup, &file, flags),
    };
    if flags & raw::O_PATH != 0 {
        let ops = PathOnly { inode: path.inode().clone() };
        return Ok(OpenFile::new(Arc::new(ops), Some(path), flags));
    }
    let access = Access::of_open(flags);
    let mut flags = flags;
    match path.dentry.kind() {
        Kind::Symlink => return Err(Errno::ELOOP),
        Kind::Directory if access.contains(Access::WRITE) => return Err(Errno::EISDIR),
        Kind::CharDevice | Kind::BlockDevice if path.mount.flags().contains(MountFlags::NO_DEV) => {
            return Err(Errno::EACCES);
        }
        Kind::Regular | Kind::Directory => {}
        _ => flags &= !raw::O_TRUNC,
    }
    check_told(lookup.cred, &path, told.as_ref(), access)?;
    let nonblocking = flags & raw::O_NONBLOCK != 0;
    crate::leases::break_for(&path, access.contains(Access::WRITE), nonblocking)?;
    if flags & raw::O_NOATIME != 0 && !is_owner(lookup.cred, &owner_of(&**path.inode(), told.as_ref())?) {
        return Err(Errno::EPERM);
    }
    open_place(&path, opened, flags)
}

/// Opens without asking for permission; `opened`, if that was done already.
fn open_place(path: &Path, opened: Option<Arc<dyn FileOps>>, flags: u32) -> Result<FileRef> {
    if path.dentry.kind() == Kind::Socket {
        return Err(Errno::ENXIO);
    }
    let ops = match opened {
        Some(opened) => opened,
        None => path.inode().clone().open(flags)?,
    };
    let file = OpenFile::new(ops, Some(path.clone()), flags);
    notify::through(&file, raw::IN_OPEN);
    if flags & raw::O_TRUNC != 0 {
        notify::written(&file);
    }
    Ok(file)
}

/// Opens what another description without a place in the tree is open on.
fn open_again(lookup: &Lookup<'_>, file: &FileRef, flags: u32) -> Result<FileRef> {
    if flags & raw::O_PATH != 0 {
        return Ok(OpenFile::new(file.ops.clone(), None, flags));
    }
    if let Ok(attributes) = file.ops.attributes() {
        check(lookup.cred, &Owner::from(&attributes), Access::of_open(flags))?;
    }
    Ok(OpenFile::new(file.ops.reopen(flags)?, None, flags))
}

/// A descriptor that is no more than a place, as `O_PATH` makes it.
pub fn place_only(path: Path) -> FileRef {
    let ops = PathOnly { inode: path.inode().clone() };
    OpenFile::new(Arc::new(ops), Some(path), raw::O_PATH)
}

/// What a descriptor opened with `O_PATH` can do: stand for its place.
struct PathOnly {
    inode: Arc<dyn Inode>,
}

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn attributes(&self) -> Result<Attributes> {
        self.inode.attributes()
    }

    fn set_attributes(&self, _change: &AttributeChange) -> Result<()> {
        Err(Errno::EBADF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_that_mean_nothing_are_refused() {
        assert_eq!(checked_flags(raw::O_CREAT | raw::O_DIRECTORY), Err(Errno::EINVAL));
        assert_eq!(checked_flags(raw::O_TMPFILE), Err(Errno::EINVAL));
        assert_eq!(checked_flags(raw::__O_TMPFILE | raw::O_RDWR), Err(Errno::EINVAL));
        assert_eq!(checked_flags(raw::O_TMPFILE | raw::O_RDWR | raw::O_CREAT), Err(Errno::EINVAL));
        assert!(checked_flags(raw::O_TMPFILE | raw::O_RDWR).is_ok());
    }

    #[test]
    fn o_path_ignores_what_only_matters_for_data() {
        let all = raw::O_PATH | raw::O_RDWR | raw::O_CREAT | raw::O_TRUNC | raw::O_NOFOLLOW;
        assert_eq!(checked_flags(all), Ok(raw::O_PATH | raw::O_NOFOLLOW));
    }
}
