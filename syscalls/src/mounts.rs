//! The sandbox's tree, put together at boot from the configuration's mount table, and those of containers that join it.

use crate::hosts;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use boundary::boot::{BootConfig, MountKind, MountSpec};
use kernel::cred::Cred;
use kernel::sync::Mutex;
use kernel::task::PidSpace;
use linux_raw_sys::general as raw;
use vfs::Errno;
use vfs::attributes::Kind;
use vfs::context::FsContext;
use vfs::host::{HostInode, HostRights, HostTree};
use vfs::identity::HostIds;
use vfs::inode::Inode;
use vfs::namespace::{self, Dentry, Lookup, MountFlags, MountOptions, Namespace, Path, Resolve, WalkFlags};
use vfs::table::{OwnTable, TableUse};
use vfs::{device, overlay, tmpfs, tty};

/// Pages of a tmpfs without a size of its own: half of the sandbox's memory, as Linux has it.
const DEFAULT_TMPFS_SHARE: u64 = 2;

struct Builder {
    memory_limit: u64,
    host: Arc<HostTree>,
    volumes: Arc<Volumes>,
    /// Which processes `/proc` shows.
    space: PidSpace,
}

/// Host directories and files that are mounted. One that is mounted again, by another container of a pod or at another place, is the
/// same filesystem: locks on its files, and named pipes in it, are seen in both. A leaf of the lock order.
#[derive(Default)]
pub struct Volumes(Mutex<Vec<Volume>>);

struct Volume {
    /// Device and inode number of its root on the host.
    id: (u64, u64),
    read_only: bool,
    root: Weak<Dentry>,
}

impl Volumes {
    /// The filesystem at this place of the host, as it is mounted already. One that is writable serves for reading, too: the mount is
    /// read-only.
    fn find(&self, id: (u64, u64), read_only: bool) -> Option<Arc<Dentry>> {
        let volumes = self.0.lock();
        let fits = |volume: &&Volume| volume.id == id && (read_only || !volume.read_only);
        volumes.iter().filter(fits).find_map(|volume| volume.root.upgrade())
    }

    fn note(&self, id: (u64, u64), read_only: bool, root: &Arc<Dentry>) {
        let mut volumes = self.0.lock();
        volumes.retain(|volume| volume.root.strong_count() > 0);
        volumes.push(Volume { id, read_only, root: Arc::downgrade(root) });
    }
}

/// What was built.
struct Built {
    context: Arc<FsContext>,
    overlays: Vec<crate::changes::Mounted>,
}

/// A mount that could not be made, in words for people.
pub struct Unmounted {
    /// What went wrong.
    pub errno: Errno,
    /// What it was about, and why.
    pub text: String,
}

/// What containers that join a pod have in common with the first.
pub struct Base {
    /// The launcher's tree on the host.
    pub host: Arc<HostTree>,
    volumes: Arc<Volumes>,
    memory_limit: u64,
}

/// Mounts everything; the context has its root as the working directory. With it what others join beside. The error is for people.
pub fn set_up(config: &BootConfig) -> Result<(Arc<FsContext>, Base), String> {
    let ids = HostIds::new(config.host_ids);
    let options = &config.options;
    let rights = HostRights { xattrs: options.host_xattrs, set_ids: options.container };
    // Of a sandbox that root has started, the host knows neither the users nor, of a container, whom its file capabilities serve.
    let by_user = !options.container && config.first.uid != 0;
    let caller = by_user.then(|| Cred::new(config.first.uid, config.first.gid, config.first.groups.clone()));
    let host = HostTree::new(config.fds.root, ids, rights, caller);
    let (memory_limit, volumes) = (options.memory_limit, Arc::<Volumes>::default());
    let builder =
        Builder { memory_limit, host: host.clone(), volumes: volumes.clone(), space: PidSpace::ALL };
    let built = builder.build(&config.mounts).map_err(|failed| failed.text)?;
    crate::changes::init(built.overlays);
    Ok((built.context, Base { host, volumes, memory_limit }))
}

/// Mounts the tree of a container that joins, with its process ids: in a table of its own.
pub fn join(
    base: &Base,
    host: Arc<HostTree>,
    mounts: &[MountSpec],
    space: PidSpace,
) -> Result<Arc<FsContext>, Unmounted> {
    let builder = Builder { memory_limit: base.memory_limit, host, volumes: base.volumes.clone(), space };
    Ok(builder.build(mounts)?.context)
}

/// chdir(2) for a process that is about to start.
pub fn change_directory(
    context: &Arc<FsContext>,
    files: OwnTable<'_>,
    cred: &Cred,
    path: &[u8],
) -> Result<(), Errno> {
    let lookup = Lookup { fs: context, files, cred };
    let cwd = find(&lookup, path)?;
    if cwd.inode().kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    context.set_cwd(cwd);
    Ok(())
}

