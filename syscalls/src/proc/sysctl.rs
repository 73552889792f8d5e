//! `/proc/sys`: the settings that programs read.

use super::name_file;
use super::nodes::{Entry, directory, text_entry};
use crate::system::Name;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use boundary::sysctl as settings;
use kernel::boot;
use kernel::task::lock_table;
use netstack::inet::{Congestion, REMAINS_MAX};
use vfs::attributes::Kind;
use vfs::{Errno, Result, tty};

fn section(name: &'static str, entries: fn() -> Vec<Entry>) -> Entry {
    Entry {
        name,
        kind: Kind::Directory,
        make: Box::new(move || directory(&[b"sys", name.as_bytes()], entries())),
    }
}

macro_rules! constant {
    ($name:literal, $text:literal) => {
        text_entry($name, || Ok(concat!($text, "\n").as_bytes().to_vec()))
    };
}

/// One that the sandbox can be given.
macro_rules! setting {
    ($name:literal, $setting:ident) => {
        text_entry($name, || Ok(format!("{}\n", boot::sysctl(&settings::$setting)).into_bytes()))
    };
}

/// The entries.
pub fn entries() -> Vec<Entry> {
    vec![
        section("kernel", kernel_entries),
        section("vm", vm_entries),
        section("fs", fs_entries),
        section("net", net_entries),
    ]
}

