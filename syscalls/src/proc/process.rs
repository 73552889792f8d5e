//! `/proc/PID` and `/proc/PID/task/TID`.

use super::nodes::{self, PROC, checked, writable};
use super::{memory_file, namespaces, process_files, status};
use crate::process::pidfd;
use crate::thread::{self, Thread};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::cred::cap;
use kernel::task::{Pid, PidSpace, lock_table};
use vfs::attributes::Kind;
use vfs::file::FileRef;
use vfs::generated::{Directory, Link};
use vfs::inode::{Inode, LinkTarget};
use vfs::namespace::{self, Path};
use vfs::{Errno, Result};

/// How a file's text is made from its process's thread.
#[derive(Clone, Copy)]
enum Make {
    /// The same for whoever looks.
    Of(fn(&Thread) -> Result<Vec<u8>>),
    /// With ids, as a space sees them.
    Seen(fn(&Thread, PidSpace) -> Result<Vec<u8>>),
}

use Make::{Of, Seen};

/// Who may have a file, and when that is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// Everyone.
    All,
    /// Who may look into the process, which reading asks.
    Inspectors,
    /// The same, which opening asks: of the dead there is nothing to read.
    InspectorsOfAreas,
    /// The same, and the dead have none (`proc_mem_open`).
    InspectorsOfMemory,
    /// Everyone, and the dead have none.
    AllOfTheLiving,
}

/// Files of a process: name, mode, for whom, contents.
const FILES: &[(&str, u32, For, Make)] = &[
    ("auxv", 0o400, For::InspectorsOfMemory, Of(process_files::auxv)),
    ("cgroup", 0o444, For::All, Of(process_files::cgroup)),
    ("cmdline", 0o444, For::All, Of(process_files::cmdline)),
    ("cpuset", 0o444, For::All, Of(process_files::cpuset)),
    ("environ", 0o400, For::InspectorsOfMemory, Of(process_files::environ)),
    ("gid_map", 0o644, For::All, Of(process_files::id_map)),
    ("io", 0o400, For::Inspectors, Of(process_files::io)),
    ("limits", 0o444, For::All, Of(process_files::limits)),
    ("maps", 0o444, For::InspectorsOfAreas, Of(process_files::maps)),
    ("mountinfo", 0o444, For::AllOfTheLiving, Of(process_files::mountinfo)),
    ("mounts", 0o444, For::AllOfTheLiving, Of(process_files::mounts)),
    ("mountstats", 0o400, For::AllOfTheLiving, Of(process_files::mountstats)),
    ("oom_score", 0o444, For::All, Of(process_files::zero)),
    ("pagemap", 0o400, For::InspectorsOfMemory, Of(process_files::pagemap)),
    ("projid_map", 0o644, For::All, Of(process_files::id_map)),
    ("personality", 0o400, For::Inspectors, Of(process_files::personality)),
    ("sched", 0o644, For::All, Seen(process_files::sched)),
    ("schedstat", 0o444, For::All, Of(process_files::schedstat)),
    ("setgroups", 0o644, For::All, Of(process_files::setgroups)),
    ("syscall", 0o400, For::Inspectors, Of(process_files::syscall)),
    ("uid_map", 0o644, For::All, Of(process_files::id_map)),
    ("sessionid", 0o444, For::All, Of(process_files::session_id)),
    ("smaps", 0o444, For::InspectorsOfAreas, Of(process_files::smaps)),
    ("smaps_rollup", 0o444, For::InspectorsOfMemory, Of(process_files::smaps_rollup)),
    ("stack", 0o400, For::Inspectors, Of(process_files::stack)),
    ("stat", 0o444, For::All, Seen(status::stat)),
    ("statm", 0o444, For::All, Of(status::statm)),
    ("status", 0o444, For::All, Seen(status::status)),
    ("wchan", 0o444, For::All, Of(process_files::wchan)),
];

