//! `root` and `mounts` of config.json: what the container's kernel mounts, and what of the host lies below.

use crate::command::Writes;
use crate::{inside, log};
use anyhow::Context;
use boundary::boot::{MountKind, MountSpec};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};
use pathrs::Root;
use pathrs::flags::OpenFlags;
use runtime::view::{HostPath, View};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Devices that every container has (runtime-spec, "Default Devices"), with their numbers.
const DEVICES: &[(&str, i64, i64)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

fn target(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// `.`, `..` and doubled slashes taken out, from the root.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// The options of one mount.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    read_only: bool,
    bind: bool,
    /// `MS_NOSUID` and the like.
    flags: u32,
    /// What is in the directory underneath is seen, and can be changed (`tmpcopyup`).
    copy_up: bool,
    size: Option<u64>,
    mode: Option<u32>,
}

impl Options {
    fn of(mount: &Mount) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let kind = mount.typ().as_deref().unwrap_or_default();
        for option in mount.options().iter().flatten() {
            options.take(option, kind)?;
        }
        options.bind |= kind == "bind";
        Ok(options)
    }

    fn take(&mut self, option: &str, kind: &str) -> anyhow::Result<()> {
        let (set, clear) = match option {
            "nosuid" | "rnosuid" => (libc::MS_NOSUID, 0),
            "suid" | "rsuid" => (0, libc::MS_NOSUID),
            "nodev" | "rnodev" => (libc::MS_NODEV, 0),
            "dev" | "rdev" => (0, libc::MS_NODEV),
            "noexec" | "rnoexec" => (libc::MS_NOEXEC, 0),
            "exec" | "rexec" => (0, libc::MS_NOEXEC),
            "noatime" | "rnoatime" => (libc::MS_NOATIME, 0),
            "atime" | "ratime" => (0, libc::MS_NOATIME),
            "nodiratime" | "rnodiratime" => (libc::MS_NODIRATIME, 0),
            "diratime" | "rdiratime" => (0, libc::MS_NODIRATIME),
            _ => (0, 0),
        };
        if set | clear != 0 {
            self.flags = (self.flags | set as u32) & !(clear as u32);
            return Ok(());
        }
        match option {
            "ro" | "rro" => self.read_only = true,
            "rw" | "rrw" => self.read_only = false,
            "bind" | "rbind" => self.bind = true,
            "tmpcopyup" => self.copy_up = true,
            // What a sandbox's mounts are anyway; times of access are kept as with relatime.
            "" | "defaults" | "private" | "rprivate" | "relatime" | "rrelatime" | "norelatime" | "async"
            | "nomand" | "noiversion" | "loud" | "silent" | "strictatime" | "nostrictatime" => {}
            "newinstance" if kind == "devpts" => {}
            _ => return self.take_value(option, kind),
        }
        Ok(())
    }

    fn take_value(&mut self, option: &str, kind: &str) -> anyhow::Result<()> {
        let unknown = || anyhow::anyhow!("option {option:?} is not supported");
        let (name, value) = option.split_once('=').ok_or_else(unknown)?;
        match (kind, name) {
            ("tmpfs", "size") => self.size = Some(size(value).ok_or_else(unknown)?),
            ("tmpfs", "mode") => self.mode = Some(u32::from_str_radix(value, 8).map_err(|_| unknown())?),
            // Terminals, and the device that makes them, have these modes and this group.
            ("devpts", "mode") if ["620", "0620"].contains(&value) => {}
            ("devpts", "ptmxmode") if ["666", "0666"].contains(&value) => {}
            ("devpts", "gid") if value == "5" => {}
            ("tmpfs", "uid" | "gid") if value == "0" => {}
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

/// A tmpfs's size in bytes (tmpfs(5)): with k, m or g, or a share of the memory.
fn size(text: &str) -> Option<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        let total = nix::sys::sysinfo::sysinfo().ok()?.ram_total();
        return (total / 100).checked_mul(percent.parse().ok()?);
    }
    let (digits, shift) = match text.to_ascii_lowercase().chars().last()? {
        'k' => (text.get(..text.len() - 1)?, 10),
        'm' => (text.get(..text.len() - 1)?, 20),
        'g' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Whether a view is for a container that is being made, or for one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What is to be mounted on is made in the root, and what cannot be mounted is an error.
    Make,
    /// Nothing is changed, and what is not there any more is left out.
    Look,
}

/// Builds the view of a container.
pub fn view(
    spec: &Spec,
    bundle: &Path,
    rootfs: &Path,
    writes: Writes,
    purpose: Purpose,
) -> anyhow::Result<View> {
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
    let mut building = Building { view: View { granted: true, ..View::default() }, rootfs, writes, purpose };
    let path = relative(rootfs);
    let kind = match writes {
        // `docker cp` changes the root from outside at any time.
        Writes::Host => MountKind::Host { path, shared: true },
        Writes::Memory => MountKind::Overlay { lower: path, upper: None },
    };
    building.lay_out(rootfs, writes == Writes::Host && !read_only);
    building.push(Path::new("/"), kind, read_only, 0);
    for mount in spec.mounts().iter().flatten() {
        let mounted = building.mount(mount, bundle).with_context(|| {
            format!("mounts: error mounting {:?} to rootfs at {:?}", source_shown(mount), mount.destination())
        });
        if purpose == Purpose::Make {
            mounted?;
        }
    }
    if let Some(linux) = spec.linux() {
        building.devices(linux)?;
        for path in linux.masked_paths().iter().flatten() {
            building.push(&clean(Path::new(path)), MountKind::Masked, true, 0);
        }
        for path in linux.readonly_paths().iter().flatten() {
            building.push(&clean(Path::new(path)), MountKind::Again, true, 0);
        }
    }
    building.order_host_paths();
    Ok(building.view)
}

fn source_shown(mount: &Mount) -> String {
    let source = mount.source().as_ref().map(|source| source.display().to_string());
    source.or_else(|| mount.typ().clone()).unwrap_or_default()
}

struct Building<'a> {
    view: View,
    rootfs: &'a Path,
    writes: Writes,
    purpose: Purpose,
}

impl Building<'_> {
    fn push(&mut self, at: &Path, kind: MountKind, read_only: bool, flags: u32) {
        self.view.mounts.push(MountSpec { target: target(at), kind, read_only, flags });
    }

    fn lay_out(&mut self, path: &Path, writable: bool) {
        self.view.host_paths.push(HostPath { path: path.into(), writable, granted: true });
    }

    /// In the host tree a path can be there once only, and an inner one has to come after what is around it. Who may write where is
    /// the kernel's to say: the mounts have it.
    fn order_host_paths(&mut self) {
        let paths = &mut self.view.host_paths;
        paths.sort_by(|one, other| one.path.cmp(&other.path));
        paths.dedup_by(|again, first| {
            let same = again.path == first.path;
            first.writable |= same && again.writable;
            same
        });
    }

    fn mount(&mut self, mount: &Mount, bundle: &Path) -> anyhow::Result<()> {
        let options = Options::of(mount)?;
        anyhow::ensure!(
            mount.uid_mappings().is_none() && mount.gid_mappings().is_none(),
            "uidMappings and gidMappings of a mount are not supported"
        );
        let at = clean(mount.destination());
        anyhow::ensure!(at != Path::new("/"), "nothing can be mounted on the root itself");
        if options.bind {
            return self.bind(mount, &at, &options, bundle);
        }
        let kind = match mount.typ().as_deref().unwrap_or_default() {
            "proc" => MountKind::Proc,
            "sysfs" => MountKind::Sys,
            "cgroup" | "cgroup2" => MountKind::Cgroup,
            "devpts" => MountKind::DevPts,
            "mqueue" => MountKind::Mqueue,
            "tmpfs" if at == Path::new("/dev") => MountKind::Dev,
            "tmpfs"
                if options.copy_up
                    && let Some(lower) = self.directory_below(&at) =>
            {
                MountKind::Overlay { lower: relative(&lower), upper: None }
            }
            "tmpfs" => MountKind::Tmpfs {
                size: options.size.unwrap_or(0),
                mode: options.mode.or_else(|| self.mode_of(&at)).unwrap_or(0o1777),
            },
            other => anyhow::bail!("filesystems of type {other:?} are not supported"),
        };
        self.make_place(&at, true)?;
        self.push(&at, kind, options.read_only, options.flags);
        Ok(())
    }

    /// The permission bits of what lies there.
    fn mode_of(&self, at: &Path) -> Option<u32> {
        let host = inside::find(&self.view, at).ok()?.host?;
        Some(fs::metadata(host).ok()?.permissions().mode() & 0o7777)
    }

    /// The directory of the root that `tmpcopyup` copies, if there is one.
    fn directory_below(&self, at: &Path) -> Option<PathBuf> {
        let host = inside::find(&self.view, at).ok()?.host?;
        (host.is_dir() && host.starts_with(self.rootfs)).then_some(host)
    }

    fn bind(&mut self, mount: &Mount, at: &Path, options: &Options, bundle: &Path) -> anyhow::Result<()> {
        let source = mount.source().as_ref().context("a bind mount needs a source")?;
        let source =
            fs::canonicalize(bundle.join(source)).with_context(|| format!("stat {}", source.display()))?;
        if let Some(kind) = of_the_kernel(&source)? {
            self.make_place(at, !matches!(kind, MountKind::Device { .. }))?;
            self.push(at, kind, options.read_only, options.flags);
            return Ok(());
        }
        self.make_place(at, source.is_dir())?;
        self.lay_out(&source, !options.read_only);
        let kind = MountKind::Host { path: relative(&source), shared: true };
        self.push(at, kind, options.read_only, options.flags);
        Ok(())
    }

    /// Sees to it that there is something to mount on. Below another mount that is the kernel's to do.
    fn make_place(&self, at: &Path, directory: bool) -> anyhow::Result<()> {
        if self.purpose == Purpose::Look {
            return Ok(());
        }
        match inside::find(&self.view, at) {
            Ok(place) => {
                let exists = place.host.map(|host| host.is_dir());
                anyhow::ensure!(exists.is_none_or(|is| is == directory), "not a directory");
                return Ok(());
            }
            Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        if self.writes == Writes::Memory || !self.is_in_root(at) {
            return Ok(());
        }
        let root = Root::open(self.rootfs).context("root.path")?;
        let directories = if directory { at } else { at.parent().unwrap_or(Path::new("/")) };
        root.mkdir_all(directories, &Permissions::from_mode(0o755)).context("making the mount point")?;
        if !directory {
            root.create_file(at, OpenFlags::O_CREAT | OpenFlags::O_RDONLY, &Permissions::from_mode(0o644))
                .context("making the mount point")?;
        }
        Ok(())
    }

    fn is_in_root(&self, at: &Path) -> bool {
        let around = |mount: &&MountSpec| at.starts_with(OsStr::from_bytes(&mount.target));
        self.view.mounts.iter().filter(around).count() == 1
    }

    /// The devices of every container where nothing is mounted on `/dev`, and those that are asked for, which must be among them: under
    /// their own names or under others.
    fn devices(&mut self, linux: &Linux) -> anyhow::Result<()> {
        let (mut left_out, mut asked) = (Vec::new(), Vec::new());
        for device in linux.devices().iter().flatten() {
            let at = clean(device.path());
            let number = (device.major(), device.minor());
            let own = DEVICES.iter().find(|(_, major, minor)| (*major, *minor) == number);
            match own.filter(|_| device.typ() == LinuxDeviceType::C) {
                Some((name, ..)) if at == Path::new("/dev").join(name) && node_of(device).is_none() => {}
                Some((name, ..)) => asked.push((at, (*name).to_owned(), node_of(device))),
                None if [Path::new("/dev/console"), Path::new("/dev/ptmx")].contains(&&*at) => {}
                None => left_out.push(at.display().to_string()),
            }
        }
        if !left_out.is_empty() {
            let why = format!("linux.devices: {}: {NO_DEVICES}", left_out.join(", "));
            // Who allows every device lists those that there are (`--privileged`), and asks for none of them.
            anyhow::ensure!(allows_all(linux), why);
            if self.purpose == Purpose::Make {
                log::warn(&format!("{why}; left out"));
            }
        }
        let dev = Path::new("/dev");
        if !self.view.mounts.iter().any(|mount| mount.target == target(dev)) {
            let own = DEVICES.iter().map(|(name, _, _)| (dev.join(name), (*name).to_owned(), None));
            let own: Vec<_> = own.filter(|(at, ..)| !asked.iter().any(|(other, ..)| other == at)).collect();
            asked.extend(own);
        }
        for (at, name, node) in asked {
            self.make_place(&at, false)?;
            self.push(&at, MountKind::Device { name, node }, false, 0);
        }
        Ok(())
    }
}

/// Permission bits, user and group of a device's node, if any of it is said.
fn node_of(device: &LinuxDevice) -> Option<(u32, u32, u32)> {
    let (mode, uid, gid) = (device.file_mode(), device.uid(), device.gid());
    let said = mode.is_some() || uid.is_some() || gid.is_some();
    said.then(|| (mode.unwrap_or(0o666), uid.unwrap_or(0), gid.unwrap_or(0)))
}

/// Why a device is not there.
const NO_DEVICES: &str =
    "a sandbox opens no device of the host; it has null, zero, full, random, urandom and tty of its own";

/// Whether the rules of the control group allow every device.
fn allows_all(linux: &Linux) -> bool {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().as_deref());
    let about_all = |rule: &&LinuxDeviceCgroup| {
        let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
        rule.typ().is_none_or(|kind| kind == LinuxDeviceType::A) && any(rule.major()) && any(rule.minor())
    };
    // Later rules count.
    rules.and_then(|rules| rules.iter().rev().find(about_all)).is_some_and(|rule| rule.allow())
}

