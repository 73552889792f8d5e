//! The first change of what the lower has: it comes to be in the upper, with everything that is above it.

use super::{Node, TEMPORARY, child};
use crate::acl::{self, Acl};
use crate::attributes::{AttributeChange, Attributes, Kind};
use crate::host::{HostInode, SET_ID};
use crate::inode::{AclMode, Inode, LinkTarget, NewKind, NewNode};
use crate::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

impl Node {
    /// It in the upper; of a regular file's contents, at most `limit` bytes are copied.
    pub(super) fn copied_up(&self, limit: u64) -> Result<Arc<HostInode>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        // Not recursive: a kernel stack is small and a tree may be deep.
        let mut missing = Vec::from([self.arc()?]);
        let mut above = loop {
            let lowest = missing.last().ok_or(Errno::EIO)?;
            let (parent, _) = lowest.place()?;
            match parent.upper() {
                Some(upper) => break upper,
                None => missing.push(parent),
            }
        };
        while let Some(node) = missing.pop() {
            above = node.copy_up_into(&above, limit)?;
        }
        Ok(above)
    }

    fn copy_up_into(&self, above: &Arc<HostInode>, limit: u64) -> Result<Arc<HostInode>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let attributes = lower.attributes()?;
        let (temporary, made) = self.make_temporary(above, lower, &attributes)?;
        // The contents outside of all locks: two may copy, one copy stays.
        let copied =
            copy(lower, &made, &attributes, limit).and_then(|()| self.settle(above, &temporary, &made));
        if !matches!(&copied, Ok(upper) if Arc::ptr_eq(upper, &made)) {
            let directory = self.kind() == Kind::Directory;
            let _ = if directory { above.rmdir(&temporary) } else { above.unlink(&temporary) };
        }
        copied
    }

    /// Gives a finished copy its name; what is in the upper now.
    fn settle(
        &self,
        above: &Arc<HostInode>,
        temporary: &[u8],
        made: &Arc<HostInode>,
    ) -> Result<Arc<HostInode>> {
        let _alone = self.fs.changes.lock();
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let (_, name) = self.place()?;
        let directory: Arc<dyn Inode> = above.clone();
        above.rename(temporary, &directory, &name, 0)?;
        if let Some(id) = self.key().filter(|_| self.kind() != Kind::Directory) {
            self.fs.origins.lock().insert(made.id(), id);
        }
        self.set_upper(made.clone());
        Ok(made.clone())
    }

    fn make_temporary(
        &self,
        above: &HostInode,
        lower: &HostInode,
        attributes: &Attributes,
    ) -> Result<(Vec<u8>, Arc<HostInode>)> {
        let text = match self.kind() {
            Kind::Symlink => match lower.read_link()? {
                LinkTarget::Text(text) => text,
                LinkTarget::Object(..) => return Err(Errno::EIO),
            },
            _ => Vec::new(),
        };
        let what = match self.kind() {
            Kind::Regular => NewKind::Regular,
            Kind::Directory => NewKind::Directory,
            Kind::Symlink => NewKind::Symlink(&text),
            Kind::Fifo => NewKind::Fifo,
            Kind::Socket => NewKind::Socket,
            kind @ (Kind::CharDevice | Kind::BlockDevice) => NewKind::Device(kind, attributes.rdev),
        };
        // Set-ID bits reach no file of the host: the copy of one that has them goes without.
        let node = NewNode {
            what,
            mode: attributes.mode & 0o7777 & !SET_ID,
            uid: attributes.uid,
            gid: attributes.gid,
        };
        loop {
            let number = self.fs.temporaries.fetch_add(1, Ordering::Relaxed);
            let name = [TEMPORARY, format!("{number}").as_bytes()].concat();
            // One may be left of a sandbox that was killed.
            if child(above, &name)?.is_none() {
                let made = above.create_node(&name, &node)?;
                return Ok((name, made));
            }
        }
    }
}

fn copy(lower: &HostInode, made: &Arc<HostInode>, attributes: &Attributes, limit: u64) -> Result<()> {
    if made.kind() == Kind::Regular {
        made.fill_from(lower, attributes.size.min(limit))?;
    }
    copy_lists(lower, made)?;
    let names = lower.list_xattr()?;
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && !acl::is_name(name)) {
        match made.set_xattr(name, Some(&lower.xattr(name)?), 0) {
            // A filesystem without them is no reason not to write the file.
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    // The mode once more, and last: a change of owner or contents takes set-user-ID bits away.
    let mode = (made.kind() != Kind::Symlink).then_some(attributes.mode & !SET_ID);
    let (atime, mtime) = (Some(attributes.atime), Some(attributes.mtime));
    made.set_attributes(&AttributeChange { mode, atime, mtime, ..AttributeChange::default() })
}

/// Access control lists: those of the lower, and none that the directory has handed on.
fn copy_lists(lower: &HostInode, made: &HostInode) -> Result<()> {
    if !made.keeps_acls() {
        return Ok(());
    }
    for name in [acl::ACCESS, acl::DEFAULT] {
        if name == acl::DEFAULT && made.kind() != Kind::Directory {
            continue;
        }
        let list = match lower.xattr(name) {
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EACCES) => None,
            list => Acl::kept(&list?)?.map(|list| list.value()),
        };
        match made.set_acl(name, list, &AclMode::default()) {
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
