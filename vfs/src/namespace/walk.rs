//! Path walking, as Linux's fs/namei.c does it (path_resolution(7), openat2(2)).

use super::permission::{Access, check_owned, owner_of, searches_all};
use super::texts::{Name, Texts, component_length, only_slashes};
use super::{Dentry, Lookup, NAME_MAX, PATH_MAX, Path};
use crate::attributes::{Attributes, Kind};
use crate::file::{FileOps, FileRef};
use crate::inode::LinkTarget;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;

/// Symbolic links followed at most (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

bitflags::bitflags! {
    /// How to walk.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link at the end.
        const FOLLOW = 1;
        /// What is found must be a directory.
        const DIRECTORY = 2;
        /// An empty path means the base itself (`AT_EMPTY_PATH`).
        const EMPTY = 4;
    }
}

impl WalkFlags {
    /// From `AT_SYMLINK_NOFOLLOW`, `AT_SYMLINK_FOLLOW` and `AT_EMPTY_PATH`, for calls that follow unless told otherwise.
    pub fn from_at(flags: u32) -> WalkFlags {
        let mut walk = WalkFlags::empty();
        walk.set(WalkFlags::FOLLOW, flags & raw::AT_SYMLINK_NOFOLLOW == 0);
        walk.set(WalkFlags::EMPTY, flags & raw::AT_EMPTY_PATH != 0);
        walk
    }
}

bitflags::bitflags! {
    /// openat2(2)'s `RESOLVE_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Resolve: u64 {
        /// Stay in the mount.
        const NO_XDEV = raw::RESOLVE_NO_XDEV as u64;
        /// Do not jump to where links of `/proc` lead.
        const NO_MAGICLINKS = raw::RESOLVE_NO_MAGICLINKS as u64;
        /// Follow no symbolic link.
        const NO_SYMLINKS = raw::RESOLVE_NO_SYMLINKS as u64;
        /// Stay below the base.
        const BENEATH = raw::RESOLVE_BENEATH as u64;
        /// Treat the base as the root.
        const IN_ROOT = raw::RESOLVE_IN_ROOT as u64;
        /// Ask no filesystem.
        const CACHED = raw::RESOLVE_CACHED as u64;
    }
}

impl Resolve {
    fn scoped(self) -> bool {
        self.intersects(Resolve::BENEATH | Resolve::IN_ROOT)
    }
}

/// What a path or a descriptor leads to.
#[derive(Clone)]
pub enum Target {
    /// A place in the tree.
    Place(Path),
    /// An open file without a place in the tree (a pipe, a socket), through a descriptor or `/proc/PID/fd`.
    File(FileRef),
}

impl Target {
    /// The place, for calls that only work on such.
    pub fn place(self) -> Result<Path> {
        match self {
            Target::Place(path) => Ok(path),
            Target::File(_) => Err(Errno::ENOTDIR),
        }
    }
}

/// What an open file is open on, for the calls that take a descriptor in place of a path.
pub fn target_of(file: &FileRef) -> Target {
    match &file.path {
        Some(path) => Target::Place(path.clone()),
        None => Target::File(file.clone()),
    }
}

/// The last component of a path, and whether a slash follows it.
pub(super) struct Last<'a> {
    pub name: Name<'a>,
    pub slash: bool,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    lookup: &'a Lookup<'a>,
    resolve: Resolve,
    /// The root, once it plays a part: to look for it costs references.
    root: Option<Path>,
    /// Where it is.
    pub at: Path,
    /// Its attributes, if finding it told them.
    pub told: Option<Attributes>,
    /// An object without a place that a magic link led to; the walk ends there.
    pub object: Option<FileRef>,
    texts: Texts<'a>,
    links: u32,
    /// It has leapt, or tried to.
    leapt: bool,
    /// A slash behind the last component asks for a directory.
    pub must_be_directory: bool,
    /// The root has played a part: an absolute path or link, `..`.
    rooted: bool,
}

