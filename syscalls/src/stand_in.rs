//! Instructions that the kernel does in place of the processor, where its memory is closed to programs by protection keys: XRSTOR loads all
//! but PKRU; the others are not there, as on a processor without them.

use crate::thread::Thread;
use boundary::layout::PAGE_SIZE;
use kernel::mm::{Action, Kind, StandIn};
use kernel::signal::{SIGILL, SIGSEGV, si};
use trap_handler::block::Fault;
use trap_handler::regs::Regs;
use trap_handler::xstate::{self, Refused};
use trap_handler::{copy, stack};

/// `ILL_ILLOPN`, which Linux gives for #UD.
const ILL_ILLOPN: i32 = 2;
const SEGV_MAPERR: i32 = 1;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;
/// A page fault by an access from user mode.
const ERROR_USER: u64 = 4;
/// One that writes.
const ERROR_WRITE: u64 = 2;

/// Does the instruction whose place is taken by the breakpoint that the thread ran into, if that is what it is; the fault that it
/// raises instead.
pub fn perform(thread: &Thread, regs: &mut Regs) -> Option<Result<(), Fault>> {
    let start = regs.rip.wrapping_sub(1);
    let site = thread.space().stand_in_at(start)?;
    // Where the program sees itself when the instruction faults.
    regs.rip = start;
    let done = match site.action {
        Action::GoTo(place) => {
            regs.rip = place;
            return Some(Ok(()));
        }
        Action::Branch => return Some(branch(&site, start, regs)),
        Action::Perform(Kind::Xrstor) => restore(&site, start, regs),
        Action::Perform(Kind::WritePkru | Kind::WriteGsBase) => Err(Fault {
            signal: SIGILL,
            code: ILL_ILLOPN,
            address: start,
            trapno: INVALID_OPCODE,
            ..Fault::default()
        }),
    };
    if done.is_ok() {
        regs.rip = start.wrapping_add(u64::from(site.length));
    }
    Some(done)
}

/// A jump or call to a place that its distance tells.
fn branch(site: &StandIn, start: u64, regs: &mut Regs) -> Result<(), Fault> {
    let next = start.wrapping_add(u64::from(site.length));
    let Some(branch) = site.branch(start) else { return Ok(()) };
    if let Some(condition) = branch.condition
        && !holds(condition, regs.rflags)
    {
        regs.rip = next;
        return Ok(());
    }
    if branch.calls {
        let place = regs.rsp.wrapping_sub(8);
        if kernel::uaccess::write(place, &next).is_err() {
            let (code, trapno, error) = (SEGV_MAPERR, PAGE_FAULT, ERROR_USER | ERROR_WRITE);
            return Err(Fault { signal: SIGSEGV, code, address: place, trapno, error, cr2: place });
        }
        regs.rsp = place;
    }
    regs.rip = branch.target;
    Ok(())
}

/// Whether the condition in an opcode's low bits holds (Intel SDM volume 1, appendix B).
fn holds(condition: u8, flags: u64) -> bool {
    let flag = |bit: u32| flags >> bit & 1 != 0;
    let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
    let holds = match condition >> 1 & 7 {
        0 => overflow,
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => sign,
        5 => parity,
        6 => sign != overflow,
        _ => zero || sign != overflow,
    };
    holds != (condition & 1 != 0)
}

fn restore(site: &StandIn, start: u64, regs: &Regs) -> Result<(), Fault> {
    let protection =
        Fault { signal: SIGSEGV, code: si::KERNEL, trapno: GENERAL_PROTECTION, ..Fault::default() };
    let address = site.operand(start, regs, stack::fs_base()).ok_or(protection)?;
    if address % 64 != 0 {
        return Err(protection);
    }
    let mut area = xstate::Area::new();
    // It may lie at the end of all memory of programs.
    let here = (PAGE_SIZE - address % PAGE_SIZE) as usize;
    let (first, rest) = area.0.split_at_mut(here.min(xstate::MAX_SIZE));
    let mut read = copy::from_user_partial(first, address);
    if read == first.len() {
        read += copy::from_user_partial(rest, address.saturating_add(read as u64));
    }
    let requested = regs.rdx << 32 | regs.rax & 0xffff_ffff;
    xstate::restore(&mut area, read, requested).map_err(|refused| match refused {
        Refused::TooShort => {
            let address = address.wrapping_add(read as u64);
            let (code, trapno, error) = (SEGV_MAPERR, PAGE_FAULT, ERROR_USER);
            Fault { signal: SIGSEGV, code, address, trapno, error, cr2: address }
        }
        Refused::Malformed => protection,
    })
}
