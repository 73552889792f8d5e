//! Mounts, and the table of them.

use super::{Dentry, Path};
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use kernel::sync::{Mutex, RwLock};

bitflags::bitflags! {
    /// How a mount may be used: mount(2)'s `MS_*`, which are also statfs(2)'s `ST_*` where both have them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// No writes.
        const READ_ONLY = 1;
        /// Set-user-ID and set-group-ID bits are ignored.
        const NO_SUID = 2;
        /// Devices cannot be opened.
        const NO_DEV = 4;
        /// Programs cannot be executed.
        const NO_EXEC = 8;
        /// Access times stay as they are.
        const NO_ATIME = 1 << 10;
        /// Access times of directories stay as they are.
        const NO_DIRATIME = 1 << 11;
        /// Access times change only when older than the modification.
        const RELATIME = 1 << 21;
    }
}

/// What is to be mounted and how it is shown.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// How it may be used.
    pub flags: MountFlags,
    /// What `/proc/mounts` shows as the device.
    pub source: Vec<u8>,
    /// Type of the filesystem.
    pub fstype: Vec<u8>,
    /// Options of the filesystem, such as `size=65536k,mode=755`; empty for none.
    pub options: Vec<u8>,
}

/// A mounted filesystem (or a part of one, for a bind mount).
pub struct Mount {
    /// Number shown in `/proc/PID/mountinfo` and by statx(2).
    pub id: u64,
    /// What its root shows.
    pub root: Arc<Dentry>,
    /// What `/proc/mounts` shows.
    pub options: MountOptions,
    flags: AtomicU32,
    /// Came with the sandbox: it stays, and is not opened up.
    locked: AtomicBool,
    /// Cannot be bound elsewhere (`MS_UNBINDABLE`).
    unbindable: AtomicBool,
    /// Marked (`MNT_EXPIRE`): 2, less one for each use since; 0 for not.
    expiring: AtomicU32,
    /// The mount it is on, and where there; `None` for the first mount and once it is unmounted.
    place: RwLock<Option<(Weak<Mount>, Arc<Dentry>)>>,
    /// What is mounted on it, with the places.
    children: RwLock<Vec<(Arc<Dentry>, Arc<Mount>)>>,
}

impl Mount {
    fn new(id: u64, root: Arc<Dentry>, options: MountOptions) -> Arc<Mount> {
        root.tree().mounts.fetch_add(1, Ordering::Relaxed);
        Arc::new(Mount {
            id,
            root,
            flags: AtomicU32::new(options.flags.bits()),
            options,
            locked: AtomicBool::new(false),
            unbindable: AtomicBool::new(false),
            expiring: AtomicU32::new(0),
            place: RwLock::new(None),
            children: RwLock::new(Vec::new()),
        })
    }

    /// How it may be used.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Makes it stay as it is, but for becoming stricter.
    pub fn lock(&self) {
        self.locked.store(true, Ordering::Relaxed);
    }

    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// `MS_UNBINDABLE`, or not.
    pub fn set_unbindable(&self, unbindable: bool) {
        self.unbindable.store(unbindable, Ordering::Relaxed);
    }

    fn is_unbindable(&self) -> bool {
        self.unbindable.load(Ordering::Relaxed)
    }

