//! The stack a program starts with: arguments, environment and auxiliary vector.
//!
//! Sources: the x86-64 psABI, "Initial Stack and Register State"; getauxval(3); `create_elf_tables` in
//! fs/binfmt_elf.c, `bprm_stack_limits` and `copy_strings` in fs/exec.c of Linux 6.18. From the top down:
//!
//! ```text
//! top      8 zero bytes
//!          execfn\0
//!          environment strings, arguments (the first lowest)    env_end .. arg_start
//!          random distance below 8 KiB, then rounded down to 16
//!          platform\0, 16 random bytes, padding
//!          auxiliary vector, ending in AT_NULL
//!          0, pointers to the environment
//!          0, pointers to the arguments
//! sp       argc                                                 a multiple of 16
//! ```

use crate::error::{Errno, LoadError};
use crate::page::PAGE_SIZE;
use alloc::vec::Vec;
use linux_raw_sys::auxvec;

/// Longest argument or environment string, its NUL counted (linux/binfmts.h).
pub const MAX_ARG_STRLEN: usize = 131072;
/// What all strings and pointers may have at least, however small the stack (`ARG_MAX`).
const ARG_MAX: u64 = 131072;
/// What they may have at most: three quarters of `_STK_LIM`.
const ARGS_LIMIT_MAX: u64 = 6 << 20;
/// `AT_CLKTCK`: ticks a second that times(2) counts in.
const CLOCK_TICKS: u64 = 100;
/// `arch_align_stack` moves the stack by less than this.
const ALIGN_SPAN: u64 = 8192;
/// `AT_PLATFORM` on x86-64.
const PLATFORM: &[u8] = b"x86_64";
/// Zeros between the strings and the top (`__bprm_mm_init`).
const TOP_GAP: u64 = 8;

/// The auxiliary vector, but for what [`build`] knows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuxValues {
    /// `AT_SYSINFO_EHDR`: the vDSO. Left out if 0.
    pub sysinfo_ehdr: u64,
    /// `AT_MINSIGSTKSZ`: bytes of the largest signal frame.
    pub minsigstksz: u64,
    /// `AT_HWCAP`: edx of `cpuid` leaf 1.
    pub hwcap: u64,
    /// `AT_HWCAP2`. No FSGSBASE bit here: GS is the kernel's.
    pub hwcap2: u64,
    /// `AT_PHDR`: [`crate::Plan::phdr`] of the program.
    pub phdr: u64,
    /// `AT_PHENT`.
    pub phent: u64,
    /// `AT_PHNUM`.
    pub phnum: u64,
    /// `AT_BASE`: [`crate::Plan::bias`] of the interpreter, or 0.
    pub base: u64,
    /// `AT_FLAGS`.
    pub flags: u64,
    /// `AT_ENTRY`: [`crate::Plan::entry`] of the program, not of the interpreter.
    pub entry: u64,
    /// `AT_UID`.
    pub uid: u32,
    /// `AT_EUID`.
    pub euid: u32,
    /// `AT_GID`.
    pub gid: u32,
    /// `AT_EGID`.
    pub egid: u32,
    /// `AT_SECURE`: identity or capabilities were gained by this execution.
    pub secure: bool,
}

/// What goes onto the stack. Strings are without their NUL, and end at the first one inside.
#[derive(Debug, Clone, Copy)]
pub struct StackInput<'a, S> {
    /// End of the stack's mapping, a multiple of the page size.
    pub top: u64,
    /// Arguments; if empty, one empty string is passed (Linux since 5.18).
    pub argv: &'a [S],
    /// Environment.
    pub envp: &'a [S],
    /// The path that was executed; the script's if it is one. `AT_EXECFN`.
    pub execfn: &'a [u8],
    /// `RLIMIT_STACK` in bytes.
    pub stack_limit: u64,
    /// `AT_RANDOM`'s bytes.
    pub random: [u8; 16],
    /// Any random number, or 0 for a stack that is not randomised.
    pub shift: u64,
    /// The rest of the auxiliary vector.
    pub aux: AuxValues,
}

