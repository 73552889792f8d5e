//! From a trap to a call's function and back: the one place that all entries pass.

use crate::args::Args;
use crate::ptrace::stops;
use crate::system::seccomp;
use crate::table::{self, Context, Row};
use crate::thread::Thread;
use crate::{Errno, Result, process, stats, strace, thread};
use core::sync::atomic::Ordering;
use kernel::signal::{self, Next};
use kernel::task::work;
use linux_raw_sys::general as raw;
use trap_handler::block::{Cause, ThreadBlock};
use trap_handler::entry::{Bug, Kernel};
use trap_handler::regs::Regs;

/// The kernel, as the machine layer calls it.
pub struct TrapboxKernel;

impl Kernel for TrapboxKernel {
    fn trap(&self, cause: Cause, regs: &mut Regs) {
        let trace = &kernel::task::current().trace;
        trace.disarm(regs);
        match cause {
            Cause::Call => call(regs),
            Cause::Int80 => crate::int80::handle(regs),
            Cause::Fault => crate::fault::handle(ThreadBlock::current().fault(), regs),
            Cause::Poke => {}
        }
        trace.arm(regs);
    }

    fn exit_work(&self, regs: &mut Regs) {
        let trace = &kernel::task::current().trace;
        trace.disarm(regs);
        exit_work(regs);
        trace.arm(regs);
    }

    fn bug(&self, what: Bug) -> ! {
        crate::boot::bug(what)
    }
}

fn call(regs: &mut Regs) {
    let thread = thread::current();
    let patched = ThreadBlock::current().came_patched();
    if thread.task.trace.is_traced() {
        // What a tracer sees as the result before there is one.
        regs.rax = Errno::ENOSYS.as_result() as u64;
        // It may want the call left out, and has set the result then.
        if stops::call_entry(thread, regs) && regs.orig_rax != Regs::NO_CALL {
            make_call(regs, thread, patched);
        }
    } else {
        if !patched {
            thread.call_trapped(regs.rip, regs.orig_rax);
        }
        make_call(regs, thread, patched);
    }
    if thread.task.trace.is_traced() {
        stops::call_exit(thread, regs);
    }
}

fn make_call(regs: &mut Regs, thread: &'static Thread, patched: bool) {
    // Linux looks at EAX alone.
    let number = u64::from(regs.orig_rax as u32);
    let args = Args(regs.args());
    if thread.task.filtered.load(Ordering::Relaxed)
        && !seccomp::lets_through(regs, thread, number as u32, seccomp::ARCH_X86_64, args.0)
    {
        return;
    }
    let row = table::row(number);
    let result = if strace::enabled() || stats::enabled() {
        observed(&mut Context { regs, thread }, row, args, patched)
    } else {
        run(&mut Context { regs, thread }, row, args)
    };
    match result {
        // The calls that replace all registers (sigreturn, execve) leave `orig_rax` marked and their own RAX.
        Ok(_) if regs.orig_rax == Regs::NO_CALL => {}
        Ok(value) => regs.rax = value,
        Err(errno) => {
            regs.rax = errno.as_result() as u64;
            if matches!(
                errno,
                Errno::ERESTARTSYS
                    | Errno::ERESTARTNOINTR
                    | Errno::ERESTARTNOHAND
                    | Errno::ERESTART_RESTARTBLOCK
            ) {
                // The exit path settles it even if another thread took the signal.
                thread.task.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
            }
        }
    }
}

fn run(context: &mut Context<'_>, row: Option<&Row>, args: Args) -> Result<u64> {
    match row {
        Some(row) => (row.call)(context, args),
        None => {
            kernel::warn!("{} is not implemented: ENOSYS", crate::names::describe(context.regs.orig_rax));
            Err(Errno::ENOSYS)
        }
    }
}

/// As [`run`], for `--strace` and `--stats`.
#[cold]
fn observed(context: &mut Context<'_>, row: Option<&Row>, args: Args, patched: bool) -> Result<u64> {
    let number = context.regs.orig_rax;
    let tracing = strace::enabled().then(|| strace::entry(number, row, &args));
    // The calls that end the thread have shown their whole line by now.
    let tracing = tracing.filter(|_| !matches!(number as u32, raw::__NR_exit | raw::__NR_exit_group));
    let counting = stats::entry(number, patched);
    let result = run(context, row, args);
    stats::exit(counting, &result);
    if let Some(tracing) = tracing {
        strace::exit(tracing, row, &args, &result);
    }
    result
}

/// What stands between a thread and its program: ends, stops, signals.
fn exit_work(regs: &mut Regs) {
    let thread = thread::current();
    let task = &thread.task;
    task.serve_calls();
    loop {
        if task.state.work.load(Ordering::SeqCst) & work::LOAN != 0 {
            process::end_loan(thread, regs);
        }
        let next = match signal::next(task) {
            Next::Trace(info) => {
                stops::signal(thread, regs, info).and_then(|info| signal::decide(task, &info))
            }
            next => Some(next),
        };
        let Some(next) = next else { continue };
        match next {
            Next::Nothing => {
                signal::finish_call(regs, None);
                restore_mask(thread);
                return;
            }
            Next::Exit => process::exit_thread(thread),
            Next::EndGroup(signal) => process::exit_group(thread, signal),
            Next::Stopped => process::wait_while_stopped(thread),
            Next::Stop(signal) => process::stop_group(thread, signal),
            Next::Continued(code) => process::tell_of_continuation(thread, code),
            Next::Trap => stops::trap(thread, regs),
            Next::Trace(_) => {}
            Next::Handle(info, action) => {
                signal::finish_call(regs, Some(&action));
                if signal::deliver_to_handler(task, regs, &info, &action).is_err() {
                    kernel::debug!("no room for the frame of signal {}: SIGSEGV", info.signal);
                    process::exit_group(thread, signal::SIGSEGV);
                }
                task.update_signal_work();
                stops::handler_entered(thread, regs);
            }
        }
    }
}

/// A temporary mask (sigsuspend, ppoll) that let no handler run is taken back.
fn restore_mask(thread: &thread::Thread) {
    let mask = thread.task.signals.lock().restore_mask.take();
    if let Some(mask) = mask {
        thread.task.set_blocked(mask);
    }
}
