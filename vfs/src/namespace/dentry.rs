//! Dentries: names in the tree and what they mean, kept so that a second look costs no question to the filesystem.
//!
//! A directory's dentry holds its children, and a child its parent. Unused children are forgotten when a filesystem has more
//! names than [`cached_names`] (second chance, oldest first), so walking over any number of different names takes bounded
//! memory. Names that do not exist are kept as well.
//!
//! Locks of a dentry, in order: `ops` (changes of the directory, one at a time, and questions to the filesystem), `children`,
//! `place`. Nothing that may be the last reference to a dentry is dropped under `children`.

use super::Tree;
use crate::attributes::{Attributes, Kind};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hashbrown::HashMap;
use kernel::sync::{Mutex, MutexGuard, RwLock};

/// Names of one filesystem that are kept without being in use, at least and at most.
const CACHED_NAMES: core::ops::RangeInclusive<u64> = 8 << 10..=256 << 10;
/// Bytes of the sandbox's memory for each of them: a name with its inode takes about a kibibyte, so all take a thirtieth.
const MEMORY_PER_NAME: u64 = 32 << 10;
/// How many names are looked at when there are too many.
const LOOKS: usize = 8;
/// Names below a dentry that are searched for mountpoints before it is given up.
const MOUNTPOINT_DEPTH: u32 = 8;

/// Where a dentry is.
struct Place {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

/// Names of one filesystem that are kept without being in use: as many as befit the sandbox's memory.
pub(super) fn cached_names() -> usize {
    let memory = kernel::boot::config().map_or(0, |config| config.options.memory_limit);
    (memory / MEMORY_PER_NAME).clamp(*CACHED_NAMES.start(), *CACHED_NAMES.end()) as usize
}

enum Child {
    /// There is no such name; whether that was asked for since eviction last looked.
    Absent(AtomicBool),
    Present(Arc<Dentry>),
}

/// A name in the tree and what it means.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    /// The inode's: asked for at every step of a walk.
    kind: Kind,
    tree: Arc<Tree>,
    place: RwLock<Place>,
    children: RwLock<HashMap<Box<[u8]>, Child>>,
    ops: Mutex<()>,
    /// Mounts on it, in any mount of its filesystem.
    mounted: AtomicU32,
    used: AtomicBool,
    removed: AtomicBool,
    linkable: AtomicBool,
}

/// Names in the order in which they came, for eviction. An entry may be stale.
#[derive(Default)]
pub(super) struct Cache(Mutex<VecDeque<CachedName>>);

/// A directory and a name in it.
type CachedName = (Weak<Dentry>, Box<[u8]>);

/// What is known of a name.
enum Known {
    Nothing,
    Absent,
    Present(Arc<Dentry>),
}

impl Dentry {
    fn new(inode: Arc<dyn Inode>, tree: Arc<Tree>, parent: Option<Arc<Dentry>>, name: &[u8]) -> Arc<Dentry> {
        Arc::new(Dentry {
            kind: inode.kind(),
            inode,
            tree,
            place: RwLock::new(Place { parent, name: name.into() }),
            children: RwLock::new(HashMap::new()),
            ops: Mutex::new(()),
            mounted: AtomicU32::new(0),
            used: AtomicBool::new(true),
            removed: AtomicBool::new(false),
            linkable: AtomicBool::new(false),
        })
    }