/// A stack to be copied to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialStack {
    /// Where the bytes go, and the first stack pointer: `argc` lies there. A multiple of 16.
    pub sp: u64,
    /// From `sp` to the top.
    pub bytes: Vec<u8>,
    /// First byte of the arguments; `/proc/PID/cmdline` shows `arg_start..arg_end`.
    pub arg_start: u64,
    /// End of the arguments.
    pub arg_end: u64,
    /// First byte of the environment; `/proc/PID/environ` shows `env_start..env_end`.
    pub env_start: u64,
    /// End of the environment.
    pub env_end: u64,
    /// The auxiliary vector with its `AT_NULL`, as `/proc/PID/auxv` shows it.
    pub auxv: Vec<u8>,
}

/// Do the strings fit? To be asked while `execve` can still return, with the arguments as they were given.
///
/// # Errors
/// `E2BIG` for a string longer than [`MAX_ARG_STRLEN`], or for more bytes (strings and one pointer for each but
/// `execfn`) than a quarter of the stack limit, which counts as 128 KiB at least and 6 MiB at most.
pub fn check_limits<S: AsRef<[u8]>>(
    argv: &[S],
    envp: &[S],
    execfn: &[u8],
    stack_limit: u64,
) -> Result<(), LoadError> {
    let too_big = LoadError::returned(Errno::E2BIG, "arguments and environment are too long");
    let limit = (stack_limit / 4).clamp(ARG_MAX, ARGS_LIMIT_MAX);
    let count = (argv.len().max(1) as u64).saturating_add(envp.len() as u64);
    let pointers = count.saturating_mul(8);
    if limit <= pointers {
        return Err(too_big);
    }
    // The empty string that stands in for an empty argv.
    let mut total = pointers.saturating_add(u64::from(argv.is_empty()));
    for string in argv.iter().chain(envp).map(AsRef::as_ref).chain([execfn]) {
        let size = c_size(string);
        if size > MAX_ARG_STRLEN as u64 {
            return Err(LoadError::returned(Errno::E2BIG, "an argument is too long"));
        }
        total = total.saturating_add(size);
    }
    if total > limit { Err(too_big) } else { Ok(()) }
}

/// Builds the stack.
///
/// # Errors
/// As [`check_limits`]; fatal `ENOMEM` where `top` is too low for it all.
pub fn build<S: AsRef<[u8]>>(input: &StackInput<'_, S>) -> Result<InitialStack, LoadError> {
    check_limits(input.argv, input.envp, input.execfn, input.stack_limit)?;
    let mut argv: Vec<&[u8]> = input.argv.iter().map(|s| c_string(s.as_ref())).collect();
    if argv.is_empty() {
        argv.push(b"");
    }
    let envp: Vec<&[u8]> = input.envp.iter().map(|s| c_string(s.as_ref())).collect();
    let execfn = c_string(input.execfn);
    lay_out(input, &argv, &envp, execfn)
        .ok_or(LoadError::fatal(Errno::ENOMEM, "there is no room for the stack"))
}

/// `None` where an address would be below 0.
fn lay_out<S>(
    input: &StackInput<'_, S>,
    argv: &[&[u8]],
    envp: &[&[u8]],
    execfn: &[u8],
) -> Option<InitialStack> {
    // Downwards: where everything is.
    let execfn_at = input.top.checked_sub(TOP_GAP)?.checked_sub(c_size(execfn))?;
    let env_start = execfn_at.checked_sub(c_sizes(envp))?;
    let arg_start = env_start.checked_sub(c_sizes(argv))?;
    let strings_end = align_down(arg_start.checked_sub(input.shift % ALIGN_SPAN)?);
    let platform_at = strings_end.checked_sub(c_size(PLATFORM))?;
    let random_at = platform_at.checked_sub(input.random.len() as u64)?;
    let auxv = aux_vector(&input.aux, random_at, execfn_at, platform_at);
    let words = (argv.len() as u64).checked_add(envp.len() as u64)?.checked_add(3)?;
    let below = words.checked_mul(8)?.checked_add(auxv.len() as u64)?;
    let sp = align_down(random_at.checked_sub(below)?);

    // Upwards: the bytes.
    let mut out = Bytes { start: sp, bytes: Vec::new() };
    out.bytes.reserve(usize::try_from(input.top.checked_sub(sp)?).ok()?);
    out.word(argv.len() as u64);
    out.pointers(arg_start, argv);
    out.pointers(env_start, envp);
    out.bytes.extend_from_slice(&auxv);
    out.zeros_to(random_at);
    out.bytes.extend_from_slice(&input.random);
    out.string(PLATFORM);
    out.zeros_to(arg_start);
    for string in argv.iter().chain(envp).chain([&execfn]) {
        out.string(string);
    }
    out.zeros_to(input.top);
    let bytes = out.bytes;
    Some(InitialStack { sp, bytes, arg_start, arg_end: env_start, env_start, env_end: execfn_at, auxv })
}