fn random_uuid() -> Result<Vec<u8>> {
    let mut bytes = [0u8; 16];
    trap_handler::host::getrandom(&mut bytes, 0)?;
    let value = u128::from_be_bytes(bytes) & !(0xf << 76) & !(3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{value:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    Ok(format!("{}-{}-{}-{}-{}\n", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
        .into_bytes())
}

/// The same for the life of the sandbox, made of its seed.
fn boot_id() -> Result<Vec<u8>> {
    let seed = boot::config().ok_or(Errno::EIO)?.host.seed;
    let byte = |index: usize| seed.get(index).copied().unwrap_or(0);
    let mut text = alloc::string::String::new();
    for index in 0..16 {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", byte(index)));
    }
    text.push('\n');
    Ok(text.into_bytes())
}

fn kernel_entries() -> Vec<Entry> {
    vec![
        constant!("cap_last_cap", "40"),
        constant!("core_pattern", "core"),
        name_file::entry("domainname", Name::Domain),
        name_file::entry("hostname", Name::Host),
        constant!("dmesg_restrict", "1"),
        constant!("kptr_restrict", "2"),
        setting!("msgmax", MSGMAX),
        setting!("msgmnb", MSGMNB),
        setting!("msgmni", MSGMNI),
        constant!("ngroups_max", "65536"),
        text_entry("osrelease", || {
            Ok(format!("{}\n", boot::config().map_or("", |config| &config.host.release)).into_bytes())
        }),
        constant!("ostype", "Linux"),
        constant!("overflowgid", "65534"),
        constant!("overflowuid", "65534"),
        constant!("panic", "0"),
        constant!("perf_event_paranoid", "4"),
        text_entry("pid_max", || {
            Ok(format!("{}\n", crate::thread::current().task.group.space.max()).into_bytes())
        }),
        Entry {
            name: "pty",
            kind: Kind::Directory,
            make: Box::new(|| {
                directory(
                    &[b"sys", b"kernel", b"pty"],
                    vec![
                        text_entry("max", || Ok(format!("{}\n", tty::LIMIT).into_bytes())),
                        text_entry("nr", || Ok(format!("{}\n", tty::count()).into_bytes())),
                        constant!("reserve", "0"),
                    ],
                )
            }),
        },
        Entry {
            name: "random",
            kind: Kind::Directory,
            make: Box::new(|| {
                directory(
                    &[b"sys", b"kernel", b"random"],
                    vec![
                        text_entry("boot_id", boot_id),
                        constant!("entropy_avail", "256"),
                        constant!("poolsize", "256"),
                        text_entry("uuid", random_uuid),
                    ],
                )
            }),
        },
        constant!("randomize_va_space", "2"),
        setting!("sem", SEM),
        constant!("sched_child_runs_first", "0"),
        setting!("shmall", SHMALL),
        setting!("shmmax", SHMMAX),
        setting!("shmmni", SHMMNI),
        text_entry("threads-max", || Ok(format!("{}\n", lock_table()?.limit()).into_bytes())),
        text_entry("version", || {
            Ok(format!("{}\n", boot::config().map_or("", |config| &config.host.version)).into_bytes())
        }),
    ]
}

fn vm_entries() -> Vec<Entry> {
    vec![
        constant!("max_map_count", "65530"),
        text_entry("mmap_min_addr", || {
            Ok(format!("{}\n", boot::config().map_or(65536, |config| config.host.mmap_min_addr)).into_bytes())
        }),
        constant!("nr_hugepages", "0"),
        constant!("overcommit_memory", "0"),
        constant!("overcommit_ratio", "50"),
        constant!("dirty_background_ratio", "10"),
        constant!("dirty_ratio", "20"),
        constant!("overcommit_kbytes", "0"),
        constant!("panic_on_oom", "0"),
        constant!("swappiness", "60"),
        constant!("vfs_cache_pressure", "100"),
    ]
}

fn fs_entries() -> Vec<Entry> {
    vec![
        constant!("aio-max-nr", "65536"),
        constant!("aio-nr", "0"),
        constant!("file-max", "9223372036854775807"),
        constant!("file-nr", "0\t0\t9223372036854775807"),
        constant!("lease-break-time", "45"),
        constant!("leases-enable", "1"),
        constant!("nr_open", "1048576"),
        constant!("pipe-max-size", "1048576"),
        constant!("pipe-user-pages-hard", "0"),
        constant!("pipe-user-pages-soft", "16384"),
        constant!("protected_hardlinks", "1"),
        constant!("protected_symlinks", "1"),
        Entry {
            name: "mqueue",
            kind: Kind::Directory,
            make: Box::new(|| {
                directory(
                    &[b"sys", b"fs", b"mqueue"],
                    vec![
                        setting!("msg_default", MSG_DEFAULT),
                        setting!("msg_max", MSG_MAX),
                        setting!("msgsize_default", MSGSIZE_DEFAULT),
                        setting!("msgsize_max", MSGSIZE_MAX),
                        setting!("queues_max", QUEUES_MAX),
                    ],
                )
            }),
        },
        Entry {
            name: "inotify",
            kind: Kind::Directory,
            make: Box::new(|| {
                directory(
                    &[b"sys", b"fs", b"inotify"],
                    vec![
                        constant!("max_queued_events", "16384"),
                        constant!("max_user_instances", "128"),
                        constant!("max_user_watches", "65536"),
                    ],
                )
            }),
        },
    ]
}

fn net_entries() -> Vec<Entry> {
    let section = |name: &'static str, entries: fn() -> Vec<Entry>| Entry {
        name,
        kind: Kind::Directory,
        make: Box::new(move || directory(&[b"sys", b"net", name.as_bytes()], entries())),
    };
    vec![section("core", core_entries), section("ipv4", ipv4_entries)]
}

fn core_entries() -> Vec<Entry> {
    vec![
        setting!("somaxconn", SOMAXCONN),
        constant!("netdev_max_backlog", "1000"),
        constant!("rmem_default", "212992"),
        constant!("rmem_max", "212992"),
        constant!("wmem_default", "212992"),
        constant!("wmem_max", "212992"),
    ]
}

fn congestion_controls() -> Vec<u8> {
    let names: Vec<_> = Congestion::available().iter().map(|control| control.name()).collect();
    format!("{}\n", names.join(" ")).into_bytes()
}

fn ipv4_entries() -> Vec<Entry> {
    vec![
        setting!("ip_local_port_range", LOCAL_PORTS),
        text_entry("tcp_max_tw_buckets", || Ok(format!("{}\n", REMAINS_MAX).into_bytes())),
        constant!("tcp_fin_timeout", "60"),
        constant!("tcp_tw_reuse", "2"),
        text_entry("tcp_available_congestion_control", || Ok(congestion_controls())),
        text_entry("tcp_allowed_congestion_control", || Ok(congestion_controls())),
        text_entry("tcp_congestion_control", || Ok(format!("{}\n", Congestion::usual().name()).into_bytes())),
        setting!("ip_unprivileged_port_start", UNPRIVILEGED_PORTS),
        setting!("ping_group_range", PING_GROUPS),
        setting!("tcp_keepalive_intvl", KEEPALIVE_INTERVAL),
        setting!("tcp_keepalive_probes", KEEPALIVE_PROBES),
        setting!("tcp_keepalive_time", KEEPALIVE_TIME),
    ]
}
