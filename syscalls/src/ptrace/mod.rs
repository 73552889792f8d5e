//! ptrace(2), process_vm_readv(2), process_vm_writev(2).
//!
//! All of it is between our own tasks: the host's ptrace(2) plays no part. A tracee stops in its own kernel code
//! ([`stops`]) with its registers laid open for the tracer (`kernel::task::trace`); its memory is reached by asking it
//! ([`memory`], `kernel::task::calls`).

mod attach;
mod inspect;
pub mod memory;
mod registers;
pub mod stops;

pub use attach::{Access, inherit, leader_replaced, may_access, tracer_ends, traces};

use crate::args::Args;
use crate::strace::flags::PTRACE_REQUESTS;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::signal::{self, COUNT, SIGKILL, SigInfo, si};
use kernel::task::trace::traced;
use kernel::task::{Task, work};
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace as pt;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[&[
    partial(
        raw::__NR_ptrace,
        "ptrace",
        sys_ptrace,
        &[Show::OneOf(PTRACE_REQUESTS), Show::Int, Show::Address, Show::Address],
        "watchpoints on reads, block steps, seccomp events and filters, system call user dispatch",
    ),
    full(
        raw::__NR_process_vm_readv,
        "process_vm_readv",
        memory::sys_process_vm_readv,
        &[Show::Int, Show::Address, Show::Unsigned, Show::Address, Show::Unsigned, Show::Unsigned],
    ),
    full(
        raw::__NR_process_vm_writev,
        "process_vm_writev",
        memory::sys_process_vm_writev,
        &[Show::Int, Show::Address, Show::Unsigned, Show::Address, Show::Unsigned, Show::Unsigned],
    ),
]];

/// What a request is about.
struct Request<'a> {
    context: &'a Context<'a>,
    tracee: Arc<Task>,
    address: u64,
    data: u64,
}

fn tracee(context: &Context<'_>, number: i32) -> Result<Arc<Task>> {
    crate::thread::task(context.named(number)?)
}

fn sys_ptrace(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (kind, pid) = (args.u64(0), args.i32(1));
    let Ok(kind) = u32::try_from(kind) else { return tracee(context, pid).and(Err(Errno::EIO)) };
    if kind == pt::PTRACE_TRACEME {
        return attach::trace_me(context);
    }
    let request = Request { context, tracee: tracee(context, pid)?, address: args.u64(2), data: args.u64(3) };
    match kind {
        pt::PTRACE_ATTACH => attach::attach(&request, false),
        pt::PTRACE_SEIZE => attach::attach(&request, true),
        _ => {
            request.check(kind)?;
            perform(kind, &request)
        }
    }
}

impl Request<'_> {
    /// The caller has to be the tracer, and the tracee in a stop, except for the requests that want to change that
    /// (`ptrace_check_attach`).
    fn check(&self, kind: u32) -> Result<()> {
        let state = self.tracee.trace.lock();
        let own = Arc::as_ptr(&self.context.thread.task);
        let ours = state.link.as_ref().is_some_and(|link| link.tracer.as_ptr() == own);
        let stopped = state.stop.is_some_and(|stop| !stop.listening);
        let running_will_do = matches!(kind, pt::PTRACE_KILL | pt::PTRACE_INTERRUPT);
        if ours && (stopped || running_will_do) { Ok(()) } else { Err(Errno::ESRCH) }
    }

    /// Lets the tracee go on; `data` is the signal it goes on with.
    fn resume(&self, mode: u32) -> Result<u64> {
        let signal = self.signal()?;
        if self.tracee.resume_tracee(signal, mode) { Ok(0) } else { Err(Errno::ESRCH) }
    }

    fn signal(&self) -> Result<i32> {
        if self.data <= COUNT as u64 { Ok(self.data as i32) } else { Err(Errno::EIO) }
    }

    fn seized(&self) -> bool {
        self.tracee.trace.flags() & traced::SEIZED != 0
    }
}

