//! Extended attributes of host files: those of users (`user.*`), and access control lists ([`super::acl`]). The others say what host
//! programs may do (capabilities, labels), and are neither shown nor set: `EOPNOTSUPP`.

use super::change::uninterrupted;
use super::{HostFd, HostInode};
use crate::acl;
use crate::attributes::Kind;
use crate::inode::Inode;
use crate::{Errno, Result};
use alloc::ffi::CString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Longest value and longest list (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const MAX: usize = 64 << 10;

fn of_users(name: &[u8]) -> bool {
    name.starts_with(b"user.")
}

impl HostInode {
    /// A descriptor of the file itself, which the calls need: the open one, or one for reading, or for writing.
    pub(super) fn own_descriptor(&self) -> Result<Arc<HostFd>> {
        match self.kind() {
            Kind::Directory => match self.directory()? {
                kept if kept.is_open() => Ok(kept),
                kept => self.fs.tree.pool.open_at(&kept, c".", raw::O_RDONLY | raw::O_DIRECTORY, 0),
            },
            Kind::Regular => match self.open_descriptor() {
                Some(fd) => Ok(fd),
                None => match self.open_data(raw::O_RDONLY) {
                    Err(Errno::EACCES) if !self.fs.read_only => self.open_data(raw::O_WRONLY),
                    other => other,
                },
            },
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn supported(&self, name: &[u8]) -> Result<CString> {
        if !self.fs.tree.rights.xattrs || !of_users(name) {
            return Err(Errno::EOPNOTSUPP);
        }
        CString::new(name).map_err(|_| Errno::EINVAL)
    }

    pub(super) fn value_of(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.supported(name)?;
        self.host_value(name)
    }

    /// What the host says. Most values are short.
    pub(super) fn host_value(&self, name: &[u8]) -> Result<Vec<u8>> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let fd = self.own_descriptor()?;
        let mut short = [0; 256];
        match host::fgetxattr(fd.number(), &name, &mut short) {
            Ok(length) => return Ok(short.get(..length).unwrap_or(&[]).to_vec()),
            Err(Errno::ERANGE) => {}
            Err(error) => return Err(error),
        }
        let mut value = vec![0; MAX];
        let length = host::fgetxattr(fd.number(), &name, &mut value)?;
        value.truncate(length);
        Ok(value)
    }

    pub(super) fn set_value_of(&self, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        let name = self.supported(name)?;
        if self.fs.read_only {
            return Err(Errno::EROFS);
        }
        let fd = self.own_descriptor()?;
        match value {
            Some(value) => uninterrupted(|| host::fsetxattr(fd.number(), &name, value, flags)),
            None => uninterrupted(|| host::fremovexattr(fd.number(), &name)),
        }
    }

    pub(super) fn names_of_values(&self) -> Result<Vec<u8>> {
        if !self.fs.tree.rights.xattrs || !matches!(self.kind(), Kind::Regular | Kind::Directory) {
            return Ok(Vec::new());
        }
        let mut names = vec![0; MAX];
        let listed = self.own_descriptor().and_then(|fd| host::flistxattr(fd.number(), &mut names));
        let length = match listed {
            // The host's call needs no permission, but the descriptor does.
            Err(Errno::EOPNOTSUPP | Errno::EACCES) => 0,
            other => other?,
        };
        names.truncate(length);
        let names = names
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| of_users(name) || name.strip_suffix(b"\0").is_some_and(acl::is_name));
        Ok(names.flatten().copied().collect())
    }
}
