//! `int 0x80` from 64-bit code: the numbers of the 32-bit ABI for the calls whose arguments are plain numbers, strings and bytes,
//! and so mean the same in both. Arguments are the low halves of RBX, RCX, RDX, RSI, RDI and RBP.
//!
//! Source of the numbers: `arch/x86/entry/syscalls/syscall_32.tbl`.

use crate::Errno;
use crate::args::Args;
use crate::system::seccomp;
use crate::table::{self, Context};
use crate::thread;
use boundary::layout::PAGE_SIZE;
use core::sync::atomic::Ordering;
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
    (13, raw::__NR_time),
    (14, raw::__NR_mknod),
    (15, raw::__NR_chmod),
    (19, raw::__NR_lseek),
    (20, raw::__NR_getpid),
    (24, raw::__NR_getuid),
    (27, raw::__NR_alarm),
    (29, raw::__NR_pause),
    (33, raw::__NR_access),
    (36, raw::__NR_sync),
    (37, raw::__NR_kill),
    (38, raw::__NR_rename),
    (39, raw::__NR_mkdir),
    (40, raw::__NR_rmdir),
    (41, raw::__NR_dup),
    (42, raw::__NR_pipe),
    (45, raw::__NR_brk),
    (47, raw::__NR_getgid),
    (49, raw::__NR_geteuid),
    (50, raw::__NR_getegid),
    (54, raw::__NR_ioctl),
    (57, raw::__NR_setpgid),
    (60, raw::__NR_umask),
    (61, raw::__NR_chroot),
    (63, raw::__NR_dup2),
    (64, raw::__NR_getppid),
    (65, raw::__NR_getpgrp),
    (66, raw::__NR_setsid),
    (83, raw::__NR_symlink),
    (85, raw::__NR_readlink),
    (91, raw::__NR_munmap),
    (92, raw::__NR_truncate),
    (93, raw::__NR_ftruncate),
    (94, raw::__NR_fchmod),
    (95, raw::__NR_fchown),
    (96, raw::__NR_getpriority),
    (97, raw::__NR_setpriority),
    (118, raw::__NR_fsync),
    (122, raw::__NR_uname),
    (125, raw::__NR_mprotect),
    (132, raw::__NR_getpgid),
    (133, raw::__NR_fchdir),
    (136, raw::__NR_personality),
    (143, raw::__NR_flock),
    (144, raw::__NR_msync),
    (147, raw::__NR_getsid),
    (148, raw::__NR_fdatasync),
    (150, raw::__NR_mlock),
    (151, raw::__NR_munlock),
    (152, raw::__NR_mlockall),
    (153, raw::__NR_munlockall),
    (158, raw::__NR_sched_yield),
    (168, raw::__NR_poll),
    (172, raw::__NR_prctl),
    (183, raw::__NR_getcwd),
    (192, raw::__NR_mmap),
    (198, raw::__NR_lchown),
    (199, raw::__NR_getuid),
    (200, raw::__NR_getgid),
    (201, raw::__NR_geteuid),
    (202, raw::__NR_getegid),
    (203, raw::__NR_setreuid),
    (204, raw::__NR_setregid),
    (207, raw::__NR_fchown),
    (208, raw::__NR_setresuid),
    (210, raw::__NR_setresgid),
    (212, raw::__NR_chown),
    (213, raw::__NR_setuid),
    (214, raw::__NR_setgid),
    (218, raw::__NR_mincore),
    (219, raw::__NR_madvise),
    (220, raw::__NR_getdents64),
    (224, raw::__NR_gettid),
    (238, raw::__NR_tkill),
    (252, raw::__NR_exit_group),
    (254, raw::__NR_epoll_create),
    (255, raw::__NR_epoll_ctl),
    (256, raw::__NR_epoll_wait),
    (258, raw::__NR_set_tid_address),
    (270, raw::__NR_tgkill),
    (295, raw::__NR_openat),
    (296, raw::__NR_mkdirat),
    (297, raw::__NR_mknodat),
    (298, raw::__NR_fchownat),
    (301, raw::__NR_unlinkat),
    (302, raw::__NR_renameat),
    (303, raw::__NR_linkat),
    (304, raw::__NR_symlinkat),
    (305, raw::__NR_readlinkat),
    (306, raw::__NR_fchmodat),
    (307, raw::__NR_faccessat),
    (318, raw::__NR_getcpu),
    (323, raw::__NR_eventfd),
    (328, raw::__NR_eventfd2),
    (329, raw::__NR_epoll_create1),
    (330, raw::__NR_dup3),
    (331, raw::__NR_pipe2),
    (353, raw::__NR_renameat2),
    (355, raw::__NR_getrandom),
    (356, raw::__NR_memfd_create),
    (383, raw::__NR_statx),
];

const LSEEK: u32 = 19;
const TRUNCATE: u32 = 92;
const FTRUNCATE: u32 = 93;
const MMAP2: u32 = 192;

/// Answers a call of the 32-bit ABI. One that is not here gives `ENOSYS` and a line in the log.
pub fn handle(regs: &mut Regs) {
    let number = regs.rax as u32;
    let plain = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|value| value & 0xffff_ffff);
    let thread = thread::current();
    if thread.task.filtered.load(Ordering::Relaxed)
        && !seccomp::lets_through(regs, thread, number, seccomp::ARCH_I386, plain)
    {
        return;
    }
    let row =
        CALLS.iter().find(|(theirs, _)| *theirs == number).and_then(|(_, ours)| table::row(u64::from(*ours)));
    let mut args = plain;
    match number {
        // Offsets are signed.
        LSEEK | TRUNCATE | FTRUNCATE => args[1] = args[1] as i32 as i64 as u64,
        // mmap2(2): the offset counts pages, and the caller can hold no longer address.
        MMAP2 => {
            args[3] |= u64::from(raw::MAP_32BIT);
            args[5] *= PAGE_SIZE;
        }
        _ => {}
    }
    let result = match row {
        Some(row) => (row.call)(&mut Context { regs, thread }, Args(args)),
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
