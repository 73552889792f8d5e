//! `int 0x80` from 64-bit code: the numbers of the 32-bit ABI for the calls whose arguments are plain numbers, strings and bytes,
//! and so mean the same in both. Arguments are the low halves of RBX, RCX, RDX, RSI, RDI and RBP.
//!
//! Source of the numbers: `arch/x86/entry/syscalls/syscall_32.tbl`.

use crate::Errno;
use crate::args::Args;
use crate::table::{self, Context};
use crate::thread;
use linux_raw_sys::general as raw;
use trap_handler::regs::Regs;

/// 32-bit number and ours.
const CALLS: &[(u32, u32)] = &[
    (1, raw::__NR_exit),
    (2, raw::__NR_fork),
    (3, raw::__NR_read),
    (4, raw::__NR_write),
    (5, raw::__NR_open),
    (6, raw::__NR_close),
    (8, raw::__NR_creat),
    (9, raw::__NR_link),
    (10, raw::__NR_unlink),
    (12, raw::__NR_chdir),
    (15, raw::__NR_chmod),
    (20, raw::__NR_getpid),
    (27, raw::__NR_alarm),
    (29, raw::__NR_pause),
    (33, raw::__NR_access),
    (37, raw::__NR_kill),
    (38, raw::__NR_rename),
    (39, raw::__NR_mkdir),
    (40, raw::__NR_rmdir),
    (41, raw::__NR_dup),
    (42, raw::__NR_pipe),
    (57, raw::__NR_setpgid),
    (60, raw::__NR_umask),
    (63, raw::__NR_dup2),
    (64, raw::__NR_getppid),
    (65, raw::__NR_getpgrp),
    (66, raw::__NR_setsid),
    (83, raw::__NR_symlink),
    (85, raw::__NR_readlink),
    (125, raw::__NR_mprotect),
    (91, raw::__NR_munmap),
    (118, raw::__NR_fsync),
    (158, raw::__NR_sched_yield),
    (183, raw::__NR_getcwd),
    (199, raw::__NR_getuid),
    (200, raw::__NR_getgid),
    (201, raw::__NR_geteuid),
    (202, raw::__NR_getegid),
    (224, raw::__NR_gettid),
    (252, raw::__NR_exit_group),
];

/// Answers a call of the 32-bit ABI. One that is not here gives `ENOSYS` and a line in the log.
pub fn handle(regs: &mut Regs) {
    let number = regs.rax as u32;
    let row =
        CALLS.iter().find(|(theirs, _)| *theirs == number).and_then(|(_, ours)| table::row(u64::from(*ours)));
    let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|value| value & 0xffff_ffff);
    let result = match row {
        Some(row) => (row.call)(&mut Context { regs, thread: thread::current() }, Args(args)),
        None => {
            kernel::warn!("call {number} of the 32-bit ABI (int 0x80) is not implemented: ENOSYS");
            Err(Errno::ENOSYS)
        }
    };
    regs.rax = match result {
        Ok(value) => value,
        // The instruction cannot be restarted here: its site is two bytes of another kind.
        Err(Errno::ERESTARTSYS | Errno::ERESTARTNOHAND | Errno::ERESTART_RESTARTBLOCK) => {
            Errno::EINTR.as_result() as u64
        }
        Err(errno) => errno.as_result() as u64,
    };
}
