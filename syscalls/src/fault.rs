//! Processor faults of the program.

use crate::thread;
use kernel::mm::FaultOutcome;
use kernel::signal;
use trap_handler::block::Fault;

/// A write access, in a page fault's error code.
const ERROR_WRITE: u64 = 2;

/// Resolves a fault (a page that has come into being since it was mapped) or turns it into the program's signal.
pub fn handle(fault: Fault) {
    let thread = thread::current();
    let mut fault = fault;
    let mut code = fault.code;
    if matches!(fault.signal, signal::SIGSEGV | signal::SIGBUS) && fault.trapno == 14 {
        match thread.space().resolve_fault(fault.address, fault.error & ERROR_WRITE != 0) {
            FaultOutcome::Retry => return,
            FaultOutcome::Signal { signal, code: wanted } => {
                fault.signal = signal;
                code = wanted;
            }
        }
    }
    signal::fault(&thread.task, &fault, code);
}
