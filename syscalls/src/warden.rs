//! The warden: process 1 of the sandbox's pid namespace. It never runs program code; it reaps host processes, runs timers,
//! watches host descriptors, answers the supervisor, and ends the sandbox.

use crate::{pod, process, start};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::control::{FIRST, FromSandbox, MAX_DESCRIPTORS, MAX_MESSAGE, ToSandbox};
use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use kernel::signal::{self, SigInfo, si};
use kernel::sync::{self, BootCell};
use kernel::task::{ThreadGroup, lock_table, signal_process_group};
use kernel::{boot, hostpoll, log, time, timer};
use linux_raw_sys::general::winsize;
use netstack::inet;
use trap_handler::block::{ThreadBlock, ThreadState};
use trap_handler::host::{self, raw};
use vfs::tty;

struct State {
    /// Host descriptor that wakes the warden.
    event: i32,
    /// The first process has ended, with this wait status.
    ended: AtomicBool,
    status: AtomicI32,
    /// A host process that was lost, with its wait status, while the report is put together; 0 for none.
    lost: [AtomicI32; 2],
    /// Host processes that ended well while a lock was waited for, to be looked at later; 0 for none.
    ended_well: [AtomicI32; 64],
}

static STATE: BootCell<Box<State>> = BootCell::new();

/// Sets up; `event` is the eventfd that wakes the warden. Called once, at boot.
pub fn init(event: i32) {
    STATE.set(Box::new(State {
        event,
        ended: AtomicBool::new(false),
        status: AtomicI32::new(0),
        lost: Default::default(),
        ended_well: [const { AtomicI32::new(0) }; 64],
    }));
    timer::set_wake(wake);
    sync::set_late(lock_is_late);
}

/// Makes the warden look at its work.
pub fn wake() {
    if let Some(state) = STATE.get() {
        let _ = host::write(state.event, 1u64.to_ne_bytes().as_slice().into());
    }
}

/// The first process has ended: the warden tells the supervisor and ends everything.
pub fn end_sandbox(status: i32) {
    if let Some(state) = STATE.get() {
        state.status.store(status, Ordering::SeqCst);
        state.ended.store(true, Ordering::SeqCst);
        wake();
    }
}

/// How long the caller's terminal may take over what was written last.
const LAST_WORDS: u64 = 2 * time::SECOND;

/// The warden's loop.
pub fn run() -> ! {
    let Some(state) = STATE.get() else { log::fatal("the warden was not set up") };
    let control = boot::config().map_or(-1, |config| config.fds.control);
    let mut fds: Vec<raw::pollfd> = Vec::new();
    loop {
        if state.ended.load(Ordering::SeqCst) {
            tty::drain_host(time::monotonic().saturating_add(LAST_WORDS));
            crate::changes::report();
            crate::stats::report();
            let status = state.status.load(Ordering::SeqCst);
            boot::send(&FromSandbox::Exited { process: FIRST, status });
            host::exit_group(0);
        }
        // Before the look: an end that comes after it keeps the warden from sleeping.
        ThreadBlock::current().state().work.fetch_and(!ThreadState::CHILD_ENDED, Ordering::SeqCst);
        reap(state);
        process::serve_zygote();
        tty::serve_host();
        let now = time::monotonic();
        timer::run(now);
        fds.clear();
        let (broker, packet) = (inet::broker::descriptor(), inet::stack::descriptor());
        for fd in [state.event, control, broker, packet] {
            fds.push(raw::pollfd { fd, events: raw::POLLIN as i16, revents: 0 });
        }
        hostpoll::collect(&mut fds);
        let deadline = [timer::next_deadline(), inet::stack::next_deadline()].into_iter().flatten().min();
        let timeout = deadline.map(|deadline| deadline.saturating_sub(time::monotonic()));
        // EINTR: a child has ended.
        if host::ppoll_interruptible(&mut fds, timeout).is_err() {
            continue;
        }
        if fds.first().is_some_and(|event| event.revents != 0) {
            let mut count = [0u8; 8];
            let _ = host::read(state.event, count.as_mut_slice().into());
        }
        if fds.get(1).is_some_and(|control| control.revents != 0) {
            control_message(control);
        }
        if fds.get(2).is_some_and(|broker| broker.revents != 0) {
            inet::broker::serve();
        }
        if packet >= 0 {
            inet::stack::serve();
        }
        hostpoll::dispatch(fds.get(4..).unwrap_or(&[]));
    }
}

/// Takes the ends of host processes. One that our kernel did not order ends the sandbox with a report.
fn reap(state: &State) {
    for slot in &state.ended_well {
        let pid = slot.swap(0, Ordering::Relaxed);
        if pid != 0 && owns_live_process(pid) {
            lost(state, pid, 0);
        }
    }
    while let Ok(Some((pid, status))) = host::wait_any() {
        if status != 0 || owns_live_process(pid) {
            lost(state, pid, status);
        }
    }
}

fn lost(state: &State, pid: i32, status: i32) -> ! {
    let [lost_pid, lost_status] = &state.lost;
    lost_status.store(status, Ordering::Relaxed);
    lost_pid.store(pid, Ordering::Relaxed);
    let what = HowItEnded(status);
    log::fatal(&format!("a process of the sandbox was lost: {} {what}", describe(pid)))
}

/// How a host process ended, from its wait status.
struct HowItEnded(i32);