/// What stands for a source that belongs to the host's kernel: the sandbox shows its own.
fn of_the_kernel(source: &Path) -> anyhow::Result<Option<MountKind>> {
    if source.starts_with("/sys/fs/cgroup") {
        return Ok(Some(MountKind::Cgroup));
    }
    if source == Path::new("/sys") {
        return Ok(Some(MountKind::Sys));
    }
    if let Ok(name) = source.strip_prefix("/dev")
        && let Some((name, _, _)) = DEVICES.iter().find(|(known, _, _)| name == Path::new(known))
    {
        return Ok(Some(MountKind::Device { name: (*name).to_owned(), node: None }));
    }
    let hidden = ["/dev", "/proc", "/sys"].iter().find(|directory| source.starts_with(directory));
    if let Some(directory) = hidden {
        anyhow::bail!(
            "{} is below the host's {directory}, of which a sandbox sees nothing",
            source.display()
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{MountBuilder, RootBuilder, SpecBuilder};

    fn mount(kind: &str, destination: &str, source: Option<&Path>, options: &[&str]) -> Mount {
        let mut builder = MountBuilder::default()
            .typ(kind)
            .destination(destination)
            .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>());
        if let Some(source) = source {
            builder = builder.source(source);
        }
        builder.build().expect("a mount")
    }

    fn of(mounts: Vec<Mount>, rootfs: &Path) -> anyhow::Result<View> {
        let root = RootBuilder::default().path(rootfs).readonly(false).build().expect("a root");
        let spec = SpecBuilder::default().root(root).mounts(mounts).build().expect("a spec");
        view(&spec, rootfs, rootfs, Writes::Host, Purpose::Make)
    }

    #[test]
    fn mount_points_are_made_in_the_root_and_never_outside_of_it() {
        let root = tempfile::tempdir().expect("made");
        let volume = tempfile::tempdir().expect("made");
        let elsewhere = tempfile::tempdir().expect("made");
        fs::write(volume.path().join("file"), "x").expect("made");
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("out")).expect("made");
        let view = of(
            vec![
                mount("tmpfs", "/dev", None, &["nosuid", "mode=755", "size=65536k"]),
                mount("bind", "/a/../b/c", Some(volume.path()), &["rbind", "ro"]),
                mount("bind", "/f", Some(&volume.path().join("file")), &["rbind"]),
            ],
            root.path(),
        )
        .expect("a view");
        assert!(root.path().join("b/c").is_dir() && root.path().join("f").is_file());
        assert!(matches!(view.mounts[1].kind, MountKind::Dev));
        assert!(view.mounts[2].read_only && !view.mounts[3].read_only);
        let _ = of(vec![mount("tmpfs", "/out/x", None, &[])], root.path());
        assert_eq!(fs::read_dir(elsewhere.path()).expect("readable").count(), 0);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let root = tempfile::tempdir().expect("made");
        fs::create_dir(root.path().join("d")).expect("made");
        let said = |mount: Mount| format!("{:#}", of(vec![mount], root.path()).expect_err("refused"));
        assert!(said(mount("ext4", "/x", Some(Path::new("/dev/sda")), &[])).contains("ext4"));
        assert!(said(mount("tmpfs", "/x", None, &["nr_inodes=7"])).contains("nr_inodes=7"));
        assert!(said(mount("bind", "/x", Some(Path::new("/tmp")), &["rshared"])).contains("rshared"));
        assert!(said(mount("bind", "/x", Some(Path::new("/proc/sys")), &[])).contains("/proc/sys"));
        assert!(
            said(mount("bind", "/x", Some(Path::new("/no/such")), &[])).contains("No such file or directory")
        );
        assert!(said(mount("bind", "/d", Some(Path::new("/etc/hostname")), &[])).contains("not a directory"));
    }

    #[test]
    fn sizes_are_as_tmpfs_has_them() {
        assert_eq!((size("64k"), size("7"), size("1G")), (Some(65536), Some(7), Some(1 << 30)));
        assert_eq!((size("x"), size(""), size("99999999999g")), (None, None, None));
    }
}
