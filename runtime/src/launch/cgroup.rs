//! A memory limit that the host enforces (cgroups(7)), where the caller may make a cgroup: root, and who has a delegated one. The
//! kernel inside counts what programs ask of it; this counts all pages, whoever touched them.

use std::fs;
use std::path::{Path, PathBuf};

/// What the sandbox needs beside what it may use: the kernel's objects, stacks and page tables.
const OVERHEAD: u64 = 128 << 20;
const PREFIX: &str = "sandbox-exec-";

/// A cgroup of one sandbox; removed when it is dropped, which is after the sandbox's end.
#[derive(Debug)]
pub struct Group {
    directory: PathBuf,
}

impl Group {
    /// With a limit of `memory` bytes; `None` where the host does not let us.
    pub fn make(memory: u64) -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Group::below(Path::new("/sys/fs/cgroup"), &own, memory)
    }

    fn below(root: &Path, own: &str, memory: u64) -> Option<Group> {
        let limit = memory.saturating_add(OVERHEAD).to_string();
        let (parent, file) = place(root, own)?;
        remove_left_over(&parent);
        let group = Group { directory: parent.join(format!("{PREFIX}{}", std::process::id())) };
        fs::create_dir(&group.directory).ok()?;
        fs::write(group.directory.join(file), &limit).ok()?;
        // Otherwise what is too much would be written to the host's swap, without end. The host may have none.
        let swap = [("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", limit.as_str())];
        for (file, value) in swap.into_iter().filter(|(file, _)| group.directory.join(file).exists()) {
            let _ = fs::write(group.directory.join(file), value);
        }
        Some(group)
    }

    /// Puts a process in; what it makes from then on is in, too.
    pub fn take(&self, pid: libc::pid_t) -> std::io::Result<()> {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last process may take a moment to leave.
        for _ in 0..50 {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

/// Where a cgroup with a memory limit can be made, and the file of the limit: version 2 where it has the controller, else version 1.
fn place(root: &Path, own: &str) -> Option<(PathBuf, &'static str)> {
    let below = |base: &Path, path: &str| base.join(path.trim_start_matches('/'));
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            let parent = below(root, path);
            let given = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
            if given.split_whitespace().any(|controller| controller == "memory") {
                return Some((parent, "memory.max"));
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let parent = below(&root.join("memory"), path);
            return parent.is_dir().then_some((parent, "memory.limit_in_bytes"));
        }
    }
    None
}

/// Cgroups of sandboxes whose supervisor was killed. One that has processes cannot be removed.
fn remove_left_over(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_set_where_the_host_has_the_controller() {
        let root = tempfile::tempdir().expect("a directory");
        let slice = root.path().join("user.slice/scope");
        fs::create_dir_all(&slice).expect("made");
        assert!(Group::below(root.path(), "0::/user.slice/scope\n", 1).is_none(), "no controller");
        fs::write(slice.join("cgroup.subtree_control"), "cpu memory pids\n").expect("written");
        let group = Group::below(root.path(), "0::/user.slice/scope\n", 1 << 20).expect("a group");
        let limit = fs::read_to_string(group.directory.join("memory.max")).expect("a limit");
        assert_eq!(limit, ((1 << 20) + OVERHEAD).to_string());
    }

    #[test]
    fn version_1_has_a_tree_for_the_controller() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("memory/job")).expect("made");
        let own = "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n";
        let (parent, file) = place(root.path(), own).expect("a place");
        assert_eq!((parent, file), (root.path().join("memory/job"), "memory.limit_in_bytes"));
    }
}
