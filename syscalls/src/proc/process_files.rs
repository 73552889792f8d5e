//! Texts of the simpler files of `/proc/PID`.

use crate::thread::{self, Thread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::mm::{AreaFlags, AreaReport, Prot};
use kernel::task::PidSpace;
use kernel::task::io::Transfers;
use kernel::uaccess;
use vfs::namespace::{Mount, MountFlags};
use vfs::{Errno, Result};

/// `auxv`.
pub fn auxv(thread: &Thread) -> Result<Vec<u8>> {
    Ok(thread.space().program().auxv)
}

/// `cgroup`.
pub fn cgroup(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"0::/\n".to_vec())
}

/// Bytes of the program's own memory, or what exec noted when it is another process's.
fn program_bytes(thread: &Thread, range: (u64, u64), noted: Vec<u8>) -> Vec<u8> {
    let own = core::ptr::eq(&*thread.task.group, &*thread::current().task.group);
    if own && range.1 > range.0 {
        let length = (range.1 - range.0).min(1 << 20) as usize;
        return uaccess::read_bytes(range.0, length).unwrap_or(noted);
    }
    noted
}

/// `cmdline`.
pub fn cmdline(thread: &Thread) -> Result<Vec<u8>> {
    let program = thread.space().program();
    let (arguments, _) = thread.memory().strings();
    Ok(program_bytes(thread, (program.arg_start, program.arg_end), arguments))
}

/// `environ`.
pub fn environ(thread: &Thread) -> Result<Vec<u8>> {
    let program = thread.space().program();
    let (_, environment) = thread.memory().strings();
    Ok(program_bytes(thread, (program.env_start, program.env_end), environment))
}

/// `cpuset`: the path of its group, as `cgroup` shows it.
pub fn cpuset(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"/\n".to_vec())
}

/// `uid_map` and `gid_map`: as in the initial user namespace.
pub fn id_map(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"         0          0 4294967295\n".to_vec())
}

/// `setgroups`.
pub fn setgroups(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"allow\n".to_vec())
}

/// `schedstat`: time on a processor; what it waited for one is the host's to know.
pub fn schedstat(thread: &Thread) -> Result<Vec<u8>> {
    let times = crate::time::processor::times(&thread.task.group);
    Ok(format!("{} 0 0\n", times.user.saturating_add(times.system)).into_bytes())
}

/// `sched` (sched-debug): time on a processor, and how it asks to be scheduled.
pub fn sched(thread: &Thread, space: PidSpace) -> Result<Vec<u8>> {
    let task = &thread.task;
    let times = crate::time::processor::times(&task.group);
    let (used, scheduling) = (times.user.saturating_add(times.system), *task.scheduling.lock());
    let threads = task.group.signals.lock().visible().len();
    let name = String::from_utf8_lossy(&comm_text(thread)).into_owned();
    let mut text = format!("{name} ({}, #threads: {threads})\n{:-<67}\n", space.shown(task.tid()), "");
    let _ = writeln!(text, "{:<45}:{:>14}.{:06}", "se.sum_exec_runtime", used / 1_000_000, used % 1_000_000);
    for (name, value) in [
        ("nr_switches", 0),
        ("nr_voluntary_switches", 0),
        ("nr_involuntary_switches", 0),
        ("policy", i64::from(scheduling.policy)),
        ("prio", i64::from(120 + scheduling.nice)),
    ] {
        let _ = writeln!(text, "{name:<45}:{value:>21}");
    }
    Ok(text.into_bytes())
}

/// `pagemap`: where pages lie is the host's secret.
pub fn pagemap(_thread: &Thread) -> Result<Vec<u8>> {
    Err(Errno::EPERM)
}

/// `stack`: this kernel's frames are not shown.
pub fn stack(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(Vec::new())
}

/// `syscall`: others are not stopped to look at.
pub fn syscall(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"running\n".to_vec())
}

/// `oom_score_adj`.
pub fn oom_score_adj(thread: &Thread) -> Vec<u8> {
    format!("{}\n", thread.task.group.oom_score_adj.load(Ordering::Relaxed)).into_bytes()
}

