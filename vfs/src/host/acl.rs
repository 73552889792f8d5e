//! Access control lists of host files (acl(5)): the host keeps them, changes the mode with them, hands them on to new names, and
//! decides by them what the sandbox as a whole may do; who of its users may do what is decided above. They name ids of the host,
//! which are shown as those of owners are. An id that the host's user namespace does not map is shown as none, and none can be
//! set that it does not map (`EINVAL`), as in every user namespace.
//!
//! Named pipes and sockets have none here: the host's calls need an open file.

use super::HostInode;
use super::change::uninterrupted;
use crate::acl::{self, Acl};
use crate::attributes::Kind;
use crate::inode::{AclMode, Inode};
use crate::{Errno, Result};
use alloc::ffi::CString;
use alloc::vec::Vec;
use trap_handler::host;

impl HostInode {
    pub(super) fn has_lists(&self) -> bool {
        self.fs.tree.rights.xattrs && matches!(self.kind(), Kind::Regular | Kind::Directory)
    }

    /// The value of one of the two lists: `ENODATA`, `EOPNOTSUPP`.
    pub(super) fn list_of(&self, name: &[u8]) -> Result<Vec<u8>> {
        if !self.has_lists() {
            return Err(Errno::EOPNOTSUPP);
        }
        let kept = name == acl::ACCESS && self.immutable();
        if kept && let Some(list) = &self.state.lock().access_list {
            return list.as_ref().map(|list| list.to_vec()).ok_or(Errno::ENODATA);
        }
        let ids = &self.fs.tree.ids;
        let value = self.host_value(name).and_then(|value| {
            acl::with_ids(&value, |user| Some(ids.uid(user)), |group| Some(ids.gid(group)))
        });
        if kept && let Ok(_) | Err(Errno::ENODATA) = &value {
            self.state.lock().access_list =
                Some(value.as_ref().ok().map(|list| list.clone().into_boxed_slice()));
        }
        value
    }

    /// Sets a list, or takes it away; the mode changes with it.
    pub(super) fn set_list(&self, name: &[u8], value: Option<Vec<u8>>, mode: &AclMode) -> Result<()> {
        if self.fs.read_only {
            return Err(Errno::EROFS);
        }
        // A list that the mode says all of: the host makes the mode of it, and keeps none.
        let value = match (value, mode.permissions) {
            (None, Some(permissions)) => Some(Acl::of_mode(permissions).value()),
            (value, _) => value,
        };
        let ids = &self.fs.tree.ids;
        let value =
            value.map(|value| acl::with_ids(&value, |user| ids.host_uid(user), |group| ids.host_gid(group)));
        let value = value.transpose()?;
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let fd = self.own_descriptor()?;
        match value {
            Some(value) => uninterrupted(|| host::fsetxattr(fd.number(), &name, &value, 0)),
            None => match uninterrupted(|| host::fremovexattr(fd.number(), &name)) {
                Err(Errno::ENODATA) => Ok(()),
                other => other,
            },
        }
    }
}
