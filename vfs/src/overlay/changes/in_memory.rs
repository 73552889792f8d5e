//! What was changed in an overlay whose upper is in memory.
//!
//! Changed inodes of the lower are held by their identity, not by a directory. So first the names that lead to them are collected,
//! from the inodes up to the root; then the tree is walked down where the upper has names or one of those leads. The cost depends
//! on what was changed, not on the size of the lower. A file of the lower with several names is found under those that were
//! looked up.

use super::{Contents, Report, joined, tell_node};
use crate::attributes::Kind;
use crate::host::HostInode;
use crate::inode::Inode;
use crate::overlay::{OverlayFs, OverlayInode, Slot};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::changes::Change;

/// By directory of the lower: the names that lead to something that was changed.
type Leading = BTreeMap<(u64, u64), BTreeSet<Box<[u8]>>>;

/// A directory to look into.
struct Visit {
    node: Arc<OverlayInode>,
    path: Vec<u8>,
    /// It has come to a place where the lower has nothing of it: all that is in it is told.
    whole: bool,
}

struct Walk<'a> {
    leading: Leading,
    left: Vec<Visit>,
    /// Where files with several names were told of, by address.
    told: BTreeMap<usize, Vec<u8>>,
    report: &'a mut dyn Report,
}

pub(super) fn tell(root: Arc<OverlayInode>, prefix: &[u8], report: &mut dyn Report) -> Result<()> {
    let leading = leading(&root.fs);
    if root.is_changed() {
        tell_node(&*root, prefix, false, &Contents::Nowhere, report)?;
    }
    let first = Visit { node: root, path: prefix.to_vec(), whole: false };
    let mut walk = Walk { leading, left: Vec::from([first]), told: BTreeMap::new(), report };
    // Not recursive: a kernel stack is small and a tree may be deep.
    while let Some(visit) = walk.left.pop() {
        walk.look_into(&visit)?;
    }
    Ok(())
}

fn leading(fs: &OverlayFs) -> Leading {
    let changed: Vec<Arc<OverlayInode>> = {
        let nodes = fs.nodes.lock();
        let changed = nodes.values().filter_map(|slot| match slot {
            Slot::Changed(node) => Some(node.clone()),
            Slot::Seen(_) => None,
        });
        changed.collect()
    };
    let mut leading = Leading::new();
    for node in changed {
        let mut left: Vec<Arc<HostInode>> = node.lower.iter().cloned().collect();
        while let Some(inode) = left.pop() {
            for (parent, name) in inode.places() {
                let new = leading.entry(parent.id()).or_default().insert(name);
                if new {
                    left.push(parent);
                }
            }
        }
    }
    leading
}

impl Walk<'_> {
    fn look_into(&mut self, visit: &Visit) -> Result<()> {
        let Visit { node, path, whole } = visit;
        let entries = node.upper_entries();
        for (name, entry) in &entries {
            let path = joined(path, name);
            let covers = !whole && node.lower_child(name)?.is_some();
            match entry {
                Some(child) => self.tell_new(child, path, covers)?,
                None if covers => self.report.change(&Change::Whiteout { path })?,
                None => {}
            }
        }
        let known: BTreeSet<&[u8]> = entries.iter().map(|(name, _)| &**name).collect();
        for name in self.names_below(node, *whole)?.iter().filter(|name| !known.contains(&***name)) {
            let Some(child) = node.find(name)? else { continue };
            let path = joined(path, name);
            if *whole || child.is_changed() {
                self.tell_one(&child, &path, *whole)?;
            }
            if child.kind() == Kind::Directory {
                self.left.push(Visit { node: child, path, whole: *whole });
            }
        }
        Ok(())
    }

    /// The names of the lower to look at.
    fn names_below(&self, node: &OverlayInode, whole: bool) -> Result<Vec<Box<[u8]>>> {
        if whole {
            return Ok(node.lower_names()?.into_iter().map(|(name, ..)| name).collect());
        }
        let names = node.lower.as_ref().and_then(|lower| self.leading.get(&lower.id()));
        Ok(names.into_iter().flatten().cloned().collect())
    }

    /// What the upper has put at a name, where the lower has something if `covers`.
    fn tell_new(&mut self, child: &Arc<OverlayInode>, path: Vec<u8>, covers: bool) -> Result<()> {
        self.tell_one(child, &path, !covers)?;
        if child.kind() == Kind::Directory {
            if covers {
                self.report.change(&Change::Opaque { path: path.clone() })?;
            }
            self.left.push(Visit { node: child.clone(), path, whole: true });
        }
        Ok(())
    }

    fn tell_one(&mut self, node: &Arc<OverlayInode>, path: &[u8], fresh: bool) -> Result<()> {
        if node.kind() != Kind::Directory && node.attributes()?.nlink > 1 {
            let key = Arc::as_ptr(node) as usize;
            if let Some(to) = self.told.get(&key) {
                return self.report.change(&Change::Link { path: path.to_vec(), to: to.clone(), fresh });
            }
            self.told.insert(key, path.to_vec());
        }
        let contents = match (node.kind(), node.upper_data(), &node.lower) {
            (Kind::Regular, Some(data), _) => Contents::Memory(data),
            (Kind::Regular, None, Some(lower)) if self.report.wants_data() => {
                Contents::Host(lower.open_for_copy()?)
            }
            (Kind::Regular, None, None) => return Err(Errno::EIO),
            _ => Contents::Nowhere,
        };
        tell_node(&**node, path, fresh, &contents, self.report)
    }
}