/// The auxiliary vector in Linux's order. `AT_RSEQ_*` are left out: rseq(2) is not offered.
fn aux_vector(aux: &AuxValues, random: u64, execfn: u64, platform: u64) -> Vec<u8> {
    let entries = [
        (auxvec::AT_SYSINFO_EHDR, aux.sysinfo_ehdr),
        (auxvec::AT_MINSIGSTKSZ, aux.minsigstksz),
        (auxvec::AT_HWCAP, aux.hwcap),
        (auxvec::AT_PAGESZ, PAGE_SIZE),
        (auxvec::AT_CLKTCK, CLOCK_TICKS),
        (auxvec::AT_PHDR, aux.phdr),
        (auxvec::AT_PHENT, aux.phent),
        (auxvec::AT_PHNUM, aux.phnum),
        (auxvec::AT_BASE, aux.base),
        (auxvec::AT_FLAGS, aux.flags),
        (auxvec::AT_ENTRY, aux.entry),
        (auxvec::AT_UID, aux.uid.into()),
        (auxvec::AT_EUID, aux.euid.into()),
        (auxvec::AT_GID, aux.gid.into()),
        (auxvec::AT_EGID, aux.egid.into()),
        (auxvec::AT_SECURE, aux.secure.into()),
        (auxvec::AT_RANDOM, random),
        (auxvec::AT_HWCAP2, aux.hwcap2),
        (auxvec::AT_EXECFN, execfn),
        (auxvec::AT_PLATFORM, platform),
        (auxvec::AT_NULL, 0),
    ];
    let mut bytes = Vec::with_capacity(size_of_val(&entries));
    for (tag, value) in entries {
        if tag == auxvec::AT_SYSINFO_EHDR && value == 0 {
            continue;
        }
        bytes.extend_from_slice(&u64::from(tag).to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// Memory being written from `start` upwards.
struct Bytes {
    start: u64,
    bytes: Vec<u8>,
}

impl Bytes {
    fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Pointers to strings that lie one behind the other from `at`, and a null pointer.
    fn pointers(&mut self, mut at: u64, strings: &[&[u8]]) {
        for string in strings {
            self.word(at);
            at = at.saturating_add(c_size(string));
        }
        self.word(0);
    }

    fn string(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
    }

    fn zeros_to(&mut self, address: u64) {
        // Addresses were computed from the same sizes, so this only ever grows, and by less than 9 KiB.
        let len = address.saturating_sub(self.start);
        self.bytes.resize(usize::try_from(len).unwrap_or(0).max(self.bytes.len()), 0);
    }
}

fn align_down(address: u64) -> u64 {
    address & !15
}

/// The string up to its first NUL.
fn c_string(string: &[u8]) -> &[u8] {
    string.split(|&byte| byte == 0).next().unwrap_or(&[])
}

/// Bytes of the string with its NUL.
fn c_size(string: &[u8]) -> u64 {
    (c_string(string).len() as u64).saturating_add(1)
}

fn c_sizes(strings: &[&[u8]]) -> u64 {
    strings.iter().fold(0, |sum, string| sum.saturating_add(c_size(string)))
}
