//! inotify(7) and fcntl(2) `F_NOTIFY` (`directory`): who wants to know what happens to an inode, and telling them.
//!
//! What happens is announced from one place each: names in `namespace` (create, link, remove, rename), open files where they
//! are opened, read, written and closed, attributes where they are changed. Each filesystem has a table of its watches by inode;
//! an announcement looks at their number first, so nobody pays for what nobody watches.
//!
//! An inode is told apart by device and inode number, because a filesystem may have several objects for one inode over time.
//! The mark keeps the inode, so its number is not used again while it is watched.

mod directory;
mod instance;

pub(crate) use directory::descriptor_closed;
pub use directory::notify;
pub use instance::{Inotify, init, limits};

use crate::attributes::{AttributeChange, Kind};
use crate::file::OpenFile;
use crate::inode::Inode;
use crate::namespace::{Dentry, Tree};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use hashbrown::HashMap;
use kernel::sync::Mutex;
use linux_raw_sys::general as raw;

/// An inode of a filesystem: device and number.
pub(crate) type InodeKey = (u64, u64);

/// One watch of one instance.
pub(crate) struct Mark {
    instance: Weak<Inotify>,
    /// Watch descriptor.
    wd: i32,
    key: InodeKey,
    tree: Weak<Tree>,
    /// `IN_*` that are wanted, with `IN_ONESHOT` and `IN_EXCL_UNLINK`.
    mask: AtomicU32,
    /// Keeps the inode, so that its number stays its own.
    _inode: Arc<dyn Inode>,
}

/// The watches of one filesystem.
#[derive(Default)]
pub(crate) struct Watches {
    count: AtomicU32,
    marks: Mutex<HashMap<InodeKey, Vec<Arc<Mark>>>>,
    /// Those of fcntl(2) `F_NOTIFY`.
    requests: Mutex<Vec<directory::Request>>,
}

