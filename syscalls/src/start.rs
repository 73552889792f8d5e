//! Processes that nobody inside has made: the first one, and those that enter a running sandbox.

use crate::pod::{self, Place};
use crate::process::{ExecRequest, execute};
use crate::table::Context;
use crate::thread::{self, Thread};
use crate::{Errno, boot as start_up, mounts};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::control::{FIRST, FromSandbox, MAX_DESCRIPTORS, Standard};
use boundary::process::{Container, MAX_PROCESS, Process};
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::cred::Cred;
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::task::{Pid, PidSpace, Task, ThreadGroup, lock_table};
use kernel::wait::WaitQueue;
use kernel::{boot, log, signal, wait};
use linux_raw_sys::general as raw;
use serde::de::DeserializeOwned;
use trap_handler::block::ThreadBlock;
use trap_handler::{entry, host};
use vfs::file::FileRef;
use vfs::host_stream;
use vfs::identity::HostIds;
use vfs::table::TableUse;
use vfs::tty;

/// Where the program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Standard input, output and error.
type StandardFiles = [Option<FileRef>; 3];

struct Shared {
    /// Those of the first process, until it starts.
    first_files: Mutex<Option<StandardFiles>>,
    /// Process ids of those that have entered, with the supervisor's numbers. A leaf of the lock order.
    entered: Mutex<Vec<(Pid, u32)>>,
    /// The first process waits here until it may execute its program.
    held: AtomicBool,
    gate: WaitQueue,
}

static SHARED: BootCell<Box<Shared>> = BootCell::new();

/// Virtual process id of the first one.
pub fn first_id() -> Pid {
    let number = if boot::config().is_some_and(|config| config.options.container) { 1 } else { 2 };
    PidSpace::ALL.named(number).unwrap_or(Pid::NONE)
}

/// Mounts the tree and opens the standard descriptors of the first process. Called once, at boot.
pub fn init() -> Result<(), String> {
    let config = boot::config().ok_or_else(|| String::from("no configuration"))?;
    let (context, base) = mounts::set_up(config)?;
    pod::init(context, base);
    let files = match config.fds.terminal {
        -1 => host_stream::open_standard(config.fds.stdio, HostIds::new(config.host_ids)),
        socket => terminal(FIRST, socket, config.options.terminal_size, config.first.uid)
            .map_err(|errno| format!("the terminal: {errno}"))?,
    };
    let (first_files, entered) = (Mutex::new(Some(files)), Mutex::default());
    let (held, gate) = (AtomicBool::new(config.options.held), WaitQueue::new());
    SHARED.set(Box::new(Shared { first_files, entered, held, gate }));
    Ok(())
}

fn terminal(number: u32, socket: i32, size: [u16; 4], owner: u32) -> Result<StandardFiles, Errno> {
    let file = tty::attach_host(number, socket, crate::warden::window_size(size), owner)?;
    Ok([Some(file.clone()), Some(file.clone()), Some(file)])
}

/// Starts the first process in a host process of its own; the caller goes on as the warden.
pub fn first() {
    let (Some(config), Some(shared)) = (boot::config(), SHARED.get()) else { log::fatal("no configuration") };
    let Some(files) = shared.first_files.lock().take() else { log::fatal("no files") };
    let process = Arc::new(config.first.clone());
    let Some(place) = pod::place(FIRST) else { log::fatal("no tree") };
    if config.options.container {
        // As container runtimes do; what cannot be made is missed below.
        let _ = mounts::make_directory(&place.context, &process.cwd);
    }
    if let Err(failure) = shared.start(FIRST, place, &process, files) {
        failure.tell(FIRST);
        // The supervisor has its word.
        crate::warden::end_sandbox(failure.status());
    }
}

/// Lets the first process execute its program, if it waits for that.
pub fn go() {
    if let Some(shared) = SHARED.get() {
        shared.held.store(false, Ordering::SeqCst);
        shared.gate.wake_all(PollEvents::IN);
    }
}

/// Starts a process for the supervisor, with what came with its message. Called by the warden.
pub fn enter(
    number: u32,
    container: u32,
    length: u64,
    standard: Standard,
    descriptors: [i32; MAX_DESCRIPTORS],
) {
    let Some(shared) = SHARED.get() else { return };
    let [file, rest @ ..] = descriptors;
    let outcome = read::<Process>(file, length, &rest).and_then(|process| {
        let files = standard_files(number, standard, &rest, process.uid)?;
        let place = pod::place(container).ok_or(Errno::ESRCH)?;
        shared.start(number, place, &Arc::new(process), files)
    });
    if let Err(failure) = outcome {
        failure.tell(number);
        tty::host_left(number);
    }
}

