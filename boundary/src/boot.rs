//! What the launcher hands to the kernel image at its start.
//!
//! The launcher maps the image, the heap and the frames (see [`crate::layout`]), writes a [`BootHeader`] and
//! behind it the `postcard` encoding of a [`BootConfig`] to the start of the heap, and jumps to the image's ELF
//! entry point on any valid stack with `rdi` = region base. The image relocates itself, moves to a kernel stack
//! of its own, unmaps everything outside its region (but the vDSO), installs its signal handlers and then the
//! filter, and becomes the warden (pid 1 of the sandbox's pid namespace).

use crate::process::Process;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// First eight bytes of the heap.
pub const BOOT_MAGIC: u64 = 0x3130_786f_6270_7274;

/// Protection keys (pkeys(7)) with [`BootOptions::kernel_guard`], in the order in which a new process is given them: that of the kernel's
/// memory.
pub const KERNEL_KEY: i32 = 1;
/// That of code while the kernel changes it.
pub const CODE_KEY: i32 = 2;

/// Lies at the start of the heap; `config_len` bytes of encoded [`BootConfig`] follow it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct BootHeader {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// Length of the encoded configuration, at most `HEAP_BOOT_BYTES - size_of::<BootHeader>()`.
    pub config_len: u64,
    /// The number of the filter's listener, on its way to the supervisor: see [`listener`].
    pub listener: u64,
}

/// Values of the lower half of [`BootHeader::listener`], a futex word. The image writes the listener's number or [`NONE`], once;
/// the courier, a process of the launcher's, answers with [`DELIVERED`] and ends.
///
/// [`NONE`]: listener::NONE
/// [`DELIVERED`]: listener::DELIVERED
pub mod listener {
    /// The filter is not installed yet.
    pub const NOT_YET: u32 = u32::MAX;
    /// The host gave no listener.
    pub const NONE: u32 = u32::MAX - 1;
    /// The supervisor has it, and the sandbox has not.
    pub const DELIVERED: u32 = u32::MAX - 2;
}

/// Everything the kernel needs to know. Descriptor numbers are host descriptors, open in the launched process;
/// all other descriptors are closed by then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootConfig {
    /// The first process.
    pub first: Process,
    /// How host ids look from inside.
    pub host_ids: HostIds,
    /// Virtual host name.
    pub hostname: String,
    /// Virtual NIS domain name.
    pub domainname: String,
    /// The sandbox's mount table, in the order in which to mount. The first entry mounts `/`.
    pub mounts: Vec<MountSpec>,
    /// The seccomp program, each `sock_filter` as its eight bytes in memory order.
    pub filter: Vec<u64>,
    /// Host descriptors.
    pub fds: BootFds,
    /// What was asked for on the command line.
    pub options: BootOptions,
    /// What the launcher found out about the host.
    pub host: HostFacts,
    /// The interface that the sandbox's network stack is on (`--network=stack`); its frames pass through [`BootFds::packet`].
    pub interface: Option<Interface>,
}

/// An interface of the host whose addresses and routes the sandbox has taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, as on the host.
    pub name: String,
    /// Its number, as on the host.
    pub index: u32,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Longest packet, without the header of the link layer.
    pub mtu: u32,
    /// Its addresses with the lengths of their networks' prefixes, the first of a family being the one to send from.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What is reached through gateways.
    pub routes: Vec<Route>,
}

/// A route through a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads: network and length of its prefix.
    pub to: (IpAddr, u8),
    /// The gateway, of the same family; `to` itself if that is one host that is on the link.
    pub via: IpAddr,
}

/// How the ids of the host's files look from inside.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct HostIds {
    /// Host id shown for files whose owner the user namespace does not map (the kernel's overflow id), as it
    /// comes back from `stat`: files with this owner are shown as owned by `unmapped_shown_as`. `u32::MAX`, which is nobody's: every
    /// owner is shown as it is.
    pub overflow_uid: u32,
    /// Likewise for groups.
    pub overflow_gid: u32,
    /// What files with an unmapped owner (user or group) are shown as.
    pub unmapped_shown_as: u32,
}

/// One mount of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path inside the sandbox. Missing directories are made in the root when that is a tmpfs.
    pub target: Vec<u8>,
    /// What is mounted there.
    pub kind: MountKind,
    /// Shown in `/proc/mounts`; the kernel refuses writes.
    pub read_only: bool,
    /// Further flags of mount(2): `MS_NOSUID`, `MS_NODEV`, `MS_NOEXEC`, `MS_NOATIME`, `MS_NODIRATIME`.
    pub flags: u32,
}