impl fmt::Display for HowItEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 & 0x7f {
            0 => write!(f, "exited with status {}", self.0 >> 8),
            31 => f.write_str("was killed by the host filter: it made a host call that is not allowed"),
            9 => f.write_str(
                "was killed from outside (signal 9), perhaps for want of memory; see the host's kernel log",
            ),
            signal => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// The warden waits for a lock: its holder may be a process that was lost. Nothing may be locked or allocated here.
fn lock_is_late() {
    let Some(state) = STATE.get() else { return };
    let [lost_pid, lost_status] = &state.lost;
    if lost_pid.load(Ordering::Relaxed) == 0 {
        while let Some(slot) = state.ended_well.iter().find(|slot| slot.load(Ordering::Relaxed) == 0)
            && let Ok(Some((pid, status))) = host::wait_any()
        {
            if status == 0 {
                slot.store(pid, Ordering::Relaxed);
                continue;
            }
            lost_status.store(status, Ordering::Relaxed);
            lost_pid.store(pid, Ordering::Relaxed);
            break;
        }
    }
    let (pid, status) = (lost_pid.load(Ordering::Relaxed), lost_status.load(Ordering::Relaxed));
    if pid != 0 {
        let mut report = Fixed { bytes: [0; 256], length: 0 };
        let what = HowItEnded(status);
        let _ =
            write!(report, "a process of the sandbox was lost: host process {pid}, in kernel code, {what}");
        boot::send_fatal(report.text());
        host::exit_group(boot::FATAL_STATUS);
    }
}

/// Text on the stack; what does not fit is left out.
struct Fixed {
    bytes: [u8; 256],
    length: usize,
}

impl Fixed {
    fn text(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl fmt::Write for Fixed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// Whether a process that still has threads runs in this host process.
fn owns_live_process(host_pid: i32) -> bool {
    let Ok(table) = lock_table() else { return false };
    table.iter().any(|group| {
        group.host_pid.load(Ordering::SeqCst) == host_pid && group.alive.load(Ordering::SeqCst) > 0
    })
}

/// Which process that was, and where its threads were.
fn describe(host_pid: i32) -> String {
    let groups = lock_table().map(|table| table.groups()).unwrap_or_default();
    let lives_here = |group: &&Arc<ThreadGroup>| group.host_pid.load(Ordering::SeqCst) == host_pid;
    let Some(group) = groups.iter().find(lives_here) else { return format!("host process {host_pid}") };
    let Some(leader) = group.leader() else { return format!("{}", group.tgid.number()) };
    let comm = *leader.comm.lock();
    let name = String::from_utf8_lossy(comm.split(|&byte| byte == 0).next().unwrap_or(&[])).into_owned();
    let in_program = group.signals.lock().tasks.iter().filter(|task| task.state.runs_program()).count();
    let threads = group.alive.load(Ordering::SeqCst);
    format!("{} ({name}), with {threads} threads, {in_program} of them in program code,", group.tgid.number())
}

/// A signal to the supervisor is for the first process; one that a terminal makes is for that one's process group, as if it
/// ran on the terminal itself. In a container each is for the process that it names.
fn forward(process: u32, signal: i32) {
    let Some(group) = start::numbered(process) else { return };
    let info = SigInfo::from_outside(signal);
    let container = boot::config().is_some_and(|config| config.options.container);
    if container || !matches!(signal, signal::SIGINT | signal::SIGQUIT) {
        let _ = signal::send_to_group(&group, info);
    } else {
        signal_process_group(group.place().0, info);
    }
}

fn control_message(control: i32) {
    let mut bytes = alloc::vec![0u8; MAX_MESSAGE];
    let (length, descriptors) = match host::receive_with::<MAX_DESCRIPTORS>(control, &mut bytes) {
        // The supervisor is gone: so are we.
        Ok((0, _)) => host::exit_group(boot::FATAL_STATUS),
        Ok(received) => received,
        Err(_) => return,
    };
    let message = bytes.get(..length).and_then(|bytes| postcard::from_bytes(bytes).ok());
    match message {
        Some(ToSandbox::Enter { process, container, length, standard }) => {
            start::enter(process, container, length, standard, descriptors);
        }
        Some(ToSandbox::Contain { process, length, standard }) => {
            start::contain(process, length, standard, descriptors);
        }
        Some(ToSandbox::Signal { process, number }) => forward(process, number),
        Some(ToSandbox::SignalAll { container, number }) => pod::signal_all(container, number),
        Some(ToSandbox::Key { number }) => {
            signal_process_group(start::first_id(), SigInfo::new(number, si::KERNEL));
        }
        Some(ToSandbox::WindowChanged { process, size }) => {
            let has_own = boot::config().is_some_and(|config| config.fds.terminal >= 0);
            if has_own || process != FIRST {
                tty::host_resized(process, window_size(size));
            } else {
                signal_process_group(start::first_id(), SigInfo::new(signal::SIGWINCH, si::KERNEL));
            }
        }
        Some(ToSandbox::TerminalGone { process }) => tty::host_gone(process),
        Some(ToSandbox::Go) => start::go(),
        Some(ToSandbox::Tasks { limit }) => {
            if let Ok(mut table) = lock_table() {
                table.set_limit(limit as usize);
            }
        }
        None => kernel::warn!("the supervisor sent a message that cannot be read"),
    }
}

/// The size of a window, as terminals have it, of what the supervisor says.
pub fn window_size(size: [u16; 4]) -> winsize {
    let [ws_row, ws_col, ws_xpixel, ws_ypixel] = size;
    winsize { ws_row, ws_col, ws_xpixel, ws_ypixel }
}