    /// Whether it refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::READ_ONLY)
    }

    /// Somebody walks into it.
    pub(super) fn note_use(&self) {
        let left = self.expiring.load(Ordering::Relaxed);
        if left > 0 {
            self.expiring.store(left - 1, Ordering::Relaxed);
        }
    }

    /// The last use was umount2(2)'s own walk, which counts for nothing.
    pub fn forgive_use(&self) {
        let _ = self.expiring.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether anybody but the table, the mount it is on and one caller holds it, or something is mounted in it.
    fn is_busy(self: &Arc<Mount>) -> bool {
        Arc::strong_count(self) > 3 || !self.children.read().is_empty()
    }

    /// What is mounted on a dentry of this mount.
    pub fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        let children = self.children.read();
        children.iter().find(|(place, _)| Arc::ptr_eq(place, dentry)).map(|(_, mount)| mount.clone())
    }

    /// The place it is mounted on; `None` for the first mount and once it is unmounted.
    pub fn mountpoint(&self) -> Option<Path> {
        let place = self.place.read();
        let (mount, dentry) = place.as_ref()?;
        Some(Path { mount: mount.upgrade()?, dentry: dentry.clone() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let tree = self.root.tree();
        if tree.mounts.fetch_sub(1, Ordering::AcqRel) == 1 {
            tree.cache.clear();
        }
    }
}

/// One line of `/proc/PID/mountinfo`, as structured data.
pub struct MountInfo {
    /// The mount.
    pub mount: Arc<Mount>,
    /// Number of the mount it is on (its own for the first one).
    pub parent_id: u64,
    /// What part of the filesystem it shows, from that filesystem's root.
    pub root: Vec<u8>,
    /// Where it is, relative to the root of who asks.
    pub target: Vec<u8>,
    /// Device number.
    pub dev: u64,
}

/// Whether a locked mount may go from one set of flags to another (`can_change_locked_flags`).
fn allows(from: MountFlags, to: MountFlags) -> bool {
    let strict = MountFlags::READ_ONLY | MountFlags::NO_SUID | MountFlags::NO_DEV | MountFlags::NO_EXEC;
    let times = MountFlags::NO_ATIME | MountFlags::NO_DIRATIME | MountFlags::RELATIME;
    to.contains(from & strict) && from & times == to & times
}

/// The mounts of a sandbox.
pub struct Namespace {
    /// In the order in which they were mounted. Held while the tree of mounts changes.
    mounts: Mutex<Vec<Arc<Mount>>>,
    next_id: AtomicU64,
}

/// Mounts at most (`fs.mount-max`).
const MOUNTS_MAX: usize = 100_000;

impl Namespace {
    /// A table whose first mount shows `root`.
    pub fn new(root: Arc<dyn Inode>, options: MountOptions) -> Arc<Namespace> {
        let first = Mount::new(1, Dentry::root(root), options);
        Arc::new(Namespace { mounts: Mutex::new([first].into()), next_id: AtomicU64::new(2) })
    }

    /// The root of the first mount (and of what is mounted over it).
    pub fn root(&self) -> Option<Path> {
        let first = self.mounts.lock().first().cloned()?;
        Some(Path { dentry: first.root.clone(), mount: first }.entered())
    }

    /// Mounts a filesystem: `ENOTDIR` if one of root and mountpoint is a directory and the other is not.
    pub fn mount(&self, root: Arc<dyn Inode>, at: &Path, options: MountOptions) -> Result<Arc<Mount>> {
        self.attach(Dentry::root(root), at, options)
    }

    /// Mounts a filesystem that is mounted elsewhere, perhaps in another table: as [`Namespace::mount`].
    pub fn mount_again(&self, root: Arc<Dentry>, at: &Path, options: MountOptions) -> Result<Arc<Mount>> {
        self.attach(root, at, options)
    }

    /// Keeps what is mounted now: [`Mount::lock`].
    pub fn lock_all(&self) {
        self.mounts.lock().iter().for_each(|mount| mount.lock());
    }

    /// `EINVAL` for a mount that was taken away.
    fn check(&self, mount: &Arc<Mount>) -> Result<()> {
        let here = self.mounts.lock().iter().any(|other| Arc::ptr_eq(other, mount));
        if here { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Shows a part of the tree at another place (`MS_BIND`; with what is mounted in it if `recursive`): `EINVAL`.
    pub fn bind(&self, from: &Path, at: &Path, recursive: bool) -> Result<Arc<Mount>> {
        self.check(&from.mount)?;
        if from.mount.is_unbindable() {
            return Err(Errno::EINVAL);
        }
        let options = MountOptions { flags: from.mount.flags(), ..from.mount.options.clone() };
        let below = if recursive { self.mounts_below(from) } else { Vec::new() };
        let made = self.attach(from.dentry.clone(), at, options)?;
        // A mount comes after the one it is on, so its new parent is there when its turn comes.
        let mut copies = Vec::from([(from.mount.clone(), made.clone())]);
        for mount in below {
            let Some(place) = mount.mountpoint().filter(|_| !mount.is_unbindable()) else { continue };
            let Some((_, parent)) = copies.iter().find(|(old, _)| Arc::ptr_eq(old, &place.mount)) else {
                continue;
            };
            let at = Path { mount: parent.clone(), dentry: place.dentry };
            let options = MountOptions { flags: mount.flags(), ..mount.options.clone() };
            copies.push((mount.clone(), self.attach(mount.root.clone(), &at, options)?));
        }
        Ok(made)
    }

    fn mounts_below(&self, from: &Path) -> Vec<Arc<Mount>> {
        let mounts = self.mounts.lock().clone();
        let mut inside = Vec::from([from.mount.clone()]);
        let mut below = Vec::new();
        for mount in mounts {
            let Some(place) = mount.mountpoint() else { continue };
            let on_first = Arc::ptr_eq(&place.mount, &from.mount);
            let covered = if on_first {
                from.dentry.contains(&place.dentry)
            } else {
                inside.iter().any(|other| Arc::ptr_eq(other, &place.mount))
            };
            if covered {
                inside.push(mount.clone());
                below.push(mount);
            }
        }
        below
    }

    fn attach(&self, root: Arc<Dentry>, at: &Path, options: MountOptions) -> Result<Arc<Mount>> {
        let at = at.clone().entered();
        if root.is_directory() != at.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mount = Mount::new(id, root, options);
        let mut mounts = self.mounts.lock();
        if mounts.len() >= MOUNTS_MAX {
            return Err(Errno::ENOSPC);
        }
        if !mounts.iter().any(|other| Arc::ptr_eq(other, &at.mount)) {
            return Err(Errno::EINVAL);
        }
        if at.dentry.is_removed() {
            return Err(Errno::ENOENT);
        }
        *mount.place.write() = Some((Arc::downgrade(&at.mount), at.dentry.clone()));
        at.mount.children.write().push((at.dentry.clone(), mount.clone()));
        at.dentry.add_mount();
        mounts.push(mount.clone());
        Ok(mount)
    }

    /// umount2(2) with `MNT_EXPIRE`: marks a mount that nobody uses (`EAGAIN`), and takes it away if it was marked and not used
    /// since.
    pub fn expire(&self, target: Path) -> Result<()> {
        let mount = target.mount.clone();
        if !target.is_mount_root() || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        drop(target);
        if mount.is_busy() {
            return Err(Errno::EBUSY);
        }
        if mount.expiring.swap(2, Ordering::Relaxed) != 2 {
            return Err(Errno::EAGAIN);
        }
        let root = mount.root.clone();
        self.umount(Path { dentry: root, mount }, false)
    }

    /// umount2(2) of the mount whose root `target` is: `EINVAL` if it is no mount's root or locked, `EBUSY` unless `detach`.
    pub fn umount(&self, target: Path, detach: bool) -> Result<()> {
        let mount = target.mount.clone();
        if !target.is_mount_root() || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        drop(target);
        let mut mounts = self.mounts.lock();
        if mounts.first().is_some_and(|first| Arc::ptr_eq(first, &mount)) {
            return Err(Errno::EBUSY);
        }
        if !mounts.iter().any(|other| Arc::ptr_eq(other, &mount)) {
            return Err(Errno::EINVAL);
        }
        if !detach && mount.is_busy() {
            return Err(Errno::EBUSY);
        }
        let (mut gone, mut kept) = (Vec::from([mount]), Vec::new());
        let mut index = 0;
        while let Some(mount) = gone.get(index).cloned() {
            let children = core::mem::take(&mut *mount.children.write());
            let (places, mounts): (Vec<_>, Vec<_>) = children.into_iter().unzip();
            gone.extend(mounts);
            kept.extend(places);
            index += 1;
        }
        for mount in &gone {
            if let Some((parent, mountpoint)) = mount.place.write().take() {
                mountpoint.remove_mount();
                if let Some(parent) = parent.upgrade() {
                    parent.children.write().retain(|(_, other)| !Arc::ptr_eq(other, mount));
                }
                kept.push(mountpoint);
            }
        }
        mounts.retain(|mount| !gone.iter().any(|other| Arc::ptr_eq(mount, other)));
        drop(mounts);
        // Filesystems end without the lock.
        drop((gone, kept));
        Ok(())
    }

    /// Changes the flags of a mount (`MS_REMOUNT`): `EPERM` for what a locked one must keep.
    pub fn remount(&self, mount: &Arc<Mount>, flags: MountFlags) -> Result<()> {
        self.check(mount)?;
        if mount.is_locked() && !allows(mount.flags(), flags) {
            return Err(Errno::EPERM);
        }
        mount.flags.store(flags.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Moves a mount (`MS_MOVE`): `EINVAL`, `ELOOP` for a place below itself.
    pub fn move_mount(&self, from: &Path, to: &Path) -> Result<()> {
        let mount = &from.mount;
        let to = to.clone().entered();
        let Some(old) = mount.mountpoint() else { return Err(Errno::EINVAL) };
        let fits = from.is_mount_root() && mount.root.is_directory() == to.dentry.is_directory();
        if !fits || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        let mounts = self.mounts.lock();
        if !mounts.iter().any(|other| Arc::ptr_eq(other, &to.mount)) {
            return Err(Errno::EINVAL);
        }
        let mut above = Some(to.mount.clone());
        while let Some(other) = above {
            if Arc::ptr_eq(&other, mount) {
                return Err(Errno::ELOOP);
            }
            above = other.mountpoint().map(|place| place.mount);
        }
        to.dentry.add_mount();
        let place = (Arc::downgrade(&to.mount), to.dentry.clone());
        let before = mount.place.write().replace(place);
        old.mount.children.write().retain(|(_, other)| !Arc::ptr_eq(other, mount));
        to.mount.children.write().push((to.dentry.clone(), mount.clone()));
        old.dentry.remove_mount();
        drop(before);
        Ok(())
    }

    /// The mounts that can be reached from `root`, for `/proc/PID/{mounts,mountinfo}`.
    pub fn list(&self, root: &Path) -> Vec<MountInfo> {
        let mounts = self.mounts.lock().clone();
        let mut list = Vec::new();
        for mount in mounts {
            let here = Path { mount: mount.clone(), dentry: mount.root.clone() };
            let Some(target) = super::path::reachable_text(&here, root) else { continue };
            let parent_id = mount.mountpoint().map_or(mount.id, |place| place.mount.id);
            let dev = mount.root.inode().attributes().map_or(0, |attributes| attributes.dev);
            list.push(MountInfo { parent_id, root: super::path::tree_text(&mount.root), target, dev, mount });
        }
        list
    }
}