/// Starts the first process of another container of the pod, likewise.
pub fn contain(number: u32, length: u64, standard: Standard, descriptors: [i32; MAX_DESCRIPTORS]) {
    let Some(shared) = SHARED.get() else { return };
    let [file, directory, rest @ ..] = descriptors;
    let tree = pod::tree(directory);
    let outcome = read::<Container>(file, length, &rest).and_then(|container| {
        let files = standard_files(number, standard, &rest, container.first.uid)?;
        let place = pod::join(number, tree, &container)
            .map_err(|unmounted| Failure { errno: unmounted.errno, what: unmounted.text })?;
        let process = Arc::new(container.first);
        let _ = mounts::make_directory(&place.context, &process.cwd);
        shared.start(number, place, &process, files)
    });
    if let Err(failure) = outcome {
        pod::forget(number);
        failure.tell(number);
        tty::host_left(number);
    }
}

fn standard_files(
    number: u32,
    standard: Standard,
    descriptors: &[i32],
    owner: u32,
) -> Result<StandardFiles, Failure> {
    let mut next = descriptors.iter().copied();
    match standard {
        Standard::Terminal { size } => {
            let socket = next.next().ok_or(Errno::EINVAL)?;
            Ok(terminal(number, socket, size, owner)?)
        }
        Standard::Files { flags } => {
            let fds = flags.map(|flags| flags.and_then(|flags| Some((next.next()?, flags))));
            let ids = boot::config().map(|config| config.host_ids).unwrap_or_default();
            Ok(host_stream::open_entering(fds, HostIds::new(ids))?)
        }
    }
}

/// Reads the memory file with an encoded process or container, and closes it; and, if that cannot be read, what came with it: who waits
/// outside for the end of what the process says would wait for ever.
fn read<T: DeserializeOwned>(file: i32, length: u64, with: &[i32]) -> Result<T, Failure> {
    let bytes = read_open(file, length);
    let _ = host::close(file);
    let outcome = bytes.and_then(|bytes| postcard::from_bytes(&bytes).map_err(|_| Errno::EINVAL));
    if outcome.is_err() {
        for descriptor in with.iter().filter(|descriptor| **descriptor >= 0) {
            let _ = host::close(*descriptor);
        }
    }
    Ok(outcome?)
}

fn read_open(file: i32, length: u64) -> Result<Vec<u8>, Errno> {
    let length = usize::try_from(length.min(MAX_PROCESS)).map_err(|_| Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; length];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match host::pread(file, rest.into(), done as u64)? {
            0 => return Err(Errno::EINVAL),
            count => done += count,
        }
    }
    Ok(bytes)
}

/// Why a process could not be started.
struct Failure {
    errno: Errno,
    /// What it was about: the program, or its working directory.
    what: String,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure { errno, what: String::from("process") }
    }
}

impl Failure {
    fn tell(&self, number: u32) {
        let reason = self.what.clone();
        boot::send(&FromSandbox::NotExecuted { process: number, errno: self.errno.0, reason });
    }

    /// Wait status that says so, as shells have it.
    fn status(&self) -> i32 {
        if self.errno == Errno::ENOENT { 127 << 8 } else { 126 << 8 }
    }
}

impl Shared {
    fn start(
        &self,
        number: u32,
        place: Place,
        process: &Arc<Process>,
        files: StandardFiles,
    ) -> Result<(), Failure> {
        let child = self.new_thread(number, place, process, files)?;
        let id = child.task.group.tgid;
        if number != FIRST {
            self.entered.lock().push((id, number));
        }
        let childs = process.clone();
        let flags = u64::from(raw::CLONE_FILES) | 17;
        // SAFETY: the child goes on with `child`, which it installs with a reference of its own, and with `childs`, which is its
        // alone; it never returns.
        match unsafe { host::clone_process(flags) } {
            Ok(0) => run(&child, number, &childs),
            Ok(_) => {
                // The child's now.
                core::mem::forget(childs);
                Ok(())
            }
            Err(errno) => {
                kernel::warn!("the host refused a process: {errno}");
                self.entered.lock().retain(|(other, _)| *other != id);
                crate::process::forget_unborn(&child);
                Err(Errno::EAGAIN.into())
            }
        }
    }

