//! `/sys` (sysfs(5)): what programs read of processors and memory.

use super::nodes::{Entry, SYS, directory_of, file};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use kernel::boot;
use vfs::attributes::Kind;
use vfs::inode::Inode;

fn dir(name: &'static str, entries: fn() -> Vec<Entry>) -> Entry {
    Entry {
        name,
        kind: Kind::Directory,
        make: Box::new(move || directory_of(SYS, &[name.as_bytes()], entries())),
    }
}

fn text(name: &'static str, read: fn() -> String) -> Entry {
    let make = move || file(SYS, &[name.as_bytes()], 0o444, (0, 0), move || Ok(read().into_bytes()));
    Entry { name, kind: Kind::Regular, make: Box::new(make) }
}

/// The root of `/sys`.
pub fn root() -> Arc<dyn Inode> {
    let entries = vec![
        dir("block", Vec::new),
        dir("bus", Vec::new),
        dir("class", || vec![dir("net", Vec::new)]),
        dir("devices", || vec![dir("system", || vec![dir("cpu", cpu), dir("node", node)])]),
        dir("firmware", Vec::new),
        dir("fs", || vec![dir("cgroup", Vec::new)]),
        dir("kernel", || vec![dir("mm", || vec![dir("transparent_hugepage", huge_pages)])]),
        dir("module", Vec::new),
        dir("power", Vec::new),
    ];
    directory_of(SYS, &[b"sys"], entries)
}

fn huge_pages() -> Vec<Entry> {
    vec![
        text("enabled", || "always [madvise] never\n".into()),
        text("defrag", || "always defer defer+madvise [madvise] never\n".into()),
        text("hpage_pmd_size", || "2097152\n".into()),
        text("shmem_enabled", || "always within_size advise [never] deny force\n".into()),
    ]
}

/// Processor numbers as a list of ranges (`0-3,8`).
fn cpu_list() -> String {
    let cpus = boot::config().map(|config| config.host.cpus.clone()).unwrap_or_default();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let shown: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") })
        .collect();
    format!("{}\n", shown.join(","))
}

fn cpu() -> Vec<Entry> {
    const NAMES: [&str; 64] = names();
    let mut entries = vec![
        text("online", cpu_list),
        text("possible", cpu_list),
        text("present", cpu_list),
        text("offline", || "\n".into()),
        text("isolated", || "\n".into()),
        text("kernel_max", || "8191\n".into()),
    ];
    let cpus = boot::config().map(|config| config.host.cpus.clone()).unwrap_or_default();
    for cpu in cpus {
        if let Some(name) = NAMES.get(cpu as usize) {
            entries.push(dir(name, || vec![text("online", || "1\n".into())]));
        }
    }
    entries
}

fn node() -> Vec<Entry> {
    vec![
        text("online", || "0\n".into()),
        text("possible", || "0\n".into()),
        dir("node0", || vec![text("cpulist", cpu_list)]),
    ]
}

/// `cpu0` to `cpu63`: names must live as long as the table.
const fn names() -> [&'static str; 64] {
    [
        "cpu0", "cpu1", "cpu2", "cpu3", "cpu4", "cpu5", "cpu6", "cpu7", "cpu8", "cpu9", "cpu10", "cpu11",
        "cpu12", "cpu13", "cpu14", "cpu15", "cpu16", "cpu17", "cpu18", "cpu19", "cpu20", "cpu21", "cpu22",
        "cpu23", "cpu24", "cpu25", "cpu26", "cpu27", "cpu28", "cpu29", "cpu30", "cpu31", "cpu32", "cpu33",
        "cpu34", "cpu35", "cpu36", "cpu37", "cpu38", "cpu39", "cpu40", "cpu41", "cpu42", "cpu43", "cpu44",
        "cpu45", "cpu46", "cpu47", "cpu48", "cpu49", "cpu50", "cpu51", "cpu52", "cpu53", "cpu54", "cpu55",
        "cpu56", "cpu57", "cpu58", "cpu59", "cpu60", "cpu61", "cpu62", "cpu63",
    ]
}
