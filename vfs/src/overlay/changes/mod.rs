//! What was changed in an overlay, told as the layer that it is: the same for both kinds of upper.

mod in_memory;

use super::data::UpperData;
use super::on_host;
use super::{OverlayInode, on_host::OnHostNode};
use crate::attributes::{Attributes, Kind};
use crate::host::HostFd;
use crate::host::copy::next_data;
use crate::inode::{Inode, LinkTarget};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use boundary::changes::{Change, MAX_DATA, Node, NodeKind};
use trap_handler::host;

/// Who is told.
pub trait Report {
    /// One change.
    fn change(&mut self, change: &Change) -> Result<()>;

    /// Whether contents of files are wanted.
    fn wants_data(&self) -> bool;

    /// Bytes of the file told of last, at most [`MAX_DATA`].
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
}

/// Tells what was changed in the overlay with this root, which is mounted at `prefix` (without a leading slash). What others
/// change meanwhile may or may not be seen.
pub fn tell(root: &Arc<dyn Inode>, prefix: &[u8], report: &mut dyn Report) -> Result<()> {
    if let Some(root) = root.as_any().downcast_ref::<OverlayInode>() {
        return in_memory::tell(root.arc()?, prefix, report);
    }
    match root.as_any().downcast_ref::<OnHostNode>() {
        Some(root) => on_host::tell(root, prefix, report),
        None => Err(Errno::EINVAL),
    }
}

/// Where the bytes of a regular file are.
pub(super) enum Contents {
    Nowhere,
    Memory(Arc<UpperData>),
    Host(Arc<HostFd>),
}

pub(super) fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Tells of one file or directory as it is now. The root of everything has no name, and is left out.
pub(super) fn tell_node(
    inode: &dyn Inode,
    path: &[u8],
    fresh: bool,
    contents: &Contents,
    report: &mut dyn Report,
) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let attributes = inode.attributes()?;
    let size = match contents {
        Contents::Memory(data) => data.size(),
        _ => attributes.size,
    };
    report.change(&Change::Node(Node {
        path: path.to_vec(),
        kind: kind_of(inode, size)?,
        fresh,
        linked: inode.kind() != Kind::Directory && attributes.nlink > 1,
        mode: attributes.mode & 0o7777,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: modified(&attributes),
        xattrs: xattrs_of(inode)?,
    }))?;
    if inode.kind() == Kind::Regular && report.wants_data() {
        tell_contents(contents, size, report)
    } else {
        Ok(())
    }
}

fn modified(attributes: &Attributes) -> (i64, u32) {
    (attributes.mtime.tv_sec, u32::try_from(attributes.mtime.tv_nsec).unwrap_or(0))
}

fn kind_of(inode: &dyn Inode, size: u64) -> Result<NodeKind> {
    Ok(match inode.kind() {
        Kind::Regular => NodeKind::Regular(size),
        Kind::Directory => NodeKind::Directory,
        Kind::Symlink => match inode.read_link()? {
            LinkTarget::Text(text) => NodeKind::Symlink(text),
            LinkTarget::Object(_, text) => NodeKind::Symlink(text),
        },
        Kind::Fifo => NodeKind::Fifo,
        Kind::Socket => NodeKind::Socket,
        Kind::CharDevice | Kind::BlockDevice => NodeKind::Device,
    })
}

fn xattrs_of(inode: &dyn Inode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = inode.list_xattr()?;
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok((name.to_vec(), inode.xattr(name)?))).collect()
}

/// The bytes of the first `size`, without holes. Read into a buffer first: whoever is told may be slow, and no lock is held then.
fn tell_contents(contents: &Contents, size: u64, report: &mut dyn Report) -> Result<()> {
    let mut buffer = vec![0u8; MAX_DATA as usize];
    let mut at = 0;
    while let Some((start, end)) = contents.next_data(at, size) {
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(buffer.len()).min(buffer.len());
            let room = buffer.get_mut(..most).ok_or(Errno::EIO)?;
            let count = contents.read(at, room)?;
            if count == 0 {
                return Ok(());
            }
            report.data(at, buffer.get(..count).ok_or(Errno::EIO)?)?;
            at += count as u64;
        }
    }
    Ok(())
}

impl Contents {
    fn next_data(&self, at: u64, size: u64) -> Option<(u64, u64)> {
        if at >= size {
            return None;
        }
        match self {
            Contents::Nowhere => None,
            Contents::Host(file) => next_data(file, at, size),
            Contents::Memory(data) => {
                let start = data.find(at, true).ok()?;
                let end = data.find(start, false).ok()?.min(size);
                (start < end).then_some((start, end))
            }
        }
    }

    fn read(&self, at: u64, room: &mut [u8]) -> Result<usize> {
        match self {
            Contents::Nowhere => Ok(0),
            Contents::Host(file) => host::pread(file.number(), room.into(), at),
            Contents::Memory(data) => Ok(data.copy_out(at, room)),
        }
    }
}
