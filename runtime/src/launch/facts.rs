//! What only the outside can read of the host, and who the caller is.

use super::{LaunchError, Walls, namespaces};
use boundary::boot::{HostFacts, HostIds};
use std::fs;

/// How the host will see the sandbox.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Ids on the host: the caller's, or those of nobody when root starts a sandbox.
    pub host_uid: u32,
    /// See `host_uid`.
    pub host_gid: u32,
    /// Started by root: ids are mapped one to one.
    pub by_root: bool,
    /// A container: it keeps root, and of its powers those over files. One that is not started by root is its caller, as user 0.
    pub container: bool,
}

/// The host identity of a sandbox that root starts.
const NOBODY: u32 = 65534;

/// That of a sandbox that the calling user starts.
pub fn caller() -> Identity {
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    // In a user namespace of one id (`unshare -r`) there is no nobody to become; there root is an ordinary user anyway.
    let has_nobody = namespaces::has_id("uid_map", NOBODY) && namespaces::has_id("gid_map", NOBODY);
    let by_root = nix::unistd::geteuid().is_root() && has_nobody;
    let (host_uid, host_gid) = if by_root { (NOBODY, NOBODY) } else { (uid, gid) };
    Identity { host_uid, host_gid, by_root, container: false }
}

/// That of a container that the calling user starts.
pub fn container() -> Identity {
    let (host_uid, host_gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    Identity { host_uid, host_gid, by_root: nix::unistd::geteuid().is_root(), container: true }
}

fn number_in(path: &str, otherwise: u32) -> u32 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(otherwise)
}

impl Identity {
    /// Whether the sandbox gives root up.
    pub fn becomes_nobody(&self) -> bool {
        self.by_root && !self.container
    }

    /// As the kernel needs it.
    pub fn host_ids(&self, walls: Walls) -> HostIds {
        // Without a user namespace every owner is shown as it is: no file belongs to the id that is none (chown(2)). Started by root,
        // every id is mapped. A container shows them as they are; otherwise idmapped mounts show the caller's files as the sandbox's
        // host identity, which is nobody too: both cases come to the same number.
        let shown = |own: u32, file: &str| match (walls, self.by_root, self.container) {
            (Walls::Landlock, ..) | (_, true, true) => u32::MAX,
            (_, true, false) => own,
            (_, false, _) => number_in(file, NOBODY),
        };
        HostIds {
            overflow_uid: shown(self.host_uid, "/proc/sys/kernel/overflowuid"),
            overflow_gid: shown(self.host_gid, "/proc/sys/kernel/overflowgid"),
            unmapped_shown_as: 0,
        }
    }
}

/// Reads what will be out of reach inside.
pub fn gather() -> Result<HostFacts, LaunchError> {
    let host = |what: &'static str| move |source: std::io::Error| LaunchError::Host { what, source };
    let name = nix::sys::utsname::uname().map_err(|error| ("uname", error))?;
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    // As the kernel gave it: glibc's getauxval(3) answers AT_HWCAP with a word of its own.
    let vector = fs::read("/proc/self/auxv").map_err(host("/proc/self/auxv"))?;
    let auxiliary = |key| auxiliary(&vector, key);
    let affinity =
        nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_err(|error| ("affinity", error))?;
    let cpus = (0..nix::sched::CpuSet::count() as u32)
        .filter(|&cpu| affinity.is_set(cpu as usize).unwrap_or(false))
        .collect();
    let mut seed = [0u8; 32];
    // SAFETY: the buffer is ours.
    if unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) } != seed.len() as isize {
        return Err(LaunchError::last("getting random bytes"));
    }
    let boot =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_err(|error| ("clock", error))?;
    Ok(HostFacts {
        release: text(name.release()),
        version: text(name.version()),
        special_maps: Vec::new(),
        vdso: auxiliary(libc::AT_SYSINFO_EHDR),
        hwcap: auxiliary(libc::AT_HWCAP),
        hwcap2: auxiliary(libc::AT_HWCAP2),
        minsigstksz: auxiliary(libc::AT_MINSIGSTKSZ),
        cpus,
        cpuinfo: fs::read("/proc/cpuinfo").map_err(host("/proc/cpuinfo"))?,
        boottime_ns: boot.tv_sec() as u64 * 1_000_000_000 + boot.tv_nsec() as u64,
        seed,
        gadget: (0, 0),
        text: (0, 0),
        token: 0,
        mmap_min_addr: u64::from(number_in("/proc/sys/vm/mmap_min_addr", 65536)),
    })
}

/// An entry of an auxiliary vector (getauxval(3)); 0 if it is not there.
fn auxiliary(vector: &[u8], key: u64) -> u64 {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let mut entries = vector.chunks_exact(16).map(|entry| entry.split_at(8));
    entries.find(|(name, _)| word(name) == key).map_or(0, |(_, value)| word(value))
}

/// Notes where the host put the vDSO in this process (which all processes of the sandbox will be forked from).
pub fn special_maps() -> Result<Vec<(u64, u64, String)>, LaunchError> {
    let maps = fs::read_to_string("/proc/self/maps")
        .map_err(|source| LaunchError::Host { what: "/proc/self/maps", source })?;
    Ok(maps.lines().filter_map(special_map).collect())
}

fn special_map(line: &str) -> Option<(u64, u64, String)> {
    let name = line.split_whitespace().nth(5)?;
    if !name.starts_with("[vvar") && name != "[vdso]" {
        return None;
    }
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_auxiliary_vector_is_found() {
        let vector: Vec<u8> = [6u64, 4096, 16, 77, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!((auxiliary(&vector, 16), auxiliary(&vector, 99)), (77, 0));
    }

    #[test]
    fn the_vdso_is_found_in_maps() {
        let line = "7ffc61dd5000-7ffc61dd7000 r-xp 00000000 00:00 0                          [vdso]";
        assert_eq!(special_map(line), Some((0x7ffc_61dd_5000, 0x7ffc_61dd_7000, "[vdso]".into())));
        assert_eq!(special_map("00400000-00401000 r-xp 00000000 08:01 1 /bin/true"), None);
    }
}
