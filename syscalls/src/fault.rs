//! Processor faults of the program.

use crate::stand_in;
use crate::thread::{self, Thread};
use kernel::mm::{Fault, FaultOutcome, Limits};
use kernel::signal::{self, si};
use kernel::task::trace::traced;
use trap_handler::block;
use trap_handler::regs::Regs;

/// Trap number of a breakpoint.
const BREAKPOINT: u64 = 3;

/// Resolves a fault (a page that has come into being since it was mapped) or turns it into the program's signal.
pub fn handle(mut fault: block::Fault, regs: &mut Regs) {
    let thread = thread::current();
    if matches!(fault.signal, signal::SIGSEGV | signal::SIGBUS) {
        let seen = Fault {
            signal: fault.signal,
            code: fault.code,
            address: fault.address,
            error: fault.error,
            rip: regs.rip,
        };
        match thread.space().resolve_fault(seen, &Limits::current()) {
            FaultOutcome::Retry => return,
            FaultOutcome::Signal { signal, code } => (fault.signal, fault.code) = (signal, code),
        }
    }
    if fault.signal == signal::SIGTRAP && fault.trapno == BREAKPOINT {
        match stand_in::perform(thread, regs) {
            Some(Ok(())) => return,
            Some(Err(other)) => fault = other,
            None => {}
        }
    }
    if fault.signal == signal::SIGTRAP && fault.code == si::TRAP_TRACE && is_watching(thread) {
        let hit = thread.task.trace.look_at_watched(fault.address);
        if thread.task.trace.flags() & traced::STEP == 0 {
            if !hit {
                // A step that nobody asked for.
                return;
            }
            fault.code = si::TRAP_HWBKPT;
        }
    }
    let code = fault.code;
    signal::fault(&thread.task, &fault, code);
}

fn is_watching(thread: &Thread) -> bool {
    thread.task.trace.flags() & traced::WATCH != 0
}
