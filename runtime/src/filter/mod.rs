//! The seccomp program of a sandbox: a prologue of ours that looks where a call comes from, and behind it the strict
//! allowlist, compiled by libseccomp.
//!
//! A call from outside the gadget, or of another ABI, gives SIGSYS (`RET_TRAP`): it is the program's, and our kernel answers it.
//! A call from the gadget is the kernel's, and must be in the table; anything else ends the process.

pub mod table;

use crate::launch::Walls;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::io::{Read, Seek};
use table::{Check, ROWS, Row, When};

/// What the filter depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Configuration {
    /// What separates the sandbox from the host beside the filter.
    pub walls: Walls,
    /// Some host directory is writable.
    pub writable_bind: bool,
    /// The command line grants something of the host.
    pub granted: bool,
    /// The sandbox is a container.
    pub container: bool,
    /// A standard descriptor is a terminal.
    pub terminal: bool,
    /// The kernel's memory is closed to the program (`--kernel-guard`).
    pub kernel_guard: bool,
    /// Number of the control socket.
    pub control_fd: u64,
    /// Number of the socket to the broker, if there is one.
    pub broker_fd: Option<u64>,
    /// Number of the packet socket, if there is one.
    pub packet_fd: Option<u64>,
    /// Number of the page frames' memory file.
    pub frames_fd: u64,
    /// The largest number of a descriptor that the launcher hands over.
    pub last_fd: u64,
}

impl Check {
    /// The comparison of the host's words that it is: argument, mask and value; `None` for an upper bound.
    fn masked(self, configuration: &Configuration) -> Option<(u32, u64, u64)> {
        match self {
            Check::Equal(argument, value) => Some((argument, u64::MAX, value)),
            Check::NoneOf(argument, bits) => Some((argument, bits, 0)),
            Check::Masked(argument, mask, value) => Some((argument, mask, value)),
            Check::Control(argument) => Some((argument, u64::MAX, configuration.control_fd)),
            // Without a broker no row with this check applies.
            Check::Broker(argument) => {
                Some((argument, u64::MAX, configuration.broker_fd.unwrap_or(u64::MAX)))
            }
            // Likewise without an interface.
            Check::Packet(argument) => {
                Some((argument, u64::MAX, configuration.packet_fd.unwrap_or(u64::MAX)))
            }
            Check::Frames(argument) => Some((argument, u64::MAX, configuration.frames_fd)),
            Check::AtMost(..) | Check::Launched(_) => None,
        }
    }

    /// Argument and bound, for an upper bound.
    fn bound(self, configuration: &Configuration) -> Option<(u32, u64)> {
        match self {
            Check::AtMost(argument, most) => Some((argument, most)),
            // The warden's event is made after them: it takes the next number, or one between.
            Check::Launched(argument) => Some((argument, configuration.last_fd + 1)),
            _ => None,
        }
    }
}