impl<'a> Walk<'a> {
    /// A walk of a path that is not empty: `ENOENT`, `ENAMETOOLONG`, `EBADF`, `ENOTDIR`, `EXDEV`.
    pub fn new(lookup: &'a Lookup<'a>, base: i32, path: &'a [u8], resolve: Resolve) -> Result<Walk<'a>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let absolute = path.first() == Some(&b'/');
        if absolute && resolve.contains(Resolve::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let at = if absolute && !resolve.scoped() {
            lookup.fs.root()
        } else if base == raw::AT_FDCWD {
            lookup.fs.cwd()
        } else {
            lookup.files.use_any(base)?.path.clone().ok_or(Errno::ENOTDIR)?
        };
        let root = resolve.scoped().then(|| at.clone());
        let texts = Texts::new(path);
        let rooted = absolute || resolve.scoped();
        let walk = Walk {
            lookup,
            resolve,
            root,
            at,
            told: None,
            object: None,
            texts,
            links: 0,
            leapt: false,
            must_be_directory: false,
            rooted,
        };
        if walk.at.dentry.is_directory() { Ok(walk) } else { Err(Errno::ENOTDIR) }
    }

    fn root(&mut self) -> &Path {
        let fs = self.lookup.fs;
        self.root.get_or_insert_with(|| fs.root())
    }

    /// Goes on to the last but one of the plain names that it remembers, where a filesystem has to be asked whether they still mean
    /// what they meant: it is asked once about all of them.
    fn leap(&mut self) {
        if self.leapt || self.links > 0 || !self.resolve.is_empty() || self.at.inode().cacheable() {
            return;
        }
        self.leapt = true;
        let path = self.texts.rest();
        let (mut at, mut names, mut length) = (self.at.dentry.clone(), 0, 0);
        loop {
            let slashes = path.iter().skip(length).take_while(|&&byte| byte == b'/').count();
            let rest = path.get(length + slashes..).unwrap_or(&[]);
            let (name, behind) = rest.split_at(component_length(rest));
            if only_slashes(behind) || matches!(name, b"." | b"..") {
                break;
            }
            match at.remembered(name) {
                Some(below) if below.is_directory() && !below.is_mountpoint() => at = below,
                _ => break,
            }
            (names, length) = (names + 1, length + slashes + name.len());
        }
        // One name costs as much when it is walked.
        if names < 2 {
            return;
        }
        let names = path.get(..length).unwrap_or(&[]);
        if let Some(told) = self.at.inode().status_below(self.lookup.cred, names, &**at.inode()) {
            self.at.dentry = at;
            self.told = Some(told);
            self.texts.advance(length);
        }
    }

    /// Walks up to the last component; `None` if there is none (the path is `/`).
    pub fn walk_to_last(&mut self) -> Result<Option<Last<'a>>> {
        loop {
            if !self.texts.more() {
                return Ok(None);
            }
            self.leap();
            if !self.texts.more() {
                return Ok(None);
            }
            self.check_search()?;
            let name = self.texts.take_component();
            // It is the filesystem that finds a name too long, and nobody asks it about a directory that is gone.
            if name.bytes().len() > NAME_MAX {
                return Err(if self.at.dentry.is_removed() { Errno::ENOENT } else { Errno::ENAMETOOLONG });
            }
            if self.texts.is_outermost() && only_slashes(self.texts.rest()) {
                let slash = !self.texts.rest().is_empty();
                self.must_be_directory |= slash;
                return Ok(Some(Last { name, slash }));
            }
            self.step(&name, true)?;
        }
    }

    fn check_search(&self) -> Result<()> {
        if self.object.is_some() || !self.at.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if searches_all(self.lookup.cred) {
            return Ok(());
        }
        let inode = &**self.at.inode();
        check_owned(self.lookup.cred, inode, &owner_of(inode, self.told.as_ref())?, Access::EXECUTE)
    }

    /// Goes on by one component. `true` if that was a symbolic link whose text is to be walked now.
    pub fn step(&mut self, name: &Name<'_>, follow: bool) -> Result<bool> {
        match name.bytes() {
            b"." => Ok(false),
            b".." => self.dot_dot().map(|()| false),
            bytes => {
                let cached_only = self.resolve.contains(Resolve::CACHED);
                let dentry = self.at.dentry.lookup(bytes, cached_only, &mut self.told)?;
                self.step_into(dentry, follow)
            }
        }
    }

    /// Goes to a child of where it is, into what is mounted there, or on to where a symbolic link leads. What finding the child told is
    /// in [`Self::told`].
    pub fn step_into(&mut self, dentry: Arc<Dentry>, follow: bool) -> Result<bool> {
        let link = follow && dentry.kind() == Kind::Symlink;
        if !link && !dentry.is_mountpoint() {
            // Mostly: the mount stays, and so does the reference to it.
            self.at.dentry = dentry;
            return Ok(false);
        }
        // What is mounted there is another inode, and a link leads on.
        self.told = None;
        let path = Path { mount: self.at.mount.clone(), dentry }.entered();
        self.check_mount(&path)?;
        if follow && path.dentry.kind() == Kind::Symlink {
            return self.follow(&path);
        }
        self.at = path;
        Ok(false)
    }

