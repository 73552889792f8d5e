//! Processor faults of the program.

use crate::thread;
use kernel::mm::{Fault, FaultOutcome, Limits};
use kernel::signal;
use trap_handler::block;

/// Resolves a fault (a page that has come into being since it was mapped) or turns it into the program's signal.
pub fn handle(mut fault: block::Fault) {
    let thread = thread::current();
    if matches!(fault.signal, signal::SIGSEGV | signal::SIGBUS) {
        let seen = Fault { signal: fault.signal, code: fault.code, address: fault.address };
        match thread.space().resolve_fault(seen, &Limits::current()) {
            FaultOutcome::Retry => return,
            FaultOutcome::Signal { signal, code } => (fault.signal, fault.code) = (signal, code),
        }
    }
    let code = fault.code;
    signal::fault(&thread.task, &fault, code);
}
