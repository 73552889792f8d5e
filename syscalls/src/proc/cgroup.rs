//! `/sys/fs/cgroup` (Documentation/admin-guide/cgroup-v2.rst) and `/proc/cgroups`: one group, the sandbox, with its limits, by
//! which the JVM, node, Go and test runners size themselves. Nothing can be changed here and no groups can be made.
//!
//! The hierarchy is unified (`/proc/PID/cgroup` says `0::/`). Beside its files lie directories with the names that the first
//! version had for the same limits, because scripts and older runtimes read them without asking which version it is.

use super::nodes::{CGROUP, Entry, directory_of, file};
use super::sys::cpu_list;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use kernel::task::{Pid, Times, lock_table};
use kernel::{boot, frames, heap};
use vfs::attributes::Kind;
use vfs::inode::Inode;
use vfs::{Errno, Result};

/// Microseconds of the period that `cpu.max` counts in.
const PERIOD: u32 = 100_000;
/// What the first version shows for no limit: the largest multiple of a page.
const UNLIMITED: u64 = i64::MAX as u64 & !(PAGE_SIZE - 1);

type Read = fn() -> Result<String>;

/// Files of the unified hierarchy.
const FILES: &[(&str, Read)] = &[
    ("cgroup.controllers", || line("cpuset cpu memory pids")),
    ("cgroup.events", || line("populated 1\nfrozen 0")),
    ("cgroup.freeze", || line("0")),
    ("cgroup.max.depth", || line("max")),
    ("cgroup.max.descendants", || line("max")),
    ("cgroup.procs", processes),
    ("cgroup.stat", || line("nr_descendants 0\nnr_dying_descendants 0")),
    ("cgroup.subtree_control", || line("")),
    ("cgroup.threads", threads),
    ("cgroup.type", || line("domain")),
    ("cpu.max", || line(&format!("max {PERIOD}"))),
    ("cpu.stat", cpu_stat),
    ("cpu.weight", || line("100")),
    ("cpuset.cpus", || Ok(cpu_list())),
    ("cpuset.cpus.effective", || Ok(cpu_list())),
    ("cpuset.mems", || line("0")),
    ("cpuset.mems.effective", || line("0")),
    ("memory.current", || number(memory_used()?)),
    ("memory.events", || line("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0")),
    ("memory.high", || line("max")),
    ("memory.low", || line("0")),
    ("memory.max", || number(memory_limit()?)),
    ("memory.min", || line("0")),
    ("memory.oom.group", || line("0")),
    ("memory.stat", memory_stat),
    ("memory.swap.current", || line("0")),
    ("memory.swap.max", || line("0")),
    ("pids.current", || number(tasks()?)),
    ("pids.events", || line("max 0")),
    ("pids.max", || number(pids_limit()?)),
];

/// The first version's: controller, files.
const FIRST: &[(&str, &[(&str, Read)])] = &[
    (
        "cpu",
        &[
            ("cpu.cfs_period_us", || number(u64::from(PERIOD))),
            ("cpu.cfs_quota_us", || line("-1")),
            ("cpu.shares", || line("1024")),
            ("cpu.stat", || line("nr_periods 0\nnr_throttled 0\nthrottled_time 0")),
        ],
    ),
    ("cpuacct", &[("cpuacct.usage", || number(times()?.user.saturating_add(times()?.system)))]),
    ("cpuset", &[("cpuset.cpus", || Ok(cpu_list())), ("cpuset.mems", || line("0"))]),
    (
        "memory",
        &[
            ("memory.limit_in_bytes", || number(memory_limit()?)),
            ("memory.max_usage_in_bytes", || number(memory_used()?)),
            ("memory.memsw.limit_in_bytes", || number(memory_limit()?)),
            ("memory.soft_limit_in_bytes", || number(UNLIMITED)),
            ("memory.stat", || {
                Ok(format!("{}hierarchical_memory_limit {}\n", memory_stat()?, memory_limit()?))
            }),
            ("memory.usage_in_bytes", || number(memory_used()?)),
            ("memory.use_hierarchy", || line("1")),
        ],
    ),
    ("pids", &[("pids.current", || number(tasks()?)), ("pids.max", || number(pids_limit()?))]),
];

