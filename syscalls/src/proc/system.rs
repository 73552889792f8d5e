//! Files of `/proc` about the whole sandbox.

use super::nodes::{Entry, directory, link_text, text_entry};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use kernel::task::lock_table;
use kernel::{boot, frames, heap, time};
use vfs::attributes::Kind;
use vfs::{Errno, Result};

/// The entries.
pub fn entries() -> Vec<Entry> {
    let mut entries = alloc::vec![
        text_entry("cgroups", super::cgroup::controllers),
        text_entry("cmdline", || Ok(b"trapbox\n".to_vec())),
        text_entry("cpuinfo", cpuinfo),
        text_entry("devices", || Ok(
            b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n".to_vec()
        )),
        text_entry("filesystems", || {
            Ok(
            b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\n".to_vec()
        )
        }),
        text_entry("interrupts", || Ok(Vec::new())),
        text_entry("loadavg", loadavg),
        text_entry("meminfo", meminfo),
        text_entry("modules", || Ok(Vec::new())),
        text_entry("partitions", || Ok(b"major minor  #blocks  name\n\n".to_vec())),
        text_entry("diskstats", || Ok(Vec::new())),
        text_entry("stat", stat),
        text_entry("swaps", || Ok(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec())),
        text_entry("uptime", uptime),
        text_entry("version", version),
        text_entry("vmstat", || Ok(b"nr_free_pages 0\npgfault 0\npgmajfault 0\n".to_vec())),
    ];
    entries.push(Entry {
        name: "mounts",
        kind: Kind::Symlink,
        make: Box::new(|| link_text(&[b"mounts"], || Ok("self/mounts".into()))),
    });
    entries.push(Entry {
        name: "sysvipc",
        kind: Kind::Directory,
        make: Box::new(|| {
            let files = alloc::vec![
                text_entry("msg", crate::ipc::report::msg),
                text_entry("sem", crate::ipc::report::sem),
                text_entry("shm", crate::ipc::report::shm),
            ];
            directory(&[b"sysvipc"], files)
        }),
    });
    entries.push(Entry {
        name: "net",
        kind: Kind::Symlink,
        make: Box::new(|| link_text(&[b"net"], || Ok(String::from("self/net")))),
    });
    entries.push(Entry {
        name: "tty",
        kind: Kind::Directory,
        make: Box::new(|| directory(&[b"tty"], terminals())),
    });
    entries
}

fn config() -> Result<&'static boundary::boot::BootConfig> {
    boot::config().ok_or(Errno::EIO)
}

/// Clock ticks (`USER_HZ`, 100 a second) of a time in nanoseconds.
pub fn ticks(ns: u64) -> u64 {
    ns / 10_000_000
}

/// The host's, cut to the processors that the sandbox may use.
fn cpuinfo() -> Result<Vec<u8>> {
    let config = config()?;
    let text = String::from_utf8_lossy(&config.host.cpuinfo);
    let mut shown = String::new();
    for block in text.split_inclusive("\n\n") {
        let number = block
            .lines()
            .next()
            .and_then(|line| line.rsplit(' ').next()?.trim_start_matches('\t').parse().ok());
        if number.is_none_or(|number: u32| config.host.cpus.contains(&number)) {
            shown.push_str(block);
        }
    }
    Ok(shown.into_bytes())
}

fn loadavg() -> Result<Vec<u8>> {
    let (table, space) = (lock_table()?, kernel::task::current().group.space);
    let last = space.shown(table.last_id(space));
    Ok(format!("0.00 0.00 0.00 1/{} {last}\n", table.len()).into_bytes())
}

fn meminfo() -> Result<Vec<u8>> {
    let total = config()?.options.memory_limit;
    let (files, kernel) = (frames::usage().0 * 4096, heap::used());
    let free = total.saturating_sub(files.saturating_add(kernel));
    let mut text = String::new();
    let lines: [(&str, u64); 43] = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", files),
        ("SwapCached", 0),
        ("Active", files),
        ("Inactive", 0),
        ("Active(anon)", files),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Zswap", 0),
        ("Zswapped", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", 0),
        ("Mapped", 0),
        ("Shmem", files),
        ("KReclaimable", 0),
        ("Slab", kernel),
        ("SReclaimable", 0),
        ("SUnreclaim", kernel),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", total),
        ("Committed_AS", files),
        ("VmallocTotal", 0x7fff_ffff_fc00),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
    ];
    let mut line = |name: &str, bytes: u64| {
        let name = format!("{name}:");
        let _ = writeln!(text, "{name:<16}{:>8} kB", bytes >> 10);
    };
    lines.iter().for_each(|(name, bytes)| line(name, *bytes));
    line("FilePmdMapped", 0);
    for name in ["Total", "Free", "Rsvd", "Surp"] {
        let _ = writeln!(text, "HugePages_{:<6}{:>8}", format!("{name}:"), 0);
    }
    text.push_str("Hugepagesize:       2048 kB\nHugetlb:               0 kB\n");
    Ok(text.into_bytes())
}

fn stat() -> Result<Vec<u8>> {
    let cpus = &config()?.host.cpus;
    let idle = ticks(uptime_ns()?);
    let mut text = format!("cpu  0 0 0 {} 0 0 0 0 0 0\n", idle * cpus.len() as u64);
    for cpu in cpus {
        let _ = writeln!(text, "cpu{cpu} 0 0 0 {idle} 0 0 0 0 0 0");
    }
    let started = (time::realtime() - uptime_ns()?.min(time::realtime())) / time::SECOND;
    let tasks = lock_table()?.len();
    let _ = write!(
        text,
        "intr 0\nctxt 0\nbtime {started}\nprocesses {tasks}\nprocs_running 1\nprocs_blocked 0\n"
    );
    Ok(text.into_bytes())
}

/// Time since the host was booted: `CLOCK_BOOTTIME`, which programs can see anyway.
fn uptime_ns() -> Result<u64> {
    trap_handler::host::clock_ns(linux_raw_sys::general::CLOCK_BOOTTIME)
}

fn uptime() -> Result<Vec<u8>> {
    let ns = uptime_ns()?;
    let (seconds, hundredths) = (ns / time::SECOND, ns % time::SECOND / 10_000_000);
    Ok(format!("{seconds}.{hundredths:02} {seconds}.{hundredths:02}\n").into_bytes())
}

fn version() -> Result<Vec<u8>> {
    let host = &config()?.host;
    Ok(format!("Linux version {} (trapbox) {}\n", host.release, host.version).into_bytes())
}

fn terminals() -> Vec<Entry> {
    const DRIVERS: &str = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
                           /dev/ptmx            /dev/ptmx       5       2 system\n\
                           pty_slave            /dev/pts      136 0-1048575 pty:slave\n\
                           pty_master           /dev/ptm      128 0-1048575 pty:master\n";
    alloc::vec![
        text_entry("drivers", || Ok(DRIVERS.into())),
        text_entry("ldiscs", || Ok(b"n_tty       0\n".to_vec())),
    ]
}