    fn new_thread(
        &self,
        number: u32,
        place: Place,
        process: &Process,
        standard: StandardFiles,
    ) -> Result<Arc<Thread>, Failure> {
        let mut files = TableUse::default();
        for (fd, file) in standard.into_iter().enumerate() {
            if let Some(file) = file {
                files.before_its_thread().replace_at(fd as i32, file, false, 3)?;
            }
        }
        let cred = Arc::new(Cred::of_process(process));
        let context = place.context.fork();
        context.set_umask(process.umask);
        mounts::change_directory(&context, files.before_its_thread().into_table(), &cred, &process.cwd)
            .map_err(|errno| Failure { errno, what: format!("working directory {}", text(&process.cwd)) })?;
        let mut table = lock_table()?;
        let sandbox = table.sandbox().clone();
        let id = table.new_id(place.space)?;
        let group = ThreadGroup::new((id, place.space), &sandbox, &sandbox, 17);
        for (resource, limit) in (0..).zip(&process.rlimits) {
            group.set_rlimit(resource, *limit);
        }
        group.oom_score_adj.store(process.oom_score_adj, Ordering::Relaxed);
        group.personality.store(process.personality, Ordering::Relaxed);
        group.container.store(place.container, Ordering::Relaxed);
        let is_init = id == place.space.first();
        {
            // It leads a session and a process group of its own, like a login shell.
            let mut family = group.family.lock();
            (family.pgid, family.sid) = (id, id);
            // What process 1 of a pid namespace does for those of its container.
            family.subreaper = number == place.container && number != FIRST && !is_init;
        }
        tty::control_by_host(number, &group);
        let task = Arc::new(Task::new(id, group.clone(), cred, [0; 16]));
        task.no_new_privs.store(process.no_new_privs, Ordering::Relaxed);
        *task.scheduling.lock() = process.scheduling;
        crate::system::seccomp::start_with(&task, &process.filters)?;
        {
            let mut signals = group.signals.lock();
            // As execve(2) leaves them (nohup(1), a shell's background jobs).
            for number in
                (1..=signal::COUNT).filter(|number| process.ignored_signals & signal::bit(*number) != 0)
            {
                signals.set_action(
                    number,
                    signal::Action { handler: signal::SIG_IGN, ..signal::Action::default() },
                );
            }
            signals.tasks.push(task.clone());
            signals.unkillable = is_init;
        }
        group.alive.store(1, Ordering::SeqCst);
        sandbox.family.lock().children.push(group);
        table.insert(&task);
        drop(table);
        let child = Thread::new(task, start_up::fresh_memory(), files, context);
        thread::register(&child);
        Ok(child)
    }
}

/// The first steps of the new host process.
fn run(child: &Arc<Thread>, number: u32, process: &Process) -> ! {
    child.install();
    child.adopt_host_process();
    if number == FIRST {
        wait_for_go();
    }
    let mut regs = trap_handler::regs::Regs::default();
    let mut context = Context { regs: &mut regs, thread: thread::current() };
    match execute_first_of(&mut context, process) {
        Ok(()) => {
            if number != FIRST || child.task.group.signals.lock().unkillable {
                boot::send(&FromSandbox::Started { process: number });
            }
            ThreadBlock::current().set_regs(&regs);
            entry::leave()
        }
        Err(errno) => {
            let failure = Failure { errno, what: text(&process.program) };
            failure.tell(number);
            crate::process::exit_group(thread::current(), failure.status())
        }
    }
}

/// Waits until the first process may execute its program; it can be killed meanwhile.
fn wait_for_go() {
    let Some(shared) = SHARED.get() else { return };
    let may_go = || !shared.held.load(Ordering::SeqCst);
    wait::killable(&shared.gate, may_go);
    if !may_go() {
        crate::process::exit_group(thread::current(), signal::SIGKILL);
    }
}

/// Executes the program, a bare name from the first directory of `PATH` that has it (execvp(3)).
fn execute_first_of(context: &mut Context<'_>, process: &Process) -> Result<(), Errno> {
    let mut execute = |path: Vec<u8>| {
        let (argv, envp) = (process.argv.clone(), process.env.clone());
        execute(context, ExecRequest { base: raw::AT_FDCWD, path, flags: 0, argv, envp }).map(|_| ())
    };
    if process.program.contains(&b'/') {
        return execute(process.program.clone());
    }
    let path = process.env.iter().find_map(|variable| variable.strip_prefix(b"PATH="));
    let mut outcome = Err(Errno::ENOENT);
    for directory in path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        match execute([directory, b"/", &process.program].concat()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(Errno::EACCES) => outcome = Err(Errno::EACCES),
            other => return other,
        }
    }
    outcome
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process has lost its last thread. The first one's end is the sandbox's; the supervisor waits for those that entered.
pub fn ended(group: &ThreadGroup, status: i32) {
    if group.tgid == first_id() {
        return crate::warden::end_sandbox(status);
    }
    let Some(shared) = SHARED.get() else { return };
    let number = {
        let mut entered = shared.entered.lock();
        let at = entered.iter().position(|(id, _)| *id == group.tgid);
        at.map(|at| entered.swap_remove(at).1)
    };
    let container = group.container.load(Ordering::Relaxed);
    if let Some(number) = number {
        if number == container {
            pod::first_ended(container, status);
        } else {
            boot::send(&FromSandbox::Exited { process: number, status });
        }
        tty::host_left(number);
    }
    // A container's end is told when nobody in it is left, as that of a pid namespace, in which there may be others.
    let around = pod::owner(group.space).filter(|owner| *owner != container);
    for container in [Some(container), around].into_iter().flatten() {
        if let Some(status) = pod::emptied(container) {
            boot::send(&FromSandbox::Exited { process: container, status });
        }
    }
}

/// The process that the supervisor means by `number`, if it lives.
pub fn numbered(number: u32) -> Option<Arc<ThreadGroup>> {
    let id = match number {
        FIRST => first_id(),
        _ => {
            let entered = SHARED.get()?.entered.lock();
            entered.iter().find(|(_, other)| *other == number)?.0
        }
    };
    lock_table().ok()?.group(id)
}