fn perform(kind: u32, request: &Request<'_>) -> Result<u64> {
    match kind {
        pt::PTRACE_PEEKTEXT | pt::PTRACE_PEEKDATA => memory::peek(request),
        pt::PTRACE_POKETEXT | pt::PTRACE_POKEDATA => memory::poke(request),
        pt::PTRACE_PEEKUSR => registers::peek_user(request),
        pt::PTRACE_POKEUSR => registers::poke_user(request),
        pt::PTRACE_GETREGS => registers::get_general(request),
        pt::PTRACE_SETREGS => registers::set_general(request),
        pt::PTRACE_GETFPREGS => registers::get_legacy(request),
        pt::PTRACE_SETFPREGS => registers::set_legacy(request),
        pt::PTRACE_GETREGSET => registers::get_set(request),
        pt::PTRACE_SETREGSET => registers::set_set(request),
        pt::PTRACE_ARCH_PRCTL => registers::arch_prctl(request),
        pt::PTRACE_CONT => request.resume(0),
        pt::PTRACE_SYSCALL => request.resume(traced::CALLS),
        pt::PTRACE_SINGLESTEP => request.resume(traced::STEP),
        pt::PTRACE_SYSEMU => request.resume(traced::CALLS | traced::EMULATE),
        pt::PTRACE_KILL => {
            let _ = signal::send_to_task(&request.tracee, SigInfo::new(SIGKILL, si::KERNEL));
            Ok(0)
        }
        pt::PTRACE_DETACH => attach::detach(request),
        pt::PTRACE_INTERRUPT => interrupt(request),
        pt::PTRACE_LISTEN => listen(request),
        pt::PTRACE_SETOPTIONS | pt::PTRACE_OLDSETOPTIONS => {
            let options = attach::check_options(request.context, request.data)?;
            match &mut request.tracee.trace.lock().link {
                Some(link) => link.options = options,
                None => return Err(Errno::ESRCH),
            }
            Ok(0)
        }
        pt::PTRACE_GETEVENTMSG => inspect::event_message(request),
        pt::PTRACE_GETSIGINFO => inspect::get_info(request),
        pt::PTRACE_SETSIGINFO => inspect::set_info(request),
        pt::PTRACE_PEEKSIGINFO => inspect::peek_infos(request),
        pt::PTRACE_GETSIGMASK => inspect::get_mask(request),
        pt::PTRACE_SETSIGMASK => inspect::set_mask(request),
        pt::PTRACE_GET_SYSCALL_INFO => inspect::call_info(request),
        _ => {
            kernel::debug!("ptrace request {kind:#x} is not implemented: EIO");
            Err(Errno::EIO)
        }
    }
}

/// Makes a seized tracee stop, without a signal.
fn interrupt(request: &Request<'_>) -> Result<u64> {
    if !request.seized() {
        return Err(Errno::EIO);
    }
    request.tracee.signals.lock().trap = true;
    signal::kick(&request.tracee, work::SIGNAL);
    Ok(0)
}

/// Leaves a seized tracee in its group-stop and waits for what comes next there.
fn listen(request: &Request<'_>) -> Result<u64> {
    if !request.seized() {
        return Err(Errno::EIO);
    }
    let pending = request.tracee.signals.lock().trap;
    let mut state = request.tracee.trace.lock();
    let stop = state.stop.as_mut().ok_or(Errno::ESRCH)?;
    if stop.code >> 8 != pt::PTRACE_EVENT_STOP as i32 {
        return Err(Errno::EIO);
    }
    stop.listening = true;
    drop(state);
    if pending {
        request.tracee.waiter.wake(kernel::poll::PollEvents::IN);
    }
    Ok(0)
}

/// `si_code` of an event, and the information of a stop that is no signal's (`ptrace_do_notify`).
fn notification(task: &Task, signal: i32, code: i32) -> SigInfo {
    SigInfo::from_process(signal, code, task.tid(), task.cred().uid).seen_in(task.group.space)
}
