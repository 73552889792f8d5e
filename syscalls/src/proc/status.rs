//! `/proc/PID/status`, `stat` and `statm`.

use super::process_files::comm_text;
use super::system::ticks;
use crate::process::pidfd;
use crate::thread::{self, Thread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use boundary::process::Scheduling;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use kernel::signal::{COUNT, SIG_DFL, SIG_IGN, bit};
use kernel::task::{PidSpace, Task};
use vfs::Result;

fn has_stopped(task: &Task) -> bool {
    let signals = task.group.signals.lock();
    signals.stop.is_some() && !task.trace.is_traced() && !task.signals.lock().stopping
}

/// Whether who waits for a thread that has ended can do so now (or, a main one, once the others have ended, too).
fn is_dead(thread: &Thread) -> bool {
    let task = &thread.task;
    if task.is_leader() {
        task.group.family.lock().zombie.is_some() || !task.group.signals.lock().tasks.is_empty()
    } else {
        task.trace.lock().ended.is_some()
    }
}

/// One letter: running for the one that asks, sleeping otherwise, stopped, zombie.
fn state(thread: &Thread) -> (char, &'static str) {
    if thread.has_ended() {
        if is_dead(thread) { ('Z', "zombie") } else { ('R', "running") }
    } else if thread.task.trace.is_stopped() {
        ('t', "tracing stop")
    } else if has_stopped(&thread.task) {
        ('T', "stopped")
    } else if core::ptr::eq(&*thread.task, &*thread::current().task) {
        ('R', "running")
    } else {
        ('S', "sleeping")
    }
}

struct Masks {
    pending: u64,
    shared: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
    queued: usize,
    threads: usize,
}

fn masks(thread: &Thread) -> Masks {
    let signals = thread.task.group.signals.lock();
    let own = thread.task.signals.lock();
    let (mut ignored, mut caught) = (0, 0);
    for signal in 1..=COUNT {
        match signals.action(signal).map(|action| action.handler) {
            Some(SIG_DFL) | None => {}
            Some(SIG_IGN) => ignored |= bit(signal),
            Some(_) => caught |= bit(signal),
        }
    }
    Masks {
        pending: own.pending.set(),
        shared: signals.pending.set(),
        blocked: own.blocked,
        ignored,
        caught,
        queued: own.pending.len() + signals.pending.len(),
        threads: signals.visible().len(),
    }
}

/// `status`.
pub fn status(thread: &Thread, space: PidSpace) -> Result<Vec<u8>> {
    let task = &thread.task;
    let group = &task.group;
    let cred = task.cred();
    let masks = masks(thread);
    let (letter, word) = state(thread);
    let (pgid, sid) = group.place();
    let mut text = String::new();
    let ended = thread.has_ended();
    let name = String::from_utf8_lossy(&comm_text(thread)).into_owned();
    let _ = writeln!(text, "Name:\t{name}");
    if !ended {
        let _ = writeln!(text, "Umask:\t{:04o}", thread.fs().umask());
    }
    let _ = writeln!(text, "State:\t{letter} ({word})");
    let (tgid, tid) = (group.tgid, task.tid());
    let [shown_tgid, shown_tid, parent, tracer] =
        [tgid, tid, group.parent_id(), task.trace.tracer_id()].map(|id| space.shown(id));
    let _ = write!(
        text,
        "Tgid:\t{shown_tgid}\nNgid:\t0\nPid:\t{shown_tid}\nPPid:\t{parent}\nTracerPid:\t{tracer}\n"
    );
    let _ = writeln!(text, "Uid:\t{}\t{}\t{}\t{}", cred.uid, cred.euid, cred.suid, cred.fsuid);
    let _ = writeln!(text, "Gid:\t{}\t{}\t{}\t{}", cred.gid, cred.egid, cred.sgid, cred.fsgid);
    let groups: Vec<String> = cred.groups.iter().map(|group| format!("{group} ")).collect();
    let size = if ended { 0 } else { thread.files().size().next_multiple_of(64).max(64) };
    let _ = writeln!(text, "FDSize:\t{size}\nGroups:\t{}", groups.concat());
    for (name, id) in [("NStgid", tgid), ("NSpid", tid), ("NSpgid", pgid), ("NSsid", sid)] {
        let _ = writeln!(text, "{name}:\t{}", pidfd::numbers(space, group.space, id));
    }
    text.push_str("Kthread:\t0\n");
    if !ended {
        memory(thread, &mut text);
        text.push_str("CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n");
    }
    let limit = task.rlimit(11);
    let _ = writeln!(text, "Threads:\t{}\nSigQ:\t{}/{limit}", masks.threads, masks.queued);
    let _ = writeln!(text, "SigPnd:\t{:016x}\nShdPnd:\t{:016x}", masks.pending, masks.shared);
    let _ = writeln!(
        text,
        "SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}",
        masks.blocked, masks.ignored, masks.caught
    );
    let _ = writeln!(
        text,
        "CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}",
        cred.inheritable, cred.permitted, cred.effective
    );
    let _ = writeln!(text, "CapBnd:\t{:016x}\nCapAmb:\t{:016x}", cred.bounding, cred.ambient);
    let (mode, filters) = task.seccomp.lock().shown();
    let _ = writeln!(
        text,
        "NoNewPrivs:\t{}\nSeccomp:\t{mode}\nSeccomp_filters:\t{filters}\n\
         Speculation_Store_Bypass:\tunknown\nSpeculationIndirectBranch:\tunknown",
        u8::from(task.no_new_privs.load(Ordering::Relaxed))
    );
    let cpus = kernel::boot::config().map(|config| config.host.cpus.clone()).unwrap_or_default();
    let mask = cpus.iter().filter(|&&cpu| cpu < 64).fold(0u64, |mask, cpu| mask | 1 << cpu);
    let list: Vec<String> = cpus.iter().map(|cpu| format!("{cpu}")).collect();
    let _ = writeln!(text, "Cpus_allowed:\t{mask:x}\nCpus_allowed_list:\t{}", list.join(","));
    text.push_str("Mems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
    Ok(text.into_bytes())
}

fn memory(thread: &Thread, text: &mut String) {
    let space = thread.space();
    let totals = space.totals();
    let kib = |bytes: u64| bytes >> 10;
    let resident = space.resident();
    let rows = [
        ("VmPeak", totals.total),
        ("VmSize", totals.total),
        ("VmLck", totals.locked),
        ("VmPin", 0),
        ("VmHWM", resident),
        ("VmRSS", resident),
        ("RssAnon", resident),
        ("RssFile", 0),
        ("RssShmem", 0),
        ("VmData", totals.data),
        ("VmStk", 132 << 10),
        ("VmExe", 0),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in rows {
        let _ = writeln!(text, "{name}:\t{:>8} kB", kib(bytes));
    }
}

/// `stat`: 52 fields (proc_pid_stat(5)).
pub fn stat(thread: &Thread, seen: PidSpace) -> Result<Vec<u8>> {
    let task = &thread.task;
    let group = &task.group;
    let masks = masks(thread);
    let (letter, _) = state(thread);
    let (pgid, sid, terminal) = {
        let family = group.family.lock();
        (family.pgid, family.sid, family.terminal.clone())
    };
    let (device, foreground) =
        terminal.as_ref().map_or((0, -1), |terminal| (terminal.device(), seen.shown(terminal.foreground())));
    let (times, below) = (crate::time::processor::times(group), *group.children_times.lock());
    let space = thread.space();
    let (program, totals, heap) = (space.program(), space.totals(), space.heap());
    let name = String::from_utf8_lossy(&comm_text(thread)).into_owned();
    let mut text = String::new();
    let _ = write!(
        text,
        "{} ({name}) {letter} {} {} {} {device} {foreground} 4194560",
        seen.shown(task.tid()),
        seen.shown(group.parent_id()),
        seen.shown(pgid),
        seen.shown(sid)
    );
    let Scheduling { nice, policy, .. } = *task.scheduling.lock();
    let _ = write!(text, " 0 0 0 0 {} {}", ticks(times.user), ticks(times.system));
    let _ = write!(
        text,
        " {} {} {} {nice} {} 0",
        ticks(below.user),
        ticks(below.system),
        20 + nice,
        masks.threads
    );
    let rss_limit = task.rlimit(5);
    let _ = write!(text, " {} {} {} {rss_limit}", ticks(task.started), totals.total, space.resident() >> 12);
    let _ = write!(text, " {} {} {} 0 0", program.start_code, program.end_code, program.start_stack);
    let _ = write!(
        text,
        " {} {} {} {} 0 0 0",
        masks.pending & 0x7fff_ffff,
        masks.blocked & 0x7fff_ffff,
        masks.ignored & 0x7fff_ffff,
        masks.caught & 0x7fff_ffff
    );
    let exit_signal = if task.tid() == group.tgid { group.exit_signal.load(Ordering::Relaxed) } else { -1 };
    let _ = write!(
        text,
        " {exit_signal} 0 0 {policy} 0 0 0 {} {} {}",
        program.start_data, program.end_data, heap.0
    );
    let _ = writeln!(
        text,
        " {} {} {} {} 0",
        program.arg_start, program.arg_end, program.env_start, program.env_end
    );
    Ok(text.into_bytes())
}

/// `statm`, in pages.
pub fn statm(thread: &Thread) -> Result<Vec<u8>> {
    let space = thread.space();
    let totals = space.totals();
    let program = space.program();
    let pages = |bytes: u64| bytes >> 12;
    let text = pages(program.end_code.saturating_sub(program.start_code));
    let (size, resident, data) = (pages(totals.total), pages(space.resident()), pages(totals.data));
    Ok(format!("{size} {resident} 0 {text} 0 {data} 0\n").into_bytes())
}