impl Watches {
    fn none(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn of(&self, key: InodeKey) -> Vec<Arc<Mark>> {
        self.marks.lock().get(&key).cloned().unwrap_or_default()
    }

    fn add(&self, mark: &Arc<Mark>) {
        self.marks.lock().entry(mark.key).or_default().push(mark.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, mark: &Mark) {
        let removed = {
            let mut marks = self.marks.lock();
            let Some(list) = marks.get_mut(&mark.key) else { return };
            let place = list.iter().position(|other| core::ptr::eq(&**other, mark));
            let removed = place.map(|place| list.swap_remove(place));
            if list.is_empty() {
                marks.remove(&mark.key);
            }
            removed
        };
        if removed.is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn key_of(inode: &dyn Inode) -> Result<InodeKey> {
    inode.attributes().map(|attributes| (attributes.dev, attributes.ino))
}

/// Events that are about the inode alone and not about a name in its directory; inotify never said of these whether it is a
/// directory.
const SELF_ONLY: u32 = raw::IN_MOVE_SELF | raw::IN_DELETE_SELF;

fn with_kind(mask: u32, kind: Kind) -> u32 {
    if kind == Kind::Directory && mask & SELF_ONLY == 0 { mask | raw::IN_ISDIR } else { mask }
}

/// Tells the watches of one inode.
fn tell(watches: &Watches, key: InodeKey, event: &Event<'_>) {
    directory::tell(watches, key, event.mask);
    for mark in watches.of(key) {
        let mask = mark.mask.load(Ordering::Relaxed);
        let unwanted = event.unlinked && mask & raw::IN_EXCL_UNLINK != 0;
        if mask & event.mask & raw::IN_ALL_EVENTS == 0 || unwanted {
            continue;
        }
        let Some(instance) = mark.instance.upgrade() else { continue };
        instance.queue(&mark, event.mask, event.cookie, event.name);
        if mask & raw::IN_ONESHOT != 0 {
            instance.remove(mark.wd);
        }
    }
}

/// Something that has happened.
struct Event<'a> {
    mask: u32,
    cookie: u32,
    name: &'a [u8],
    /// To a file whose name is gone.
    unlinked: bool,
}

/// Something happened to what a name means: its directory's watches are told with the name, then its own.
pub(crate) fn happened(dentry: &Arc<Dentry>, mask: u32) {
    let watches = &dentry.tree().watches;
    if watches.none() {
        return;
    }
    let mask = with_kind(mask, dentry.kind());
    let unlinked = dentry.is_removed();
    if let Some(parent) = dentry.parent()
        && let Ok(key) = key_of(&**parent.inode())
    {
        tell(watches, key, &Event { mask, cookie: 0, name: &dentry.name(), unlinked });
    }
    if let Ok(key) = key_of(&**dentry.inode()) {
        tell(watches, key, &Event { mask, cookie: 0, name: b"", unlinked });
    }
}

/// Something happened to an inode that is nothing about its name.
pub(crate) fn happened_to_inode(dentry: &Arc<Dentry>, mask: u32) {
    let watches = &dentry.tree().watches;
    if watches.none() {
        return;
    }
    if let Ok(key) = key_of(&**dentry.inode()) {
        let mask = with_kind(mask, dentry.kind());
        tell(watches, key, &Event { mask, cookie: 0, name: b"", unlinked: false });
    }
}

/// A name came into a directory, or went.
pub(crate) fn name_changed(directory: &Arc<Dentry>, name: &[u8], kind: Kind, mask: u32, cookie: u32) {
    let watches = &directory.tree().watches;
    if watches.none() {
        return;
    }
    if let Ok(key) = key_of(&**directory.inode()) {
        tell(watches, key, &Event { mask: with_kind(mask, kind), cookie, name, unlinked: false });
    }
}

/// A name moved (`fsnotify_move`); `replaced` is what it was moved over.
pub(crate) fn moved(
    (from, old_name): (&Arc<Dentry>, &[u8]),
    (to, new_name): (&Arc<Dentry>, &[u8]),
    source: &Arc<Dentry>,
    replaced: Option<&Arc<Dentry>>,
) {
    if from.tree().watches.none() {
        return;
    }
    let (cookie, kind) = (instance::new_cookie(), source.kind());
    name_changed(from, old_name, kind, raw::IN_MOVED_FROM, cookie);
    name_changed(to, new_name, kind, raw::IN_MOVED_TO, cookie);
    if Arc::ptr_eq(from, to)
        && let Ok(key) = key_of(&**to.inode())
    {
        directory::tell(&to.tree().watches, key, directory::RENAMED);
    }
    if let Some(replaced) = replaced {
        happened_to_inode(replaced, raw::IN_ATTRIB);
    }
    happened_to_inode(source, raw::IN_MOVE_SELF);
}

/// The last use of a name that was taken away ended: if that was the inode's last one its watches end. Called when the dentry is
/// dropped; takes no lock of a dentry.
pub(crate) fn name_ended(tree: &Tree, inode: &dyn Inode) {
    let watches = &tree.watches;
    if watches.none() {
        return;
    }
    let Ok(attributes) = inode.attributes() else { return };
    if attributes.nlink != 0 {
        return;
    }
    let key = (attributes.dev, attributes.ino);
    tell(watches, key, &Event { mask: raw::IN_DELETE_SELF, cookie: 0, name: b"", unlinked: false });
    for mark in watches.of(key) {
        if let Some(instance) = mark.instance.upgrade() {
            instance.remove(mark.wd);
        }
    }
}

/// Something happened through an open file.
pub fn through(file: &OpenFile, mask: u32) {
    let Some(path) = file.path.as_ref().filter(|_| file.flags() & raw::O_PATH == 0) else { return };
    // Directories are not told what goes through pipes and devices (Linux since 6.11).
    let plain = matches!(path.dentry.kind(), Kind::Regular | Kind::Directory);
    if plain || mask & (raw::IN_ACCESS | raw::IN_MODIFY) == 0 {
        happened(&path.dentry, mask);
    } else {
        happened_to_inode(&path.dentry, mask);
    }
}

/// Bytes were read through an open file.
pub fn read(file: &OpenFile) {
    through(file, raw::IN_ACCESS);
}

/// Bytes were written, or room was made or taken away, through an open file.
pub fn written(file: &OpenFile) {
    through(file, raw::IN_MODIFY);
}

/// The last descriptor of a description was closed.
pub(crate) fn closed(file: &OpenFile) {
    through(file, if file.writable() { raw::IN_CLOSE_WRITE } else { raw::IN_CLOSE_NOWRITE });
}

/// What a change of attributes is told as (`fsnotify_change`).
pub(crate) fn mask_of_change(change: &AttributeChange) -> u32 {
    let AttributeChange { mode, uid, gid, size, atime, mtime, .. } = change;
    let mut mask = 0;
    if mode.is_some() || uid.is_some() || gid.is_some() {
        mask |= raw::IN_ATTRIB;
    }
    if size.is_some() {
        return mask | raw::IN_MODIFY;
    }
    mask | match (atime.is_some(), mtime.is_some()) {
        (true, true) => raw::IN_ATTRIB,
        (true, false) => raw::IN_ACCESS,
        (false, true) => raw::IN_MODIFY,
        (false, false) => 0,
    }
}

/// inotify_add_watch(2) on a place that was found and may be read: its watch descriptor. `EEXIST` with `IN_MASK_CREATE`,
/// `ENOSPC` at the limit.
pub fn watch(instance: &Inotify, dentry: &Arc<Dentry>, mask: u32) -> Result<i32> {
    let tree = dentry.tree();
    let inode = dentry.inode();
    let key = key_of(&**inode)?;
    let wanted = mask & (raw::IN_ALL_EVENTS | raw::IN_ONESHOT | raw::IN_EXCL_UNLINK);
    // One at a time, so that no inode is watched twice.
    let _adding = instance.lock_adding();
    let known = tree.watches.of(key).into_iter().find(|mark| core::ptr::eq(mark.instance.as_ptr(), instance));
    if let Some(mark) = known {
        if mask & raw::IN_MASK_CREATE != 0 {
            return Err(Errno::EEXIST);
        }
        if mask & raw::IN_MASK_ADD != 0 {
            mark.mask.fetch_or(wanted, Ordering::Relaxed);
        } else {
            mark.mask.store(wanted, Ordering::Relaxed);
        }
        return Ok(mark.wd);
    }
    let mark = instance.register(|wd| Mark {
        instance: instance.weak(),
        wd,
        key,
        tree: Arc::downgrade(tree),
        mask: AtomicU32::new(wanted),
        _inode: inode.clone(),
    })?;
    tree.watches.add(&mark);
    Ok(mark.wd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_attributes_are_told_as_linux_tells_them() {
        let time = raw::timespec { tv_sec: 1, tv_nsec: 0 };
        let none = AttributeChange::default();
        let mask = |change: AttributeChange| mask_of_change(&change);
        assert_eq!(mask(none), 0);
        assert_eq!(mask(AttributeChange { mode: Some(0o600), ..none }), raw::IN_ATTRIB);
        assert_eq!(mask(AttributeChange { size: Some(1), mtime: Some(time), ..none }), raw::IN_MODIFY);
        assert_eq!(mask(AttributeChange { atime: Some(time), mtime: Some(time), ..none }), raw::IN_ATTRIB);
        assert_eq!(mask(AttributeChange { atime: Some(time), ..none }), raw::IN_ACCESS);
        assert_eq!(mask(AttributeChange { mtime: Some(time), ..none }), raw::IN_MODIFY);
    }
}
