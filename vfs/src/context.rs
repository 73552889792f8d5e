//! Where a process stands in the tree: root, working directory, umask (`CLONE_FS` shares it).

use crate::namespace::{Namespace, Path};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::sync::RwLock;

struct Places {
    root: Path,
    cwd: Path,
}

/// The filesystem context of a process (or of several that share it).
pub struct FsContext {
    namespace: Arc<Namespace>,
    places: RwLock<Places>,
    umask: AtomicU32,
}

impl FsContext {
    /// A context with this root and working directory.
    pub fn new(namespace: Arc<Namespace>, root: Path, cwd: Path, umask: u32) -> Arc<FsContext> {
        let umask = AtomicU32::new(umask & 0o777);
        Arc::new(FsContext { namespace, places: RwLock::new(Places { root, cwd }), umask })
    }

    /// A copy of its own for a forked process, or for unshare(2) with `CLONE_FS`.
    pub fn fork(&self) -> Arc<FsContext> {
        let (root, cwd) = self.root_and_cwd();
        FsContext::new(self.namespace.clone(), root, cwd, self.umask())
    }

    /// The mount table.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Root directory.
    pub fn root(&self) -> Path {
        self.places.read().root.clone()
    }

    /// Working directory.
    pub fn cwd(&self) -> Path {
        self.places.read().cwd.clone()
    }

    /// Both, as of one moment.
    pub fn root_and_cwd(&self) -> (Path, Path) {
        let places = self.places.read();
        (places.root.clone(), places.cwd.clone())
    }

    /// chroot(2), after its checks.
    pub fn set_root(&self, root: Path) {
        let old = core::mem::replace(&mut self.places.write().root, root);
        // Possibly the last reference: not under the lock.
        drop(old);
    }

    /// chdir(2), after its checks.
    pub fn set_cwd(&self, cwd: Path) {
        let old = core::mem::replace(&mut self.places.write().cwd, cwd);
        drop(old);
    }

    /// File mode creation mask.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// umask(2): the mask before.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }
}