/// What a mount shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MountKind {
    /// A directory or file of the host root (the tree that the launcher pivoted to, `BootFds::root`).
    Host {
        /// Path below the host root, without a leading slash; empty for the root itself.
        path: Vec<u8>,
        /// Others may change it while the sandbox runs: attributes are revalidated. Otherwise they are cached for good.
        shared: bool,
    },
    /// A host directory below, which is only read and does not change, and an upper layer for what is written.
    Overlay {
        /// Path below the host root, as for `Host`.
        lower: Vec<u8>,
        /// Likewise, the writable directory that is the upper layer; `None`: it is in memory.
        upper: Option<Vec<u8>>,
    },
    /// One of the devices of `/dev`, at another place.
    Device {
        /// Its name in `/dev`.
        name: String,
        /// Permission bits, user and group of the node, if they are not those that it has in `/dev`.
        node: Option<(u32, u32, u32)>,
    },
    /// In memory.
    Tmpfs {
        /// Limit in bytes; 0 means half of the memory limit.
        size: u64,
        /// Permission bits of its root.
        mode: u32,
    },
    /// proc(5) of the sandbox.
    Proc,
    /// sysfs(5) of the sandbox.
    Sys,
    /// `/sys/fs/cgroup`.
    Cgroup,
    /// `/dev`.
    Dev,
    /// `/dev/pts`.
    DevPts,
    /// POSIX message queues.
    Mqueue,
    /// What lies at `target` is hidden: an empty read-only directory, or nothing to read. Left out where nothing lies there.
    Masked,
    /// What lies at `target`, once more: for a flag or `read_only` of its own. Left out where nothing lies there.
    Again,
    /// The hosts(5) that lies at `target`, with a line behind it for the sandbox's own name, in memory. Left out where none lies there,
    /// or where it has that name already.
    Hosts {
        /// The name.
        name: String,
        /// What it is to mean.
        addresses: Vec<IpAddr>,
    },
    /// A symbolic link at `target`, such as `/bin` to `usr/bin`; not a mount in `/proc/mounts`.
    Symlink {
        /// Its text.
        text: Vec<u8>,
    },
}

/// Host descriptors handed over.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct BootFds {
    /// Standard input, output and error of the program; -1 where closed.
    pub stdio: [i32; 3],
    /// `O_PATH | O_DIRECTORY` on the host root.
    pub root: i32,
    /// The control socket (`SOCK_SEQPACKET`), see [`crate::control`].
    pub control: i32,
    /// Where log lines go (a pipe or file, each line one `write`); -1 for none.
    pub log: i32,
    /// Where `--strace` lines go; -1 for none.
    pub strace: i32,
    /// A stream socket, which does not block, to the caller's terminal (`--tty`); -1 for none. With it, `stdio` has none: the
    /// first process has a terminal of the sandbox's own.
    pub terminal: i32,
    /// Where what was changed is told at the end ([`crate::changes`]); -1 for none.
    pub changes: i32,
    /// Where the table of `--stats` goes at the end; -1 for none.
    pub stats: i32,
    /// The socket to the broker (`--network=broker`), see [`crate::broker`]; -1 for none.
    pub broker: i32,
    /// A packet socket that is bound to [`BootConfig::interface`] and does not block, with `PACKET_VNET_HDR`; -1 for none.
    pub packet: i32,
    /// The heap and frames `memfd`s (needed to map frames into programs).
    pub heap: i32,
    /// See `heap`.
    pub frames: i32,
}

/// Command-line choices that the kernel acts on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BootOptions {
    /// 0 = errors only, 1 = warnings, 2 = info (default), 3 = debug, 4 = trace.
    pub log_level: u8,
    /// Memory that the sandbox shows and enforces for its own files, bytes.
    pub memory_limit: u64,
    /// Tasks at most.
    pub pids_limit: u32,
    /// The sandbox is a container: its first process is number 1 and adopts orphans, others may enter, and its tree on the host
    /// belongs to it alone, set-user-ID bits included.
    pub container: bool,
    /// The first process waits for [`Go`](crate::control::ToSandbox::Go) before it executes its program.
    pub held: bool,
    /// Settings of `/proc/sys` that differ from ours: names of [`SYSCTLS`](crate::sysctl::SYSCTLS) and values, each good.
    pub sysctls: Vec<(String, String)>,
    /// What was changed is told with the contents of files.
    pub changes_with_data: bool,
    /// The filter allows calls for extended attributes of host files.
    pub host_xattrs: bool,
    /// The kernel's memory has [`KERNEL_KEY`], which is closed to the program, and [`HostFacts::token`] is set.
    pub kernel_guard: bool,
    /// Rewrite call sites, so that calls need not trap.
    pub patch_calls: bool,
    /// The broker also reaches the host's loopback addresses: what nobody in the sandbox serves there is asked of it.
    pub host_loopback: bool,
    /// The sandbox has no pid namespace: the filter allows calls that take a process number for the calling thread only.
    pub host_pids: bool,
    /// Size of the caller's terminal: rows, columns, and both in pixels.
    pub terminal_size: [u16; 4],
}

/// What only the launcher could read: the host's `/proc` is not visible inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostFacts {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// `[start, end)` of the `[vvar]`, `[vvar_vclock]` and `[vdso]` mappings in the launched process, with the name as
    /// in `/proc/self/maps`.
    pub special_maps: Vec<(u64, u64, String)>,
    /// `AT_SYSINFO_EHDR` (start of the vDSO), 0 if none.
    pub vdso: u64,
    /// `AT_HWCAP`.
    pub hwcap: u64,
    /// `AT_HWCAP2`, as the host gave it.
    pub hwcap2: u64,
    /// `AT_MINSIGSTKSZ`.
    pub minsigstksz: u64,
    /// Online processors that the sandbox may use (its affinity mask), by number.
    pub cpus: Vec<u32>,
    /// The host's `/proc/cpuinfo`.
    pub cpuinfo: Vec<u8>,
    /// Clock value (`CLOCK_BOOTTIME`, ns) when the sandbox was started.
    pub boottime_ns: u64,
    /// 32 random bytes.
    pub seed: [u8; 32],
    /// Start and end of the gadget's pages (the section `.gadget` of the mapped image).
    pub gadget: (u64, u64),
    /// Start and end of the mapped image's text, if the huge pages that it begins are its alone; otherwise twice 0.
    pub text: (u64, u64),
    /// What the filter asks of each host call, with [`BootOptions::kernel_guard`]; otherwise 0.
    pub token: u32,
    /// Lowest address the host lets anyone map (`vm.mmap_min_addr`).
    pub mmap_min_addr: u64,
}