fn line(text: &str) -> Result<String> {
    Ok(format!("{text}\n"))
}

fn number(value: u64) -> Result<String> {
    Ok(format!("{value}\n"))
}

fn options() -> Result<&'static boundary::boot::BootOptions> {
    boot::config().map(|config| &config.options).ok_or(Errno::EIO)
}

fn memory_limit() -> Result<u64> {
    Ok(options()?.memory_limit & !(PAGE_SIZE - 1))
}

fn pids_limit() -> Result<u64> {
    Ok(lock_table()?.limit() as u64)
}

/// Page frames and kernel heap, as `/proc/meminfo` has it; private memory is the host's to count.
fn memory_used() -> Result<u64> {
    Ok((frames::usage().0 * PAGE_SIZE).saturating_add(heap::used()).min(memory_limit()?))
}

fn memory_stat() -> Result<String> {
    let (files, kernel) = (frames::usage().0 * PAGE_SIZE, heap::used());
    Ok(format!(
        "anon 0\nfile {files}\nkernel {kernel}\nshmem {files}\nfile_mapped 0\nfile_dirty 0\nfile_writeback 0\n\
         inactive_anon 0\nactive_anon {files}\ninactive_file 0\nactive_file 0\nunevictable 0\nslab {kernel}\npgfault 0\n\
         pgmajfault 0\n"
    ))
}

fn tasks() -> Result<u64> {
    Ok(lock_table()?.len() as u64)
}

/// Ids that the reader sees, one a line.
fn list(ids: impl Iterator<Item = Pid>) -> String {
    let space = kernel::task::current().group.space;
    ids.map(|id| space.shown(id)).filter(|&id| id != 0).map(|id| format!("{id}\n")).collect()
}

fn processes() -> Result<String> {
    let groups = lock_table()?.groups();
    Ok(list(groups.iter().filter(|group| !group.is_sandbox).map(|group| group.tgid)))
}

fn threads() -> Result<String> {
    let groups = lock_table()?.groups();
    let ids = groups
        .iter()
        .flat_map(|group| group.signals.lock().tasks.iter().map(|task| task.tid()).collect::<Vec<_>>());
    Ok(list(ids))
}

/// What the living processes and the children that they waited for have used.
fn times() -> Result<Times> {
    let mut sum = Times::default();
    let groups = lock_table()?.groups();
    for group in groups.iter().filter(|group| !group.is_sandbox) {
        for times in [crate::time::processor::times(group), *group.children_times.lock()] {
            sum.user = sum.user.saturating_add(times.user);
            sum.system = sum.system.saturating_add(times.system);
        }
    }
    Ok(sum)
}

fn cpu_stat() -> Result<String> {
    let Times { user, system } = times()?;
    let (user, system) = (user / 1000, system / 1000);
    Ok(format!(
        "usage_usec {}\nuser_usec {user}\nsystem_usec {system}\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
        user.saturating_add(system)
    ))
}

fn entries(place: &'static str, files: &'static [(&'static str, Read)]) -> Vec<Entry> {
    let entry = |&(name, read): &'static (&'static str, Read)| Entry {
        name,
        kind: Kind::Regular,
        make: Box::new(move || {
            let parts: &[&[u8]] = &[b"cgroup", place.as_bytes(), name.as_bytes()];
            file(CGROUP, parts, 0o444, (0, 0), move || read().map(String::into_bytes))
        }),
    };
    files.iter().map(entry).collect()
}

/// The root of the hierarchy.
pub fn root() -> Arc<dyn Inode> {
    let mut all = entries("", FILES);
    all.extend(FIRST.iter().map(|&(name, files)| Entry {
        name,
        kind: Kind::Directory,
        make: Box::new(move || directory_of(CGROUP, &[b"cgroup", name.as_bytes()], entries(name, files))),
    }));
    directory_of(CGROUP, &[b"cgroup"], all)
}

/// `/proc/cgroups`: every controller is the unified hierarchy's.
pub fn controllers() -> Result<Vec<u8>> {
    let rows = ["cpuset", "cpu", "cpuacct", "memory", "pids"].map(|name| format!("{name}\t0\t1\t1\n"));
    Ok(format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\n{}", rows.concat()).into_bytes())
}