    /// The root of a filesystem.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::new(inode, Arc::default(), None, b"/")
    }

    /// A file without a name (`O_TMPFILE`), shown as `#ino (deleted)` in its directory. `linkable`: linkat(2) may name it.
    pub fn unnamed(self: &Arc<Self>, inode: Arc<dyn Inode>, ino: u64, linkable: bool) -> Arc<Dentry> {
        let name = alloc::format!("#{ino}");
        let dentry = Dentry::new(inode, self.tree.clone(), Some(self.clone()), name.as_bytes());
        dentry.removed.store(true, Ordering::Relaxed);
        dentry.linkable.store(linkable, Ordering::Relaxed);
        dentry
    }

    /// What it means.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The kind of what it means.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == Kind::Directory
    }

    /// What all dentries of its filesystem share.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// The directory it is (or was last) in; `None` for the root of a filesystem.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.read().parent.clone()
    }

    /// Its name.
    pub fn name(&self) -> Vec<u8> {
        self.place.read().name.to_vec()
    }

    /// Whether its name was taken away (or never was there).
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Whether linkat(2) may give it a first name.
    pub fn is_linkable(&self) -> bool {
        self.linkable.load(Ordering::Relaxed)
    }

    /// Whether something is mounted on it somewhere.
    pub fn is_mountpoint(&self) -> bool {
        self.mounted.load(Ordering::Acquire) != 0
    }

    pub(super) fn add_mount(&self) {
        self.mounted.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn remove_mount(&self) {
        self.mounted.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether `self` is `other` or above it.
    pub fn contains(&self, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other.clone());
        while let Some(dentry) = at {
            if core::ptr::eq(self, &*dentry) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// Makes this directory's changes wait until the guard is dropped.
    pub(super) fn lock_ops(&self) -> MutexGuard<'_, ()> {
        self.ops.lock()
    }

    fn known(&self, name: &[u8]) -> Known {
        match self.children.read().get(name) {
            None => Known::Nothing,
            Some(Child::Absent(used)) => {
                used.store(true, Ordering::Relaxed);
                Known::Absent
            }
            Some(Child::Present(dentry)) => {
                if !dentry.used.load(Ordering::Relaxed) {
                    dentry.used.store(true, Ordering::Relaxed);
                }
                Known::Present(dentry.clone())
            }
        }
    }

    /// The child of this name, if it is known, whether or not that still holds.
    pub(super) fn remembered(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.known(name) {
            Known::Present(dentry) => Some(dentry),
            _ => None,
        }
    }

    /// The child of this name: `ENOENT`, `ENOTDIR`. With `cached_only` `EAGAIN` where the filesystem would have to be asked;
    /// where it was, and that told attributes, they are in `told`.
    pub fn lookup(
        self: &Arc<Self>,
        name: &[u8],
        cached_only: bool,
        told: &mut Option<Attributes>,
    ) -> Result<Arc<Dentry>> {
        *told = None;
        match self.known(name) {
            Known::Absent => return Err(Errno::ENOENT),
            Known::Present(dentry) if self.inode.cacheable() => return Ok(dentry),
            _ if cached_only => return Err(Errno::EAGAIN),
            // Without `ops`: others need not wait for each other's questions.
            Known::Present(dentry) if dentry.inode.revalidate(&*self.inode, name, told) => return Ok(dentry),
            _ => {}
        }
        let found = {
            let _ops = self.ops.lock();
            self.find_locked(name, told)
        };
        self.tree.cache.trim();
        found
    }

    /// As [`Self::lookup`], with `ops` held.
    pub(super) fn lookup_locked(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        self.find_locked(name, &mut None)
    }

    fn find_locked(self: &Arc<Self>, name: &[u8], told: &mut Option<Attributes>) -> Result<Arc<Dentry>> {
        let stale = match self.known(name) {
            Known::Absent => return Err(Errno::ENOENT),
            Known::Present(dentry) => {
                // Mountpoints last: to look for them takes long where many names are known.
                let keep = self.inode.cacheable()
                    || dentry.inode.revalidate(&*self.inode, name, told)
                    || dentry.leads_to_mountpoint(MOUNTPOINT_DEPTH);
                if keep {
                    return Ok(dentry);
                }
                true
            }
            Known::Nothing => false,
        };
        let found = self.inode.lookup_told(name, told);
        // Who may not search the directory has not learnt that the name is gone.
        if stale && found.as_ref().err() != Some(&Errno::EACCES) {
            self.detach(name);
        }
        match found {
            Ok(inode) => Ok(self.attach(name, inode)),
            Err(Errno::ENOENT) if self.inode.cacheable() && !self.is_removed() => {
                self.put(name, Child::Absent(AtomicBool::new(false)));
                Err(Errno::ENOENT)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether something is mounted here, or at most so many names below: then this dentry is the way there.
    fn leads_to_mountpoint(&self, depth: u32) -> bool {
        self.is_mountpoint()
            || depth > 0
                && self.children.read().values().any(
                    |child| matches!(child, Child::Present(below) if below.leads_to_mountpoint(depth - 1)),
                )
    }

    /// Notes that `name` is `inode` now. `ops` is held.
    pub(super) fn attach(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let dentry = Dentry::new(inode, self.tree.clone(), Some(self.clone()), name);
        self.put(name, Child::Present(dentry.clone()));
        dentry
    }

    fn put(self: &Arc<Self>, name: &[u8], child: Child) {
        let old = self.children.write().insert(name.into(), child);
        if old.is_none() {
            self.tree.cache.0.lock().push_back((Arc::downgrade(self), name.into()));
        }
        drop(old);
    }

    /// Notes that `name` is no more. `ops` is held.
    pub(super) fn detach(&self, name: &[u8]) {
        let old = self.children.write().remove(name);
        if let Some(Child::Present(dentry)) = old {
            dentry.removed.store(true, Ordering::Release);
        }
    }

    /// Forgets what is known of a name, without saying that it was removed. `ops` is held.
    pub(super) fn forget(&self, name: &[u8]) {
        let old = self.children.write().remove(name);
        drop(old);
    }

    /// Moves a child to another name, replacing what was there. The `ops` of both directories are held.
    pub(super) fn move_child(
        self: &Arc<Self>,
        child: &Arc<Dentry>,
        new_parent: &Arc<Dentry>,
        new_name: &[u8],
    ) {
        let old_name = child.name();
        let taken = self.children.write().remove(&*old_name);
        new_parent.detach(new_name);
        child.settle(new_parent, new_name);
        new_parent.put(new_name, Child::Present(child.clone()));
        drop(taken);
    }

    /// Exchanges two children (`RENAME_EXCHANGE`). The `ops` of both directories are held.
    pub(super) fn exchange_children(first: &Arc<Dentry>, second: &Arc<Dentry>) {
        let (Some(first_parent), Some(second_parent)) = (first.parent(), second.parent()) else { return };
        let (first_name, second_name) = (first.name(), second.name());
        first.settle(&second_parent, &second_name);
        second.settle(&first_parent, &first_name);
        first_parent.put(&first_name, Child::Present(second.clone()));
        second_parent.put(&second_name, Child::Present(first.clone()));
    }

    fn settle(&self, parent: &Arc<Dentry>, name: &[u8]) {
        let place = Place { parent: Some(parent.clone()), name: name.into() };
        let old = core::mem::replace(&mut *self.place.write(), place);
        drop(old);
    }

    /// Forgets unused names if the filesystem has too many. No lock of a dentry may be held.
    pub(super) fn trim_cache(&self) {
        self.tree.cache.trim();
    }

    /// Lets go of what a removed directory knew not to be in it.
    pub(super) fn drop_absent(&self) {
        let old = core::mem::take(&mut *self.children.write());
        drop(old);
    }

    /// Takes a name out of the cache if nobody uses it: whether it is out.
    fn evict(&self, name: &[u8], force: bool) -> bool {
        let mut children = self.children.write();
        let keep = match children.get(name) {
            None => return true,
            Some(Child::Absent(used)) => used.swap(false, Ordering::Relaxed) && !force,
            // Under the lock nobody can take a reference from the map: one means that only the map has it.
            Some(Child::Present(dentry)) => {
                Arc::strong_count(dentry) > 1 || (dentry.used.swap(false, Ordering::Relaxed) && !force)
            }
        };
        if keep {
            return false;
        }
        let old = children.remove(name);
        drop(children);
        drop(old);
        true
    }
}

#[cfg(test)]
impl Dentry {
    pub(super) fn known_names(&self) -> usize {
        self.children.read().len()
    }
}

#[cfg(test)]
impl Cache {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            crate::notify::name_ended(&self.tree, &*self.inode);
        }
        // Parents are let go in a loop: a chain of last references would recurse as deep as the tree is.
        let mut parent = self.place.get_mut().parent.take();
        while let Some(dentry) = parent {
            parent = Arc::into_inner(dentry).and_then(|mut dentry| dentry.place.get_mut().parent.take());
        }
    }
}

impl Cache {
    /// Forgets some unused names if there are too many. No lock of a dentry may be held.
    pub fn trim(&self) {
        for _ in 0..LOOKS {
            let oldest = {
                let mut names = self.0.lock();
                if names.len() <= cached_names() {
                    return;
                }
                names.pop_front()
            };
            self.look_at(oldest, false);
        }
    }

    /// Forgets all names that are not in use: the filesystem was unmounted.
    pub fn clear(&self) {
        let mut left = usize::MAX;
        loop {
            // A directory can go once its children are gone: round after round, until one finds nothing.
            let names = core::mem::take(&mut *self.0.lock());
            let count = names.len();
            if count == 0 || count >= left {
                self.0.lock().extend(names);
                return;
            }
            left = count;
            // The newest first: children come after their parents.
            for name in names.into_iter().rev() {
                self.look_at(Some(name), true);
            }
        }
    }

    fn look_at(&self, name: Option<CachedName>, force: bool) {
        let Some((parent, name)) = name else { return };
        let Some(directory) = parent.upgrade() else { return };
        if !directory.evict(&name, force) {
            self.0.lock().push_back((parent, name));
        }
    }
}
