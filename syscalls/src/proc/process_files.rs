//! Texts of the simpler files of `/proc/PID`.

use crate::thread::{self, Thread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use kernel::mm::{AreaFlags, AreaReport, Prot};
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

/// `io`: nothing is counted.
pub fn io(_thread: &Thread) -> Result<Vec<u8>> {
    let names = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    Ok(names.iter().flat_map(|name| format!("{name}: 0\n").into_bytes()).collect())
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
fn usage(bytes: u64) -> String {
    let size = bytes >> 10;
    const NAMES: [(&str, bool); 20] = [
        ("Rss", true),
        ("Pss", true),
        ("Pss_Dirty", true),
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
    NAMES.into_iter().map(line).collect()
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
        text.extend_from_slice(usage(bytes).as_bytes());
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
    text.extend_from_slice(usage(bytes).as_bytes());
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

/// `sessionid` and `loginuid`: no audit session, nobody who logged in.
pub fn session_id(_thread: &Thread) -> Result<Vec<u8>> {
    Ok(b"4294967295".to_vec())
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
