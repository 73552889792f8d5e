//! Changes to writable host trees.

use super::{HostInode, Name, stat};
use crate::attributes::{AttributeChange, Attributes, Kind, Owner};
use crate::inode::{Inode, NewKind, NewNode};
use crate::namespace::without_set_ids;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::task;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// `uid_t` and `gid_t` that chown(2) leaves alone.
const UNCHANGED: u32 = u32::MAX;

/// Set-user-ID and set-group-ID bits: on the host they would hand the rights of the owner to whoever runs the file there. Refused but
/// where the tree is the sandbox's own ([`super::HostRights`]).
pub(crate) const SET_ID: u32 = 0o6000;

/// A change of attributes, which the host makes at once. Where the supervisor makes it (`--allow-missing=userns`) a poke can interrupt the
/// wait for that.
pub(super) fn uninterrupted(call: impl Fn() -> Result<()>) -> Result<()> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

impl HostInode {
    fn writable_tree(&self) -> Result<()> {
        if self.fs.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn same_tree<'a>(&self, other: &'a Arc<dyn Inode>) -> Result<&'a HostInode> {
        let other = other.as_any().downcast_ref::<HostInode>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&self.fs, &other.fs) { Ok(other) } else { Err(Errno::EXDEV) }
    }

    /// The inode behind `name` if this kernel knows it, and what it is: its record of names has to follow.
    fn known_child(&self, name: &Name) -> Result<Option<(Arc<HostInode>, Attributes)>> {
        let directory = self.directory()?;
        let flags = raw::AT_SYMLINK_NOFOLLOW | raw::AT_NO_AUTOMOUNT;
        let stat = host::statx(directory.number(), name.as_c_str(), flags, stat::MASK)?;
        let known = self.fs.known(stat::identity(&stat));
        Ok(known.map(|inode| (inode, stat::attributes(&stat, &self.fs.tree.ids))))
    }

    /// A name is about to be taken away.
    fn prepare_loss(self: &Arc<Self>, before: &Attributes) {
        // One reference is the caller's, one the dentry's: nobody else has it open in any way.
        const UNUSED: usize = 2;
        let last = before.nlink < 2 || self.kind() == Kind::Directory;
        if last && Arc::strong_count(self) > UNUSED {
            self.outlive_name();
        }
    }

    /// A name was taken away; `before` is what the file was like with it.
    fn lost_name(&self, parent: &HostInode, name: &[u8], before: Attributes) {
        self.lost(parent, name);
        if before.nlink < 2 || self.kind() == Kind::Directory {
            self.state.lock().gone = Some(Box::new(Attributes { nlink: 0, ..before }));
        }
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2).
    pub(super) fn change_attributes(&self, change: &AttributeChange) -> Result<()> {
        self.writable_tree()?;
        if let Some(size) = change.size {
            host::ftruncate(self.writable()?.number(), size)?;
        }
        // The owner first: changing it takes set-user-ID bits away.
        self.change_owner(change)?;
        if let Some(mode) = change.mode {
            self.change_mode(mode & 0o7777)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let omit = raw::timespec { tv_sec: 0, tv_nsec: i64::from(raw::UTIME_OMIT) };
            let times = [change.atime.unwrap_or(omit), change.mtime.unwrap_or(omit)];
            self.with_target(|fd, name, flags| uninterrupted(|| host::utimensat(fd, name, &times, flags)))?;
        }
        Ok(())
    }

    /// Copies the first `size` bytes of another file into this one, which was just made, leaving its holes out.
    pub(crate) fn fill_from(self: &Arc<Self>, from: &HostInode, size: u64) -> Result<()> {
        let made = self.open_data(raw::O_RDWR)?;
        if size > 0 {
            super::copy::contents(&*from.open_for_copy()?, &made, size)?;
        }
        host::ftruncate(made.number(), size)?;
        // Whoever has it copied to write to it gets this descriptor, whatever the permission bits say.
        self.state.lock().made = Some(made);
        self.fs.tree.pool.keep(Arc::downgrade(self));
        Ok(())
    }

    /// Its data was changed: set-ID bits go, unless whoever did it may keep them.
    pub(super) fn data_changed(&self) {
        if !self.fs.tree.rights.set_ids || !self.set_ids.load(Ordering::Relaxed) {
            return;
        }
        let cred = task::current().cred();
        if cred.has(cap::FSETID) {
            return;
        }
        let Ok(owner) = self.attributes().map(|now| Owner::from(&now)) else { return };
        let mode = without_set_ids(&cred, &owner);
        if mode != owner.mode & 0o7777 {
            // The data is written: an error would be for nobody.
            let _ = self.change_mode(mode);
        }
    }

    fn change_owner(&self, change: &AttributeChange) -> Result<()> {
        if change.uid.is_none() && change.gid.is_none() {
            return Ok(());
        }
        self.change_owner_from(&self.attributes()?, change).map(drop)
    }

    /// The same of a file whose attributes are known: whether there was anything to change.
    fn change_owner_from(&self, now: &Attributes, change: &AttributeChange) -> Result<bool> {
        // What it is shown as already is no change: the host may have no such id to set.
        let uid = change.uid.filter(|&uid| uid != now.uid).unwrap_or(UNCHANGED);
        let gid = change.gid.filter(|&gid| gid != now.gid).unwrap_or(UNCHANGED);
        if (uid, gid) == (UNCHANGED, UNCHANGED) {
            return Ok(false);
        }
        self.with_target(|fd, name, flags| {
            let rest = [u64::from(uid), u64::from(gid), u64::from(flags)];
            uninterrupted(|| host::path_call(raw::__NR_fchownat, fd, name, rest))
        })
        // The host says EINVAL for an id that the user namespace does not map.
        .map_err(|error| if error == Errno::EINVAL { Errno::EPERM } else { error })?;
        Ok(true)
    }

    fn change_mode(&self, mode: u32) -> Result<()> {
        if self.kind() == Kind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if mode & self.fs.refused_bits() != 0 {
            return Err(Errno::EPERM);
        }
        self.set_ids.store(mode & SET_ID != 0, Ordering::Relaxed);
        // fchmodat(2) would follow a link that others have put there since; it leads to granted files only. The call that
        // does not, fchmodat2(2), is too new for the library that compiles the filter.
        if let Some(fd) = self.open_descriptor() {
            return uninterrupted(|| host::fchmod(fd.number(), mode));
        }
        let (directory, name) = self.place()?;
        let rest = [u64::from(mode), 0, 0];
        uninterrupted(|| host::path_call(raw::__NR_fchmodat, directory.number(), name.as_c_str(), rest))
    }

    pub(crate) fn create_node(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<HostInode>> {
        self.writable_tree()?;
        // A directory takes its set-group-ID bit from the one it is made in: the host sees to that.
        let refused = self.fs.refused_bits();
        let mode = node.mode & 0o7777 & !refused;
        let can_have = matches!(node.what, NewKind::Regular | NewKind::Fifo | NewKind::Socket);
        if can_have && node.mode & refused != 0 {
            return Err(Errno::EPERM);
        }
        let directory = self.directory()?;
        let host_name = Name::new(name)?;
        let mut made = None;
        match &node.what {
            NewKind::Regular => {
                let flags = raw::O_CREAT | raw::O_EXCL | raw::O_RDWR;
                let pool = &self.fs.tree.pool;
                made = Some(pool.open_at(&directory, host_name.as_c_str(), flags, mode)?);
            }
            NewKind::Directory => {
                let rest = [u64::from(mode), 0, 0];
                host::path_call(raw::__NR_mkdirat, directory.number(), host_name.as_c_str(), rest)?;
            }
            NewKind::Symlink(text) => {
                let text = CString::new(*text).map_err(|_| Errno::EINVAL)?;
                host::symlinkat(&text, directory.number(), host_name.as_c_str())?;
            }
            // Names only: what is behind them, the sandbox has inside, and host processes find nobody there.
            NewKind::Fifo | NewKind::Socket => {
                let kind = if matches!(node.what, NewKind::Fifo) { raw::S_IFIFO } else { raw::S_IFSOCK };
                // Set-ID bits, which the filter does not see here, come with the mode below.
                let mode = u64::from(kind | mode & !SET_ID);
                host::path_call(raw::__NR_mknodat, directory.number(), host_name.as_c_str(), [mode, 0, 0])?;
            }
            NewKind::Device(..) => return Err(Errno::EPERM),
        }
        let stat = match &made {
            Some(made) => host::statx(made.number(), c"", raw::AT_EMPTY_PATH, stat::MASK)?,
            None => self.stat_of(name)?,
        };
        let inode = self.fs.inode(&stat, self.arc()?, name);
        let mut now = stat::attributes(&stat, &self.fs.tree.ids);
        let owner =
            AttributeChange { uid: Some(node.uid), gid: Some(node.gid), ..AttributeChange::default() };
        // As far as the host allows: the file is there and usable either way.
        if inode.change_owner_from(&now, &owner) == Ok(true) {
            now = inode.attributes()?;
        }
        // The host's umask and set-group-ID rules had their say, and the change of the owner; what the program asked for counts.
        if inode.kind() != Kind::Symlink && now.mode & 0o7777 & !refused != mode {
            let _ = inode.change_mode(mode);
        }
        if made.is_some() {
            inode.state.lock().made = made;
            self.fs.tree.pool.keep(Arc::downgrade(&inode));
        }
        Ok(inode)
    }

    /// A file without a name: `EOPNOTSUPP` where the host's filesystem has none.
    pub(crate) fn create_without_name(&self, node: &NewNode<'_>) -> Result<Arc<HostInode>> {
        self.writable_tree()?;
        let flags = raw::O_TMPFILE | raw::O_RDWR;
        let made = self.fs.tree.pool.open_at(&*self.directory()?, c".", flags, node.mode & 0o7777)?;
        let stat = host::statx(made.number(), c"", raw::AT_EMPTY_PATH, stat::MASK)?;
        let inode = self.fs.unnamed(&stat);
        // Not noted in the pool, which could close it: it is all that there is of the file.
        inode.state.lock().made = Some(made);
        let owner =
            AttributeChange { uid: Some(node.uid), gid: Some(node.gid), ..AttributeChange::default() };
        let _ = inode.change_owner(&owner);
        Ok(inode)
    }

    pub(super) fn link_node(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.writable_tree()?;
        let target = self.same_tree(target)?;
        let directory = self.directory()?;
        let host_name = Name::new(name)?;
        let to = (directory.number(), host_name.as_c_str());
        match (target.place(), target.open_descriptor()) {
            (Ok((from, name)), _) => {
                host::two_path_call(raw::__NR_linkat, (from.number(), name.as_c_str()), to, 0)?;
            }
            // Without a name: the host lets the process that opened it (Linux 6.10).
            (Err(_), Some(fd)) => {
                host::two_path_call(raw::__NR_linkat, (fd.number(), c""), to, raw::AT_EMPTY_PATH)?;
            }
            (Err(error), None) => return Err(error),
        }
        target.state.lock().gone = None;
        target.found_at((self.arc()?, name.into()));
        Ok(())
    }

    pub(super) fn remove(&self, name: &[u8], flags: u32) -> Result<()> {
        self.writable_tree()?;
        let host_name = Name::new(name)?;
        let known = self.known_child(&host_name)?;
        if let Some((inode, before)) = &known {
            inode.prepare_loss(before);
        }
        let directory = self.directory()?;
        host::path_call(
            raw::__NR_unlinkat,
            directory.number(),
            host_name.as_c_str(),
            [u64::from(flags), 0, 0],
        )?;
        if let Some((inode, before)) = known {
            inode.lost_name(self, name, before);
        }
        Ok(())
    }

    pub(super) fn rename_node(
        &self,
        name: &[u8],
        new_parent: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        self.writable_tree()?;
        if flags & !(raw::RENAME_NOREPLACE | raw::RENAME_EXCHANGE) != 0 {
            return Err(Errno::EINVAL);
        }
        let new_parent = self.same_tree(new_parent)?;
        let (from, to) = (Name::new(name)?, Name::new(new_name)?);
        let moved = self.known_child(&from)?;
        let replaced = match new_parent.known_child(&to) {
            Err(Errno::ENOENT) => None,
            other => other?,
        };
        if let Some((inode, before)) = replaced.as_ref().filter(|_| flags & raw::RENAME_EXCHANGE == 0) {
            inode.prepare_loss(before);
        }
        let (directory, new_directory) = (self.directory()?, new_parent.directory()?);
        host::two_path_call(
            raw::__NR_renameat2,
            (directory.number(), from.as_c_str()),
            (new_directory.number(), to.as_c_str()),
            flags,
        )?;
        if let (Some((moved, _)), Some((replaced, _))) = (&moved, &replaced)
            && Arc::ptr_eq(moved, replaced)
        {
            // Two names of one file: rename(2) does nothing.
            return Ok(());
        }
        if let Some((replaced, before)) = &replaced {
            if flags & raw::RENAME_EXCHANGE != 0 {
                replaced.lost(new_parent, new_name);
                replaced.found_at((self.arc()?, name.into()));
            } else {
                replaced.lost_name(new_parent, new_name, *before);
            }
        }
        if let Some((moved, _)) = &moved {
            moved.lost(self, name);
            moved.found_at((new_parent.arc()?, new_name.into()));
        }
        Ok(())
    }
}
