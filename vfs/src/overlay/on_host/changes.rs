//! What the upper of an overlay on the host holds: it is a layer already, and only read.

use super::{Node, OPAQUE, TEMPORARY, WHITEOUT, child, whiteout_of};
use crate::attributes::Kind;
use crate::host::HostInode;
use crate::inode::Inode;
use crate::overlay::changes::{Contents, Report, joined, tell_node};
use crate::overlay::listing::names_of;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::changes::Change;

/// A directory to look into: what the lower has of it, and the upper.
struct Visit {
    lower: Option<Arc<HostInode>>,
    upper: Arc<HostInode>,
    path: Vec<u8>,
}

pub(in crate::overlay) fn tell(root: &Node, prefix: &[u8], report: &mut dyn Report) -> Result<()> {
    let upper = root.upper().ok_or(Errno::EIO)?;
    let mut left = Vec::from([Visit { lower: root.lower.clone(), upper, path: prefix.to_vec() }]);
    let mut told: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    while let Some(Visit { lower, upper, path }) = left.pop() {
        for (name, ..) in names_of(&upper)? {
            if name.starts_with(TEMPORARY) || *name == *OPAQUE {
                continue;
            }
            if let Some(gone) = name.strip_prefix(WHITEOUT) {
                if child(&upper, gone)?.is_none() {
                    report.change(&Change::Whiteout { path: joined(&path, gone) })?;
                }
                continue;
            }
            let Some(node) = child(&upper, &name)? else { continue };
            let path = joined(&path, &name);
            let below = match &lower {
                Some(lower) => child(lower, &name)?,
                None => None,
            };
            let fresh = below.is_none();
            if node.kind() != Kind::Directory && node.attributes()?.nlink > 1 {
                if let Some(to) = told.get(&node.id()) {
                    report.change(&Change::Link { path, to: to.clone(), fresh })?;
                    continue;
                }
                told.insert(node.id(), path.clone());
            }
            let contents = match node.kind() {
                Kind::Regular if report.wants_data() => Contents::Host(node.open_for_copy()?),
                _ => Contents::Nowhere,
            };
            tell_node(&*node, &path, fresh, &contents, report)?;
            if node.kind() == Kind::Directory {
                let hidden = child(&node, OPAQUE)?.is_some()
                    || whiteout_of(&name)
                        .is_ok_and(|whiteout| matches!(child(&upper, &whiteout), Ok(Some(_))));
                if hidden && !fresh {
                    report.change(&Change::Opaque { path: path.clone() })?;
                }
                let lower = below.filter(|below| !hidden && below.kind() == Kind::Directory);
                left.push(Visit { lower, upper: node, path });
            }
        }
    }
    Ok(())
}