/// A write to `oom_score_adj`.
pub fn set_oom_score_adj(thread: &Thread, bytes: &[u8]) -> Result<()> {
    let value = number(bytes).and_then(|value| i32::try_from(value).ok()).ok_or(Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    adjust(thread, value)
}

/// `oom_adj`: the same on a scale that ends with -17 (never) and 15.
pub fn oom_adj(thread: &Thread) -> Vec<u8> {
    let value = match thread.task.group.oom_score_adj.load(Ordering::Relaxed) {
        1000 => 15,
        value => value * 17 / 1000,
    };
    format!("{value}\n").into_bytes()
}

/// A write to `oom_adj`.
pub fn set_oom_adj(thread: &Thread, bytes: &[u8]) -> Result<()> {
    match number(bytes).and_then(|value| i32::try_from(value).ok()).ok_or(Errno::EINVAL)? {
        15 => adjust(thread, 1000),
        value @ -17..15 => adjust(thread, value * 1000 / 17),
        _ => Err(Errno::EINVAL),
    }
}

/// Who lowers it needs a capability.
fn adjust(thread: &Thread, value: i32) -> Result<()> {
    let adjustment = &thread.task.group.oom_score_adj;
    if value < adjustment.load(Ordering::Relaxed) && !thread::current().task.cred().has(cap::SYS_RESOURCE) {
        return Err(Errno::EACCES);
    }
    adjustment.store(value, Ordering::Relaxed);
    Ok(())
}

/// `coredump_filter`.
pub fn coredump_filter(thread: &Thread) -> Vec<u8> {
    // It is the memory's.
    if thread.has_ended() {
        return Vec::new();
    }
    format!("{:08x}\n", thread.task.group.coredump_filter.load(Ordering::Relaxed)).into_bytes()
}

/// A write to `coredump_filter`: nine bits.
pub fn set_coredump_filter(thread: &Thread, bytes: &[u8]) -> Result<()> {
    let value = number(bytes).and_then(|value| u32::try_from(value).ok()).ok_or(Errno::EINVAL)?;
    thread.task.group.coredump_filter.store(value & 0x1ff, Ordering::Relaxed);
    Ok(())
}

/// `timerslack_ns`.
pub fn timer_slack(thread: &Thread) -> Vec<u8> {
    format!("{}\n", thread.task.timer_slack.load(Ordering::Relaxed)).into_bytes()
}

/// A write to `timerslack_ns`; 0 is the default.
pub fn set_timer_slack(thread: &Thread, bytes: &[u8]) -> Result<()> {
    let value = number(bytes).and_then(|value| u64::try_from(value).ok()).ok_or(Errno::EINVAL)?;
    let value = if value == 0 { kernel::task::TIMER_SLACK_NS } else { value };
    thread.task.timer_slack.store(value, Ordering::Relaxed);
    Ok(())
}

/// A number as the kernel reads it from a file (kstrtoll): decimal, octal or hexadecimal by its prefix, one newline behind.
fn number(bytes: &[u8]) -> Option<i64> {
    let text = core::str::from_utf8(bytes).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    let value = value.ok().filter(|_| !digits.contains(['+', '-']))?;
    Some(if negative { -value } else { value })
}

/// `io` of a process.
pub fn io(thread: &Thread) -> Result<Vec<u8>> {
    Ok(transfers(thread.task.group.transfers()))
}

/// `io` of a thread.
pub fn thread_io(thread: &Thread) -> Result<Vec<u8>> {
    Ok(transfers(thread.task.io.sum()))
}

/// What went to a disk is the host's to know.
fn transfers(sum: Transfers) -> Vec<u8> {
    let Transfers { bytes_read, bytes_written, reads, writes } = sum;
    format!(
        "rchar: {bytes_read}\nwchar: {bytes_written}\nsyscr: {reads}\nsyscw: {writes}\n\
         read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
    )
    .into_bytes()
}

/// `limits`.
pub fn limits(thread: &Thread) -> Result<Vec<u8>> {
    const ROWS: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let mut text = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let shown = |value: u64| if value == u64::MAX { String::from("unlimited") } else { format!("{value}") };
    for (resource, (name, unit)) in ROWS.iter().enumerate() {
        let (soft, hard) = thread.task.group.rlimit(resource as u32);
        let _ = writeln!(text, "{name:<25} {:<20} {:<20} {unit:<10}", shown(soft), shown(hard));
    }
    Ok(text.into_bytes())
}

/// `maps`.
pub fn maps(thread: &Thread) -> Result<Vec<u8>> {
    Ok(thread.space().maps())
}

/// What `smaps` tells of memory of so many bytes: what is resident, shared or dirty is the host's knowledge, so all of it
/// counts as resident and private.
fn usage(bytes: u64, rollup: bool) -> String {
    let size = bytes >> 10;
    const NAMES: [(&str, bool); 23] = [
        ("Rss", true),
        ("Pss", true),
        ("Pss_Dirty", true),
        ("Pss_Anon", true),
        ("Pss_File", false),
        ("Pss_Shmem", false),
        ("Shared_Clean", false),
        ("Shared_Dirty", false),
        ("Private_Clean", false),
        ("Private_Dirty", true),
        ("Referenced", true),
        ("Anonymous", false),
        ("KSM", false),
        ("LazyFree", false),
        ("AnonHugePages", false),
        ("ShmemPmdMapped", false),
        ("FilePmdMapped", false),
        ("Shared_Hugetlb", false),
        ("Private_Hugetlb", false),
        ("Swap", false),
        ("SwapPss", false),
        ("Locked", false),
        ("THPeligible", false),
    ];
    let line = |(name, counts): (&str, bool)| match name {
        "THPeligible" => format!("{name}:           0\n"),
        _ => format!("{:<15} {:>8} kB\n", format!("{name}:"), if counts { size } else { 0 }),
    };
    // What only the sums, and only the areas have.
    let shown = |name: &str| match name {
        "Pss_Anon" | "Pss_File" | "Pss_Shmem" => rollup,
        "THPeligible" => !rollup,
        _ => true,
    };
    NAMES.into_iter().filter(|(name, _)| shown(name)).map(line).collect()
}

/// `VmFlags` of `smaps` (proc_pid_smaps(5)).
fn vm_flags(area: &AreaReport) -> String {
    let bits = [
        (area.prot.contains(Prot::READ), "rd "),
        (area.prot.contains(Prot::WRITE), "wr "),
        (area.prot.contains(Prot::EXEC), "ex "),
        (area.flags.contains(AreaFlags::SHARED), "sh "),
        (area.may.contains(Prot::READ), "mr "),
        (area.may.contains(Prot::WRITE), "mw "),
        (area.may.contains(Prot::EXEC), "me "),
        (area.flags.contains(AreaFlags::SHARED) && area.may.contains(Prot::WRITE), "ms "),
        (area.flags.contains(AreaFlags::GROWS_DOWN), "gd "),
        (area.flags.contains(AreaFlags::NO_RESERVE), "nr "),
    ];
    bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

/// `smaps`.
pub fn smaps(thread: &Thread) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for area in thread.space().areas() {
        area.write_line(&mut text);
        let bytes = area.end - area.start;
        let size = bytes >> 10;
        text.extend_from_slice(
            format!(
                "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
            )
            .as_bytes(),
        );
        text.extend_from_slice(usage(bytes, false).as_bytes());
        text.extend_from_slice(format!("VmFlags: {}\n", vm_flags(&area)).as_bytes());
    }
    Ok(text)
}

/// `smaps_rollup`: the sums of `smaps`.
pub fn smaps_rollup(thread: &Thread) -> Result<Vec<u8>> {
    let areas = thread.space().areas();
    let (Some(first), Some(last)) = (areas.first(), areas.last()) else { return Ok(Vec::new()) };
    let bytes = areas.iter().filter(|area| !area.prot.is_empty()).map(|area| area.end - area.start).sum();
    let mut text =
        format!("{:08x}-{:08x} ---p 00000000 00:00 0{:26}[rollup]\n", first.start, last.end, "").into_bytes();
    text.extend_from_slice(usage(bytes, true).as_bytes());
    Ok(text)
}

/// A mount's own flags (`show_mnt_opts`).
fn own_flags(mount: &Mount) -> String {
    let names = [
        (MountFlags::NO_SUID, ",nosuid"),
        (MountFlags::NO_DEV, ",nodev"),
        (MountFlags::NO_EXEC, ",noexec"),
        (MountFlags::NO_ATIME, ",noatime"),
        (MountFlags::NO_DIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
    ];
    let flags = mount.flags();
    let first = if mount.is_read_only() { "ro" } else { "rw" };
    names.iter().filter(|(flag, _)| flags.contains(*flag)).fold(first.into(), |text, (_, name)| text + name)
}

/// The options of a mount's filesystem, each behind a comma.
fn options_of(mount: &Mount) -> Vec<u8> {
    let options = &mount.options.options;
    if options.is_empty() { Vec::new() } else { [b",", &options[..]].concat() }
}

/// Blanks and backslashes in octal, as getmntent(3) reads them.
fn escape(text: &mut Vec<u8>, part: &[u8]) {
    for byte in part {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => text.push(*byte),
        }
    }
}

/// `mounts`.
pub fn mounts(thread: &Thread) -> Result<Vec<u8>> {
    let fs = thread.fs();
    let mut text = Vec::new();
    for info in fs.namespace().list(&fs.root()) {
        let options = &info.mount.options;
        for part in [&options.source, &info.target, &options.fstype] {
            escape(&mut text, part);
            text.push(b' ');
        }
        text.extend_from_slice(own_flags(&info.mount).as_bytes());
        text.extend_from_slice(&options_of(&info.mount));
        text.extend_from_slice(b" 0 0\n");
    }
    Ok(text)
}

/// `mountstats`.
pub fn mountstats(thread: &Thread) -> Result<Vec<u8>> {
    let fs = thread.fs();
    let mut text = Vec::new();
    for info in fs.namespace().list(&fs.root()) {
        let options = &info.mount.options;
        let parts = [
            ("device ", &options.source),
            (" mounted on ", &info.target),
            (" with fstype ", &options.fstype),
        ];
        for (before, part) in parts {
            text.extend_from_slice(before.as_bytes());
            escape(&mut text, part);
        }
        text.push(b'\n');
    }
    Ok(text)
}

/// `mountinfo`.
pub fn mountinfo(thread: &Thread) -> Result<Vec<u8>> {
    let fs = thread.fs();
    let mut text = Vec::new();
    for info in fs.namespace().list(&fs.root()) {
        let options = &info.mount.options;
        let (major, minor) = (info.dev >> 8 & 0xfff, (info.dev & 0xff) | (info.dev >> 12 & !0xff));
        text.extend_from_slice(format!("{} {} {major}:{minor} ", info.mount.id, info.parent_id).as_bytes());
        escape(&mut text, &info.root);
        text.push(b' ');
        escape(&mut text, &info.target);
        text.extend_from_slice(format!(" {} - ", own_flags(&info.mount)).as_bytes());
        escape(&mut text, &options.fstype);
        text.push(b' ');
        escape(&mut text, &options.source);
        // The filesystem's own state: what the mount was made with.
        let read_only = options.flags.contains(MountFlags::READ_ONLY);
        text.extend_from_slice(if read_only { b" ro" } else { b" rw" });
        text.extend_from_slice(&options_of(&info.mount));
        text.push(b'\n');
    }
    Ok(text)
}

/// A file that says 0.
pub fn zero(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"0\n".to_vec())
}