impl Configuration {
    /// The rows that apply.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> + '_ {
        ROWS.iter().filter(|row| match row.when {
            When::Always => true,
            When::Granted => self.granted,
            When::WritableBind => self.writable_bind,
            When::Container => self.container,
            When::Terminal => self.terminal,
            When::Broker => self.broker_fd.is_some(),
            When::Stack => self.packet_fd.is_some(),
            When::Namespaces => self.walls == Walls::Namespaces,
            When::WritableMount => self.writable_bind && self.walls == Walls::Namespaces,
            When::Landlock => self.walls == Walls::Landlock,
            When::Guard => self.kernel_guard,
        })
    }

    /// Number of different host calls.
    pub fn calls(&self) -> usize {
        let mut names: Vec<&str> = self.rows().map(|row| row.call).collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

/// Why the filter could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// libseccomp refused something.
    #[error("libseccomp cannot compile the filter: {0}")]
    Compile(#[from] libseccomp::error::SeccompError),
    /// The host has no memory for the program.
    #[error("no memory for the filter: {0}")]
    Memory(#[from] std::io::Error),
    /// As above.
    #[error("no memory for the filter: {0}")]
    MemoryFile(#[from] nix::Error),
    /// The gadget's pages are not where a prologue of 32-bit comparisons can test them.
    #[error("the gadget crosses a 4 GiB boundary")]
    Gadget,
}

/// `struct sock_filter` as its bytes in memory order.
fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> u64 {
    u64::from(code) | u64::from(jump_true) << 16 | u64::from(jump_false) << 24 | u64::from(value) << 32
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
const RET_TRAP: u32 = 0x0003_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;

/// Offset of the upper half of an argument.
const fn upper_half(argument: u32) -> u32 {
    16 + 8 * argument + 4
}

/// The filter: an allowlist for the calls from a gadget at `[gadget.0, gadget.1)`, of which each must have the token, unless that is 0.
///
/// It is in the upper half of the sixth argument: no call of the table has more than an `int` there but mmap(2), where it is in the upper
/// half of the fifth, the descriptor. A call with a wrong one ends the sandbox, so there is one guess.
pub fn guarded(allowlist: Vec<u64>, gadget: (u64, u64), token: u32) -> Result<Vec<u64>, FilterError> {
    let (start, end) = gadget;
    if start >> 32 != end >> 32 {
        return Err(FilterError::Gadget);
    }
    // The instruction pointer that a filter sees is the one behind the `syscall` instruction.
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCH),
        instruction(JUMP_EQUAL, 0, 5, AUDIT_ARCH_X86_64),
        instruction(LOAD, 0, 0, IP_HIGH),
        instruction(JUMP_EQUAL, 0, 3, (start >> 32) as u32),
        instruction(LOAD, 0, 0, IP_LOW),
        instruction(JUMP_GREATER, 0, 1, start as u32),
        instruction(JUMP_GREATER, 0, 1, end as u32),
        instruction(RETURN, 0, 0, RET_TRAP),
    ];
    if token != 0 {
        program.extend([
            instruction(LOAD, 0, 0, NUMBER),
            instruction(JUMP_EQUAL, 0, 2, libc::SYS_mmap as u32),
            instruction(LOAD, 0, 0, upper_half(4)),
            instruction(JUMP, 0, 0, 1),
            instruction(LOAD, 0, 0, upper_half(5)),
            instruction(JUMP_EQUAL, 1, 0, token),
            instruction(RETURN, 0, 0, RET_KILL_PROCESS),
        ]);
    }
    program.extend(allowlist);
    Ok(program)
}

/// Compiles the allowlist.
pub fn allowlist(configuration: &Configuration) -> Result<Vec<u64>, FilterError> {
    let mut context = ScmpFilterContext::new(ScmpAction::KillProcess)?;
    context.set_ctl_optimize(2)?;
    // Numbers of the x32 ABI count as another architecture.
    context.set_act_badarch(ScmpAction::KillProcess)?;
    for row in configuration.rows() {
        let call = ScmpSyscall::from_name(row.call)?;
        let checks: Vec<ScmpArgCompare> =
            row.checks.iter().map(|check| comparison(check, configuration)).collect();
        context.add_rule_conditional(ScmpAction::Allow, call, &checks)?;
    }
    let mut file = std::fs::File::from(nix::sys::memfd::memfd_create(
        c"filter",
        nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
    )?);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

fn comparison(check: &Check, configuration: &Configuration) -> ScmpArgCompare {
    match (check.masked(configuration), check.bound(configuration)) {
        (Some((argument, u64::MAX, value)), _) => ScmpArgCompare::new(argument, ScmpCompareOp::Equal, value),
        (Some((argument, mask, value)), _) => {
            ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(mask), value)
        }
        (None, Some((argument, most))) => ScmpArgCompare::new(argument, ScmpCompareOp::LessOrEqual, most),
        // Every check is one of the two; were it none, it would let nothing through.
        (None, None) => ScmpArgCompare::new(0, ScmpCompareOp::Less, 0),
    }
}

/// Whether the host has the actions that the filter returns (seccomp(2), `SECCOMP_GET_ACTION_AVAIL`).
pub fn check_host() -> std::io::Result<()> {
    const GET_ACTION_AVAIL: libc::c_uint = 2;
    for action in [RET_TRAP, RET_KILL_PROCESS] {
        // SAFETY: reads four bytes that are ours.
        if unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &action) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The table for people.
pub fn describe(configuration: &Configuration) -> String {
    let mut text = format!("{} host calls are allowed in this configuration:\n\n", configuration.calls());
    for row in configuration.rows() {
        let checks: Vec<String> = row.checks.iter().map(describe_check).collect();
        let checks = if checks.is_empty() { "any arguments".into() } else { checks.join(", ") };
        let brought_in = match row.when {
            When::Always | When::Namespaces => "",
            When::Landlock => " [without namespaces]",
            When::WritableBind | When::WritableMount => " [--bind]",
            When::Granted => " [grant]",
            When::Container => " [container]",
            When::Terminal => " [terminal]",
            When::Broker => " [broker]",
            When::Stack => " [stack]",
            When::Guard => " [--kernel-guard]",
        };
        text.push_str(&format!("{:<18} {:<44} {}{}\n", row.call, checks, row.why, brought_in));
    }
    if configuration.kernel_guard {
        text.push_str(
            "\nEach with a secret of this sandbox in the upper half of arg5 (mmap: of arg4), which only the kernel can read.\n",
        );
    }
    text
}

fn describe_check(check: &Check) -> String {
    match *check {
        Check::Equal(argument, value) => format!("arg{argument} = {value:#x}"),
        Check::AtMost(argument, most) => format!("arg{argument} <= {most}"),
        Check::NoneOf(argument, bits) if bits.count_ones() > 32 => format!("arg{argument} only {:#x}", !bits),
        Check::NoneOf(argument, bits) => format!("arg{argument} without {bits:#x}"),
        Check::Masked(argument, mask, value) => {
            format!("arg{argument} = {value:#x}, or with {:#x}", unmasked(mask))
        }
        Check::Control(argument) => format!("arg{argument} is the control socket"),
        Check::Broker(argument) => format!("arg{argument} is the socket to the broker"),
        Check::Packet(argument) => format!("arg{argument} is the packet socket"),
        Check::Frames(argument) => format!("arg{argument} is the page frames"),
        Check::Launched(argument) => format!("arg{argument} is a descriptor of the start"),
    }
}

/// The bits that a mask leaves open, without the upper half of an `int`.
fn unmasked(mask: u64) -> u64 {
    if mask >> 32 == 0 { !mask & 0xffff_ffff } else { !mask }
}

/// The table for programs.
pub fn describe_json(configuration: &Configuration) -> serde_json::Value {
    let rows: Vec<serde_json::Value> = configuration
        .rows()
        .map(|row| {
            let number = ScmpSyscall::from_name(row.call).ok().map(i32::from);
            serde_json::json!({
                "call": row.call,
                "number": number,
                "checks": row.checks.iter().map(describe_check).collect::<Vec<_>>(),
                "why": row.why,
                "when": format!("{:?}", row.when),
            })
        })
        .collect();
    serde_json::json!({ "calls": configuration.calls(), "token": configuration.kernel_guard, "rows": rows })
}

#[cfg(test)]
mod tests;