/// Makes a directory and what is above it, as root.
pub fn make_directory(context: &Arc<FsContext>, path: &[u8]) -> Result<(), Errno> {
    let (mut files, cred) = (TableUse::default(), Cred::new(0, 0, Vec::new()));
    let lookup = Lookup { fs: context, files: files.before_its_thread().into_table(), cred: &cred };
    make_parents(&lookup, path)?;
    match namespace::make_directory(&lookup, raw::AT_FDCWD, path, 0o755) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

fn failed(spec: &MountSpec, errno: Errno) -> Unmounted {
    let reason = match errno {
        Errno::EROFS => ": what is around it is read-only and has no such place; make one there first",
        _ => "",
    };
    Unmounted { errno, text: format!("mounting {}: {errno}{reason}", String::from_utf8_lossy(&spec.target)) }
}

fn note_overlay(spec: &MountSpec, inode: Arc<dyn Inode>, overlays: &mut Vec<crate::changes::Mounted>) {
    if matches!(spec.kind, MountKind::Overlay { .. }) {
        let path = spec.target.strip_prefix(b"/").unwrap_or(&spec.target);
        overlays.push((path.to_vec(), inode));
    }
}

fn find(lookup: &Lookup<'_>, path: &[u8]) -> Result<Path, Errno> {
    namespace::resolve(lookup, raw::AT_FDCWD, path, WalkFlags::FOLLOW, Resolve::empty())
}

impl Builder {
    /// Mounts one after the other, in a table of its own.
    fn build(&self, mounts: &[MountSpec]) -> Result<Built, Unmounted> {
        let none = |text: &str| Unmounted { errno: Errno::EINVAL, text: String::from(text) };
        let (first, rest) = mounts.split_first().ok_or_else(|| none("no mounts"))?;
        let (inode, options) = self.filesystem(first).map_err(|errno| failed(first, errno))?;
        let root_inode = inode.clone();
        let namespace = Namespace::new(inode, options);
        let root = namespace.root().ok_or_else(|| none("no root"))?;
        let context = FsContext::new(namespace, root.clone(), root, 0);
        let mut files = TableUse::default();
        let cred = Cred::new(0, 0, Vec::new());
        let mut overlays = Vec::new();
        note_overlay(first, root_inode, &mut overlays);
        for spec in rest {
            let lookup = Lookup { fs: &context, files: files.before_its_thread().into_table(), cred: &cred };
            let mounted = self.mount(&lookup, spec).map_err(|errno| failed(spec, errno))?;
            if let Some(inode) = mounted {
                note_overlay(spec, inode, &mut overlays);
            }
        }
        context.namespace().lock_all();
        Ok(Built { context, overlays })
    }

    /// The root inode of what is mounted, and how `/proc/mounts` shows it.
    fn filesystem(&self, spec: &MountSpec) -> Result<(Arc<dyn Inode>, MountOptions), Errno> {
        let (inode, source, fstype): (Arc<dyn Inode>, &[u8], &[u8]) = match &spec.kind {
            MountKind::Host { path, shared } => {
                (self.host.mount(path, *shared, spec.read_only)?, b"host", b"host")
            }
            MountKind::Overlay { lower, upper } => {
                let lower = self.host.mount(lower, false, true)?;
                let root = match upper {
                    None => overlay::mount(lower)?,
                    Some(upper) => overlay::on_host::mount(lower, self.host.mount(upper, false, false)?)?,
                };
                (root, b"overlay", b"overlay")
            }
            MountKind::Device { name, node } => (device::alone(name, *node)?, b"tmpfs", b"tmpfs"),
            MountKind::Tmpfs { size, mode } => {
                let limit = self.memory_limit / DEFAULT_TMPFS_SHARE;
                let size = if *size == 0 { limit } else { *size };
                (tmpfs::mount(size, *mode, (0, 0))?, b"tmpfs", b"tmpfs")
            }
            MountKind::Proc => (crate::proc::root(self.space), b"proc", b"proc"),
            MountKind::Sys => (crate::proc::sys_root(), b"sysfs", b"sysfs"),
            MountKind::Cgroup => (crate::proc::cgroup_root(), b"cgroup2", b"cgroup2"),
            MountKind::Dev => {
                let root = tmpfs::mount(1 << 20, 0o755, (0, 0))?;
                device::populate_dev(&root)?;
                (root, b"tmpfs", b"tmpfs")
            }
            MountKind::DevPts => (tty::devpts_root(), b"devpts", b"devpts"),
            MountKind::Mqueue => (vfs::mqueue::filesystem()?.clone(), b"mqueue", b"mqueue"),
            MountKind::Masked | MountKind::Again | MountKind::Hosts { .. } | MountKind::Symlink { .. } => {
                return Err(Errno::EINVAL);
            }
        };
        Ok((inode, mount_options(spec, source, fstype)))
    }

    /// Mounts one; its root, unless it is no more than a link.
    fn mount(&self, lookup: &Lookup<'_>, spec: &MountSpec) -> Result<Option<Arc<dyn Inode>>, Errno> {
        if let MountKind::Symlink { text } = &spec.kind {
            make_parents(lookup, &spec.target)?;
            return match namespace::symlink(lookup, text, raw::AT_FDCWD, &spec.target) {
                Ok(()) | Err(Errno::EEXIST) => Ok(None),
                Err(error) => Err(error),
            };
        }
        if matches!(spec.kind, MountKind::Masked | MountKind::Again | MountKind::Hosts { .. }) {
            return match find(lookup, &spec.target) {
                Ok(at) => cover(lookup, spec, &at).map(|()| None),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let (inode, options) = self.filesystem(spec)?;
        let at = match find(lookup, &spec.target) {
            Ok(at) => at,
            Err(Errno::ENOENT) => {
                make_parents(lookup, &spec.target)?;
                if inode.kind() == Kind::Directory {
                    namespace::make_directory(lookup, raw::AT_FDCWD, &spec.target, 0o755)?;
                } else {
                    namespace::make_node(lookup, raw::AT_FDCWD, &spec.target, raw::S_IFREG | 0o644, 0)?;
                }
                find(lookup, &spec.target)?
            }
            Err(errno) => return Err(errno),
        };
        let volume = match (&spec.kind, inode.as_any().downcast_ref::<HostInode>()) {
            (MountKind::Host { shared: true, .. }, Some(inode)) => Some(inode.id()),
            _ => None,
        };
        let root = volume
            .and_then(|id| self.volumes.find(id, spec.read_only))
            .unwrap_or_else(|| Dentry::root(inode.clone()));
        if let Some(id) = volume {
            self.volumes.note(id, spec.read_only, &root);
        }
        lookup.fs.namespace().mount_again(root, &at, options).map(|_| Some(inode))
    }
}

/// Hides, repeats or completes what lies at a place.
fn cover(lookup: &Lookup<'_>, spec: &MountSpec, at: &Path) -> Result<(), Errno> {
    let inode: Arc<dyn Inode> = match &spec.kind {
        MountKind::Masked if at.inode().kind() == Kind::Directory => tmpfs::mount(1, 0o755, (0, 0))?,
        MountKind::Masked => device::alone("null", None)?,
        MountKind::Hosts { name, addresses } => {
            match hosts::completed(lookup, &spec.target, name, addresses)? {
                Some(file) => file,
                None => return Ok(()),
            }
        }
        _ => {
            let mount = lookup.fs.namespace().bind(at, at, true)?;
            return lookup.fs.namespace().remount(&mount, mount.flags() | mount_flags(spec));
        }
    };
    let options = mount_options(spec, b"tmpfs", b"tmpfs");
    lookup.fs.namespace().mount(inode, at, options).map(drop)
}

fn mount_flags(spec: &MountSpec) -> MountFlags {
    const KEPT: MountFlags = MountFlags::NO_SUID
        .union(MountFlags::NO_DEV)
        .union(MountFlags::NO_EXEC)
        .union(MountFlags::NO_ATIME)
        .union(MountFlags::NO_DIRATIME);
    let mut flags = MountFlags::from_bits_truncate(spec.flags) & KEPT;
    flags.set(MountFlags::READ_ONLY, spec.read_only);
    flags.set(MountFlags::RELATIME, !flags.contains(MountFlags::NO_ATIME));
    flags
}

fn mount_options(spec: &MountSpec, source: &[u8], fstype: &[u8]) -> MountOptions {
    let flags = mount_flags(spec);
    MountOptions { flags, source: source.to_vec(), fstype: fstype.to_vec(), options: Vec::new() }
}

fn make_parents(lookup: &Lookup<'_>, target: &[u8]) -> Result<(), Errno> {
    for (index, byte) in target.iter().enumerate() {
        if *byte != b'/' || index == 0 {
            continue;
        }
        let parent = target.get(..index).unwrap_or(target);
        match namespace::make_directory(lookup, raw::AT_FDCWD, parent, 0o755) {
            Ok(()) | Err(Errno::EEXIST) => {}
            // What is there already may be in a read-only mount, which says so first.
            Err(Errno::EROFS) if find(lookup, parent).is_ok() => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