    fn check_mount(&self, to: &Path) -> Result<()> {
        let crosses = self.resolve.contains(Resolve::NO_XDEV) && !Arc::ptr_eq(&to.mount, &self.at.mount);
        if crosses { Err(Errno::EXDEV) } else { Ok(()) }
    }

    fn dot_dot(&mut self) -> Result<()> {
        self.rooted = true;
        self.told = None;
        let mut at = self.at.clone();
        loop {
            if at.is(self.root()) {
                return if self.resolve.contains(Resolve::BENEATH) { Err(Errno::EXDEV) } else { Ok(()) };
            }
            if !at.is_mount_root() {
                break;
            }
            match at.mount.mountpoint() {
                Some(place) => at = place,
                None => return Ok(()),
            }
        }
        let Some(dentry) = at.dentry.parent() else { return Ok(()) };
        let up = Path { mount: at.mount, dentry }.entered();
        self.check_mount(&up)?;
        self.at = up;
        Ok(())
    }

    fn follow(&mut self, link: &Path) -> Result<bool> {
        self.links += 1;
        if self.links > LINKS_MAX || self.resolve.contains(Resolve::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        match link.inode().read_link()? {
            LinkTarget::Text(text) => self.follow_text(text).map(|()| true),
            LinkTarget::Object(file, _) => self.jump(&file).map(|()| false),
        }
    }

    fn follow_text(&mut self, text: Vec<u8>) -> Result<()> {
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        if text.first() == Some(&b'/') {
            if self.resolve.contains(Resolve::BENEATH) {
                return Err(Errno::EXDEV);
            }
            // Linux compares with a root that it has not looked for before the first absolute path or `..` (nd_jump_root).
            if self.resolve.contains(Resolve::NO_XDEV) && !self.rooted {
                return Err(Errno::EXDEV);
            }
            let root = self.root().clone();
            self.check_mount(&root)?;
            self.rooted = true;
            self.at = root;
        }
        self.texts.push(text);
        Ok(())
    }

    fn jump(&mut self, file: &FileRef) -> Result<()> {
        if self.resolve.contains(Resolve::NO_MAGICLINKS) {
            return Err(Errno::ELOOP);
        }
        if self.resolve.scoped() {
            return Err(Errno::EXDEV);
        }
        match &file.path {
            Some(path) => {
                self.check_mount(path)?;
                self.at = path.clone();
            }
            None => self.object = Some(file.clone()),
        }
        Ok(())
    }

    /// Walks to the end.
    pub fn finish(mut self, flags: WalkFlags) -> Result<Target> {
        self.go_to_end(flags, |_, _| None::<()>)?;
        self.arrived()
    }

    /// Walks to the end, unless `arrive` does at the last name.
    pub fn go_to_end<T>(
        &mut self,
        flags: WalkFlags,
        mut arrive: impl FnMut(&mut Self, &Name<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.must_be_directory |= flags.contains(WalkFlags::DIRECTORY);
        let mut follow = flags.contains(WalkFlags::FOLLOW);
        while let Some(Last { name, slash }) = self.walk_to_last()? {
            if !self.must_be_directory
                && let Some(arrived) = arrive(self, &name)
            {
                return Ok(Some(arrived));
            }
            // From there on: a link that the first one leads to has lost sight of the slash.
            follow |= slash;
            if !self.step(&name, follow)? {
                break;
            }
        }
        Ok(None)
    }

    /// Goes to the regular file that a name of a directory is remembered to be, where the filesystem has to be asked whether it still is,
    /// and opens it: both are one question.
    pub fn open_remembered(&mut self, name: &Name<'_>, flags: u32) -> Option<Arc<dyn FileOps>> {
        let directory = self.at.inode();
        if name.is_dots() || !self.resolve.is_empty() || directory.cacheable() {
            return None;
        }
        let dentry = self.at.dentry.remembered(name.bytes())?;
        if dentry.kind() != Kind::Regular || dentry.is_mountpoint() {
            return None;
        }
        let (opened, told) = dentry.inode().clone().open_named(&**directory, name.bytes(), flags)?;
        self.at.dentry = dentry;
        self.told = Some(told);
        Some(opened)
    }

    fn check_directory(&self) -> Result<()> {
        let directory = self.object.is_none() && self.at.dentry.is_directory();
        if self.must_be_directory && !directory { Err(Errno::ENOTDIR) } else { Ok(()) }
    }

    /// Where it is now, checked to be a directory if it must be one.
    pub fn arrived(self) -> Result<Target> {
        self.check_directory()?;
        Ok(match self.object {
            Some(file) => Target::File(file),
            None => Target::Place(self.at),
        })
    }
}

/// The directory that a path's last component is in, and that component (`None`: the path is `/`).
pub(super) struct Parent<'a> {
    pub directory: Path,
    pub last: Option<Last<'a>>,
}

impl<'a> Parent<'a> {
    /// Walks to it; a symbolic link at the end is not followed.
    pub fn find(lookup: &'a Lookup<'a>, base: i32, path: &'a [u8]) -> Result<Parent<'a>> {
        let mut walk = Walk::new(lookup, base, path, Resolve::empty())?;
        let last = walk.walk_to_last()?;
        Ok(Parent { directory: walk.at, last })
    }

    /// The last component, if it is a name and not `.`, `..` or `/`.
    pub fn name(&self) -> Option<&[u8]> {
        self.last.as_ref().filter(|last| !last.name.is_dots()).map(|last| last.name.bytes())
    }

    /// Whether a slash follows the name.
    pub fn slash(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.slash)
    }
}

/// What a path leads to.
pub fn find(lookup: &Lookup<'_>, base: i32, path: &[u8], flags: WalkFlags) -> Result<Target> {
    if path.is_empty() && flags.contains(WalkFlags::EMPTY) {
        return find_base(lookup, base);
    }
    Walk::new(lookup, base, path, Resolve::empty())?.finish(flags)
}

/// What stat(2) tells of what a path leads to, with `AT_*` flags: no filesystem is asked twice.
pub fn status_at(lookup: &Lookup<'_>, base: i32, path: &[u8], at_flags: u32) -> Result<Attributes> {
    let flags = WalkFlags::from_at(at_flags);
    if path.is_empty() && flags.contains(WalkFlags::EMPTY) {
        return super::status(&find_base(lookup, base)?);
    }
    let mut walk = Walk::new(lookup, base, path, Resolve::empty())?;
    walk.go_to_end(flags, |_, _| None::<()>)?;
    walk.check_directory()?;
    match (&walk.object, walk.told) {
        (Some(file), _) => file.ops.attributes(),
        (None, Some(told)) => Ok(told),
        (None, None) => walk.at.inode().attributes(),
    }
}

/// As [`find`], with `AT_*` flags, for calls that follow unless told otherwise.
pub fn find_at(lookup: &Lookup<'_>, base: i32, path: &[u8], at_flags: u32) -> Result<Target> {
    find(lookup, base, path, WalkFlags::from_at(at_flags))
}

pub(super) fn find_base(lookup: &Lookup<'_>, base: i32) -> Result<Target> {
    if base == raw::AT_FDCWD {
        return Ok(Target::Place(lookup.fs.cwd()));
    }
    lookup.files.use_any(base).map(|file| target_of(&file))
}

/// The place that a path leads to, for calls that need one: `ENOTDIR` for an open file without one.
pub fn resolve(
    lookup: &Lookup<'_>,
    base: i32,
    path: &[u8],
    flags: WalkFlags,
    resolve: Resolve,
) -> Result<Path> {
    if path.is_empty() && flags.contains(WalkFlags::EMPTY) {
        return find_base(lookup, base)?.place();
    }
    Walk::new(lookup, base, path, resolve)?.finish(flags)?.place()
}

/// readlinkat(2): the text of a symbolic link; with an empty path, of the one that `base` is open on. `EINVAL`.
pub fn read_link(lookup: &Lookup<'_>, base: i32, path: &[u8]) -> Result<Vec<u8>> {
    let not_a_link = if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL };
    let Target::Place(place) = find(lookup, base, path, WalkFlags::EMPTY)? else { return Err(not_a_link) };
    if place.dentry.kind() != Kind::Symlink {
        return Err(not_a_link);
    }
    match place.inode().read_link()? {
        LinkTarget::Text(text) | LinkTarget::Object(_, text) => Ok(text),
    }
}