/// `wchan`: no symbol, as Linux shows the unprivileged.
pub fn wchan(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"0".to_vec())
}

/// `personality`.
pub fn personality(thread: &Thread) -> Result<Vec<u8>> {
    Ok(format!("{:08x}\n", thread.task.group.personality.load(Ordering::Relaxed)).into_bytes())
}

/// `loginuid`: who has logged in.
pub fn login_uid(thread: &Thread) -> Vec<u8> {
    format!("{}", thread.task.group.login.0.load(Ordering::Relaxed)).into_bytes()
}

/// A write to `loginuid`, as pam_loginuid(8) does it: a process's own only, and once, unless one has the capability
/// (`audit_set_loginuid_perm`).
pub fn set_login_uid(thread: &Thread, bytes: &[u8]) -> Result<()> {
    let own = thread::current();
    let group = &thread.task.group;
    if group.tgid != own.task.group.tgid {
        return Err(Errno::EPERM);
    }
    let uid = number(bytes).and_then(|uid| u32::try_from(uid).ok()).ok_or(Errno::EINVAL)?;
    if group.login.0.load(Ordering::Relaxed) != u32::MAX && !own.task.cred().has(cap::AUDIT_CONTROL) {
        return Err(Errno::EPERM);
    }
    group.login.0.store(uid, Ordering::Relaxed);
    // The session has the number of the process that began it.
    let session = if uid == u32::MAX { uid } else { group.tgid.number() as u32 };
    group.login.1.store(session, Ordering::Relaxed);
    Ok(())
}

/// `sessionid`: the session of who has logged in.
pub fn session_id(thread: &Thread) -> Result<Vec<u8>> {
    Ok(format!("{}", thread.task.group.login.1.load(Ordering::Relaxed)).into_bytes())
}

/// The name as text.
pub fn comm_text(thread: &Thread) -> Vec<u8> {
    let comm = *thread.task.comm.lock();
    comm.split(|&byte| byte == 0).next().unwrap_or(&[]).to_vec()
}

/// `comm`.
pub fn comm(thread: &Thread) -> Result<Vec<u8>> {
    let mut text = comm_text(thread);
    text.push(b'\n');
    Ok(text)
}

/// A write to `comm`: only within the process.
pub fn set_comm(thread: &Thread, bytes: &[u8]) -> Result<()> {
    if !core::ptr::eq(&*thread.task.group, &*thread::current().task.group) {
        return Err(Errno::EINVAL);
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut comm = [0; 16];
    for (slot, byte) in comm.iter_mut().take(15).zip(text) {
        *slot = *byte;
    }
    *thread.task.comm.lock() = comm;
    Ok(())
}