/// What the directory of a thread does not have.
const OF_PROCESSES: &[&str] = &["coredump_filter", "mountstats", "task", "timerslack_ns"];

/// Links to places and files.
const LINKS: &[&str] = &["cwd", "exe", "root"];
/// Files that take writes.
const WRITABLE: &[&str] =
    &["comm", "coredump_filter", "loginuid", "oom_score_adj", "oom_adj", "timerslack_ns"];
/// The process's memory.
const MEMORY: &str = "mem";
/// Directories.
const DIRECTORIES: &[&str] = &["fd", "fdinfo", "net", "ns", "task"];

fn find(tid: Pid) -> Result<Arc<Thread>> {
    thread::find_dead_or_alive(tid).ok_or(Errno::ESRCH)
}

/// The main thread of the process `pid`, dead or alive, or the thread with that id.
pub(super) fn of_process(pid: Pid) -> Result<Arc<Thread>> {
    find(pid).or_else(|_| {
        let group = lock_table()?.group(pid).ok_or(Errno::ENOENT)?;
        find(group.leader().ok_or(Errno::ENOENT)?.tid())
    })
}

fn owner(thread: &Thread) -> (u32, u32) {
    let cred = thread.task.cred();
    (cred.euid, cred.egid)
}

/// Whether the running thread may look at what only a process's owner may see (ptrace(2), access mode checking).
pub(super) fn may_inspect(thread: &Thread) -> Result<()> {
    let (own, theirs) = (thread::current().task.cred(), thread.task.cred());
    if own.fsuid == theirs.uid && own.fsuid == theirs.euid || own.has(cap::SYS_PTRACE) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// The directory of a process (or of a thread by its id, which is not listed).
pub fn directory(space: PidSpace, pid: Pid) -> Result<Arc<dyn Inode>> {
    let thread = of_process(pid).map_err(|_| Errno::ENOENT)?;
    Ok(thread_directory(space, pid, &thread, true))
}

fn thread_directory(space: PidSpace, tid: Pid, thread: &Thread, is_process: bool) -> Arc<dyn Inode> {
    let owner = owner(thread);
    let place = format!("{}/{is_process}", tid.number());
    Arc::new(Directory {
        common: PROC.node(&[place.as_bytes()], 0o555, owner),
        list: Box::new(move || {
            let names = FILES.iter().map(|(name, ..)| (*name, Kind::Regular));
            let names = names.chain([(MEMORY, Kind::Regular)]);
            let names = names.chain(WRITABLE.iter().map(|name| (*name, Kind::Regular)));
            let names = names.chain(LINKS.iter().map(|name| (*name, Kind::Symlink)));
            let names = names.chain(DIRECTORIES.iter().map(|name| (*name, Kind::Directory)));
            Ok(names
                .filter(|(name, _)| is_process || !OF_PROCESSES.contains(name))
                .map(|(name, kind)| (name.as_bytes().to_vec(), kind))
                .collect())
        }),
        find: Box::new(move |name| entry((space, tid), is_process, owner, name)),
        process: is_process.then_some(tid),
    })
}

fn may_open(tid: Pid, whose: For) -> Result<()> {
    let thread = of_process(tid)?;
    if matches!(whose, For::InspectorsOfAreas | For::InspectorsOfMemory) {
        may_inspect(&thread)?;
    }
    match whose {
        For::InspectorsOfMemory if thread.has_ended() => Err(Errno::ESRCH),
        For::AllOfTheLiving if thread.has_ended() => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

fn read((space, tid): (PidSpace, Pid), whose: For, make: Make) -> Result<Vec<u8>> {
    let thread = of_process(tid)?;
    match whose {
        For::Inspectors => may_inspect(&thread)?,
        For::InspectorsOfAreas | For::InspectorsOfMemory if thread.has_ended() => return Ok(Vec::new()),
        _ => {}
    }
    match make {
        Of(make) => make(&thread),
        Seen(make) => make(&thread, space),
    }
}

fn entry(
    (space, tid): (PidSpace, Pid),
    is_process: bool,
    owner: (u32, u32),
    name: &[u8],
) -> Result<Arc<dyn Inode>> {
    let number = format!("{}", tid.number());
    let place: &[&[u8]] = &[number.as_bytes(), name];
    if !is_process && OF_PROCESSES.iter().any(|other| other.as_bytes() == name) {
        return Err(Errno::ENOENT);
    }
    if let Some(&(_, mode, whose, make)) = FILES.iter().find(|(file, ..)| file.as_bytes() == name) {
        let make = if name == b"io" && !is_process { Of(process_files::thread_io) } else { make };
        return Ok(checked(
            place,
            mode,
            owner,
            move || may_open(tid, whose),
            move || read((space, tid), whose, make),
        ));
    }
    match name {
        b"comm" => Ok(writable(
            place,
            0o644,
            owner,
            move || process_files::comm(&*of_process(tid)?),
            move |bytes| process_files::set_comm(&*of_process(tid)?, bytes),
        )),
        b"loginuid" => Ok(writable(
            place,
            0o644,
            owner,
            move || Ok(process_files::login_uid(&*of_process(tid)?)),
            move |bytes| process_files::set_login_uid(&*of_process(tid)?, bytes),
        )),
        b"oom_score_adj" => Ok(writable(
            place,
            0o644,
            owner,
            move || Ok(process_files::oom_score_adj(&*of_process(tid)?)),
            move |bytes| process_files::set_oom_score_adj(&*of_process(tid)?, bytes),
        )),
        b"oom_adj" => Ok(writable(
            place,
            0o644,
            owner,
            move || Ok(process_files::oom_adj(&*of_process(tid)?)),
            move |bytes| process_files::set_oom_adj(&*of_process(tid)?, bytes),
        )),
        b"coredump_filter" => Ok(writable(
            place,
            0o644,
            owner,
            move || Ok(process_files::coredump_filter(&*of_process(tid)?)),
            move |bytes| process_files::set_coredump_filter(&*of_process(tid)?, bytes),
        )),
        b"timerslack_ns" => Ok(writable(
            place,
            0o666,
            owner,
            move || Ok(process_files::timer_slack(&*of_process(tid)?)),
            move |bytes| process_files::set_timer_slack(&*of_process(tid)?, bytes),
        )),
        b"net" => {
            let ended = of_process(tid)?.has_ended();
            Ok(nodes::directory(place, if ended { Vec::new() } else { super::network::entries() }))
        }
        b"ns" => Ok(namespaces::directory(place, owner, tid)),
        b"mem" => Ok(memory_file::node(place, owner, tid)),
        b"exe" => Ok(magic_link(place, owner, tid, |thread| thread.executable().ok_or(Errno::ENOENT))),
        b"cwd" => Ok(magic_link(place, owner, tid, |thread| Ok(place_of(thread.fs().cwd())))),
        b"root" => Ok(magic_link(place, owner, tid, |thread| Ok(place_of(thread.fs().root())))),
        b"fd" => Ok(descriptors(place, owner, (space, tid), false)),
        b"fdinfo" => Ok(descriptors(place, owner, (space, tid), true)),
        b"task" if is_process => Ok(tasks(place, owner, (space, tid))),
        _ => Err(Errno::ENOENT),
    }
}

/// An open file that is no more than a place in the tree.
fn place_of(path: Path) -> FileRef {
    namespace::place_only(path)
}

fn magic_link(
    place: &[&[u8]],
    owner: (u32, u32),
    tid: Pid,
    target: fn(&Thread) -> Result<FileRef>,
) -> Arc<dyn Inode> {
    let follow = move || {
        let thread = of_process(tid)?;
        may_inspect(&thread)?;
        if thread.has_ended() {
            return Err(Errno::ENOENT);
        }
        let file = target(&thread)?;
        let text = text_of(&file);
        Ok(LinkTarget::Object(file, text))
    };
    Arc::new(Link { common: PROC.node(place, 0o777, owner), size: 0, follow: Box::new(follow) })
}

/// What readlink(2) shows for an open file.
fn text_of(file: &FileRef) -> Vec<u8> {
    match &file.path {
        Some(path) => path.text(&thread::current().fs().root()),
        None => file.ops.describe().into_bytes(),
    }
}

fn descriptors(
    place: &[&[u8]],
    owner: (u32, u32),
    (space, tid): (PidSpace, Pid),
    info: bool,
) -> Arc<dyn Inode> {
    let list = move || {
        let thread = of_process(tid)?;
        may_inspect(&thread)?;
        let kind = if info { Kind::Regular } else { Kind::Symlink };
        Ok(thread.files().list().iter().map(|(fd, ..)| (format!("{fd}").into_bytes(), kind)).collect())
    };
    let find = move |name: &[u8]| -> Result<Arc<dyn Inode>> {
        let fd = super::number(name).or((name == b"0").then_some(0)).ok_or(Errno::ENOENT)?;
        let thread = of_process(tid)?;
        may_inspect(&thread)?;
        let file = thread.files().get_any(fd).map_err(|_| Errno::ENOENT)?;
        let access = |able, bits| if able { bits } else { 0 };
        let mode = access(file.readable(), 0o500) | access(file.writable(), 0o300);
        let number = format!("{}", tid.number());
        let place: &[&[u8]] = &[number.as_bytes(), if info { b"fdinfo" } else { b"fd" }, name];
        if info {
            return Ok(nodes::file(PROC, place, 0o444, owner, move || describe_descriptor((space, tid), fd)));
        }
        let follow = move || {
            let file = of_process(tid)?.files().get_any(fd).map_err(|_| Errno::ENOENT)?;
            let text = text_of(&file);
            Ok(LinkTarget::Object(file, text))
        };
        Ok(Arc::new(Link { common: PROC.node(place, mode, owner), size: 64, follow: Box::new(follow) }))
    };
    let common = PROC.node(place, 0o500, owner);
    Arc::new(Directory { common, list: Box::new(list), find: Box::new(find), process: None })
}

fn describe_descriptor((space, tid): (PidSpace, Pid), fd: i32) -> Result<Vec<u8>> {
    let files = of_process(tid)?.files();
    let file = files.get_any(fd).map_err(|_| Errno::ENOENT)?;
    let mut flags = file.flags();
    if files.close_on_exec_flag(fd)? {
        flags |= linux_raw_sys::general::O_CLOEXEC;
    }
    let position = *file.position.lock();
    let mut text =
        format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t1\nino:\t{}\n", super::nodes_ino(&file));
    text.push_str(&pidfd::fdinfo(&file, space).unwrap_or_else(|| file.ops.fdinfo()));
    Ok(text.into_bytes())
}

fn tasks(place: &[&[u8]], owner: (u32, u32), (space, pid): (PidSpace, Pid)) -> Arc<dyn Inode> {
    let threads = move || -> Result<Vec<Pid>> {
        let group = of_process(pid)?.task.group.clone();
        Ok(group.signals.lock().visible())
    };
    let name = move |tid: &Pid| (format!("{}", space.shown(*tid)).into_bytes(), Kind::Directory);
    let list = move || Ok(threads()?.iter().map(name).collect());
    let find = move |name: &[u8]| -> Result<Arc<dyn Inode>> {
        let tid = super::number(name).and_then(|number| space.named(number)).ok_or(Errno::ENOENT)?;
        if !threads()?.contains(&tid) {
            return Err(Errno::ENOENT);
        }
        let thread = find(tid).map_err(|_| Errno::ENOENT)?;
        Ok(thread_directory(space, tid, &thread, false))
    };
    Arc::new(Directory {
        common: PROC.node(place, 0o555, owner),
        list: Box::new(list),
        find: Box::new(find),
        process: None,
    })
}
