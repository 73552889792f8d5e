//! The first process: its identity, its files, its program.

use crate::process::{ExecRequest, execute};
use crate::table::Context;
use crate::thread::{self, Thread};
use crate::{Errno, boot as start_up};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use boundary::control::FromSandbox;
use core::sync::atomic::Ordering;
use kernel::cred::Cred;
use kernel::signal::{Action, COUNT, SIG_IGN, bit};
use kernel::sync::BootCell;
use kernel::task::{Task, ThreadGroup, lock_table};
use kernel::{boot, log};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::{entry, host};
use vfs::context::FsContext;
use vfs::table::FileTable;

/// Its virtual process id. 1 is the sandbox itself, which adopts orphans.
pub const ID: i32 = 2;

struct Files {
    table: Arc<FileTable>,
    context: Arc<FsContext>,
}

static FILES: BootCell<Box<Files>> = BootCell::new();

/// Mounts the tree and opens the standard descriptors. Called once, at boot.
pub fn init() -> Result<(), String> {
    let config = boot::config().ok_or_else(|| String::from("no configuration"))?;
    let (table, context) = crate::mounts::set_up(config)?;
    FILES.set(Box::new(Files { table, context }));
    Ok(())
}

/// Starts it in a host process of its own; the caller goes on as the warden.
pub fn start() {
    let Some(config) = boot::config() else { log::fatal("no configuration") };
    let Some(files) = FILES.get() else { log::fatal("no files") };
    let child = match new_thread(config, files) {
        Ok(child) => child,
        Err(errno) => log::fatal(&format!("the first process could not be made: {errno}")),
    };
    let flags = u64::from(raw::CLONE_FILES) | 17;
    // SAFETY: the child goes on with `child` only, which it installs with a reference of its own; it never returns.
    let cloned = unsafe { host::clone_process(flags) };
    match cloned {
        Ok(0) => run(&child),
        Ok(_) => drop(child),
        Err(errno) => log::fatal(&format!("the host refused the first process: {errno}")),
    }
}

fn new_thread(config: &boundary::boot::BootConfig, files: &Files) -> Result<Arc<Thread>, Errno> {
    let identity = &config.identity;
    let cred = Arc::new(Cred::new(identity.uid, identity.gid, identity.groups.clone()));
    let mut table = lock_table()?;
    let init = table.init().clone();
    let id = table.new_id()?;
    debug_assert_eq!(id, ID);
    let group = ThreadGroup::new(id, &init, &init, 17);
    {
        // It leads a session and a process group of its own, like a login shell.
        let mut family = group.family.lock();
        (family.pgid, family.sid) = (id, id);
    }
    vfs::tty::control_by_host(&group);
    let task = Arc::new(Task::new(id, group.clone(), cred, [0; 16]));
    {
        let mut signals = group.signals.lock();
        // As execve(2) leaves them (nohup(1), a shell's background jobs).
        for signal in (1..=COUNT).filter(|signal| config.options.ignored_signals & bit(*signal) != 0) {
            signals.set_action(signal, Action { handler: SIG_IGN, ..Action::default() });
        }
        signals.tasks.push(task.clone());
    }
    group.alive.store(1, Ordering::SeqCst);
    init.family.lock().children.push(group);
    table.insert(&task);
    drop(table);
    let memory = start_up::fresh_memory();
    let child = Thread::new(task, memory, files.table.clone(), files.context.clone());
    thread::register(&child);
    Ok(child)
}

/// The first steps of the new host process.
fn run(child: &Arc<Thread>) -> ! {
    child.install();
    child.adopt_host_process();
    let Some(config) = boot::config() else { log::fatal("no configuration") };
    let request = ExecRequest {
        base: raw::AT_FDCWD,
        path: config.program.clone(),
        flags: 0,
        argv: config.argv.clone(),
        envp: config.env.clone(),
    };
    let mut regs = trap_handler::regs::Regs::default();
    let mut context = Context { regs: &mut regs, thread: thread::current() };
    match execute(&mut context, request) {
        Ok(_) => {
            ThreadBlock::current().set_regs(&regs);
            entry::leave()
        }
        Err(errno) => {
            let reason = format!("{}", String::from_utf8_lossy(&config.program));
            kernel::boot::send(&FromSandbox::ExecFailed { errno: errno.0, reason });
            let status = if errno == Errno::ENOENT { 127 } else { 126 };
            crate::process::exit_group(thread::current(), status << 8)
        }
    }
}
