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
        dir("kernel", || {
            vec![dir("mm", || vec![dir("hugepages", Vec::new), dir("transparent_hugepage", huge_pages)])]
        }),
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

/// Numbers as a list of ranges (`0-3,8`).
fn ranges(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") })
        .collect();
    format!("{}\n", shown.join(","))
}

/// The sandbox's processors.
pub(super) fn cpu_list() -> String {
    ranges(&matching(|_| true))
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
            entries.push(Entry {
                name,
                kind: Kind::Directory,
                make: Box::new(move || {
                    let inside = vec![text("online", || "1\n".into()), topology(cpu)];
                    directory_of(SYS, &[name.as_bytes()], inside)
                }),
            });
        }
    }
    entries
}

/// A file of one processor.
fn of_cpu(name: &'static str, cpu: u32, read: fn(u32) -> String) -> Entry {
    let make = move || {
        let number = cpu.to_le_bytes();
        file(SYS, &[&number, name.as_bytes()], 0o444, (0, 0), move || Ok(read(cpu).into_bytes()))
    };
    Entry { name, kind: Kind::Regular, make: Box::new(make) }
}

/// What `/proc/cpuinfo` says of a processor.
fn fact(cpu: u32, name: &str) -> Option<u32> {
    let config = boot::config()?;
    let text = core::str::from_utf8(&config.host.cpuinfo).ok()?;
    let value = |line: &str| -> Option<(String, u32)> {
        let (key, value) = line.split_once(':')?;
        Some((key.trim().into(), value.trim().parse().ok()?))
    };
    let is = |block: &&str| {
        block.lines().filter_map(value).any(|(key, number)| key == "processor" && number == cpu)
    };
    let block = text.split("\n\n").find(is)?;
    block.lines().filter_map(value).find(|(key, _)| key == name).map(|(_, number)| number)
}

fn package(cpu: u32) -> u32 {
    fact(cpu, "physical id").unwrap_or(0)
}

fn core(cpu: u32) -> u32 {
    fact(cpu, "core id").unwrap_or(cpu)
}

fn matching(wanted: impl Fn(u32) -> bool) -> Vec<u32> {
    let cpus = boot::config().map(|config| config.host.cpus.clone()).unwrap_or_default();
    cpus.into_iter().filter(|&cpu| wanted(cpu)).collect()
}

fn core_siblings(cpu: u32) -> Vec<u32> {
    matching(|other| (package(other), core(other)) == (package(cpu), core(cpu)))
}

fn package_siblings(cpu: u32) -> Vec<u32> {
    matching(|other| package(other) == package(cpu))
}

/// Processors as a mask, in words of 32 bits, the highest first.
fn mask(cpus: &[u32]) -> String {
    let words = cpus.last().map_or(1, |last| last / 32 + 1);
    let word = |index: u32| {
        let bits = cpus.iter().filter(|&&cpu| cpu / 32 == index);
        format!("{:08x}", bits.fold(0u32, |bits, cpu| bits | 1 << (cpu % 32)))
    };
    format!("{}\n", (0..words).rev().map(word).collect::<Vec<_>>().join(","))
}

fn topology(cpu: u32) -> Entry {
    let entries = move || {
        vec![
            of_cpu("core_cpus", cpu, |cpu| mask(&core_siblings(cpu))),
            of_cpu("core_cpus_list", cpu, |cpu| ranges(&core_siblings(cpu))),
            of_cpu("core_id", cpu, |cpu| format!("{}\n", core(cpu))),
            of_cpu("core_siblings", cpu, |cpu| mask(&package_siblings(cpu))),
            of_cpu("core_siblings_list", cpu, |cpu| ranges(&package_siblings(cpu))),
            of_cpu("die_id", cpu, |_| "0\n".into()),
            of_cpu("package_cpus", cpu, |cpu| mask(&package_siblings(cpu))),
            of_cpu("package_cpus_list", cpu, |cpu| ranges(&package_siblings(cpu))),
            of_cpu("physical_package_id", cpu, |cpu| format!("{}\n", package(cpu))),
            of_cpu("thread_siblings", cpu, |cpu| mask(&core_siblings(cpu))),
            of_cpu("thread_siblings_list", cpu, |cpu| ranges(&core_siblings(cpu))),
        ]
    };
    Entry {
        name: "topology",
        kind: Kind::Directory,
        make: Box::new(move || directory_of(SYS, &[&cpu.to_le_bytes(), b"topology"], entries())),
    }
}

/// `meminfo` of the one node: the sandbox's memory.
fn node_memory() -> String {
    let total = boot::config().map_or(0, |config| config.options.memory_limit);
    let used = (kernel::frames::usage().0 * 4096 + kernel::heap::used()).min(total);
    let lines = [
        ("MemTotal", total),
        ("MemFree", total - used),
        ("MemUsed", used),
        ("FilePages", used),
        ("Shmem", used),
    ];
    lines
        .iter()
        .map(|(name, bytes)| format!("Node 0 {:<16}{:>8} kB\n", format!("{name}:"), bytes >> 10))
        .collect()
}

fn node() -> Vec<Entry> {
    vec![
        text("online", || "0\n".into()),
        text("possible", || "0\n".into()),
        text("has_cpu", || "0\n".into()),
        text("has_memory", || "0\n".into()),
        dir("node0", || {
            vec![
                text("cpulist", cpu_list),
                text("cpumap", || mask(&matching(|_| true))),
                text("distance", || "10\n".into()),
                text("meminfo", node_memory),
            ]
        }),
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
