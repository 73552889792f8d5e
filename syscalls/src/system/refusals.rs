//! Calls that are refused on purpose, as Linux refuses them to the unprivileged or when it was built without them.

use crate::Errno;
use crate::table::{Row, Show, refused};
use linux_raw_sys::general as raw;

const A: Show = Show::Address;
const PRIVILEGED: &str = "needs privileges over the host that no sandbox has";
const ABSENT: &str = "as a kernel that was built without it; programs fall back";

/// The rows of this file.
pub const ROWS: &[Row] = &[
    refused(raw::__NR_rseq, "rseq", |_, _| Err(Errno::ENOSYS), &[A, A, A, A], ABSENT),
    refused(raw::__NR_io_uring_setup, "io_uring_setup", |_, _| Err(Errno::ENOSYS), &[A, A], ABSENT),
    refused(raw::__NR_io_uring_enter, "io_uring_enter", |_, _| Err(Errno::ENOSYS), &[A, A], ABSENT),
    refused(raw::__NR_io_uring_register, "io_uring_register", |_, _| Err(Errno::ENOSYS), &[A, A], ABSENT),
    refused(raw::__NR_userfaultfd, "userfaultfd", |_, _| Err(Errno::EPERM), &[A], PRIVILEGED),
    refused(raw::__NR_bpf, "bpf", |_, _| Err(Errno::EPERM), &[A, A, A], PRIVILEGED),
    refused(
        raw::__NR_perf_event_open,
        "perf_event_open",
        |_, _| Err(Errno::EACCES),
        &[A, A, A, A, A],
        PRIVILEGED,
    ),
    refused(raw::__NR_init_module, "init_module", |_, _| Err(Errno::EPERM), &[A, A, A], PRIVILEGED),
    refused(raw::__NR_finit_module, "finit_module", |_, _| Err(Errno::EPERM), &[A, A, A], PRIVILEGED),
    refused(raw::__NR_delete_module, "delete_module", |_, _| Err(Errno::EPERM), &[A, A], PRIVILEGED),
    refused(raw::__NR_kexec_load, "kexec_load", |_, _| Err(Errno::EPERM), &[A, A, A, A], PRIVILEGED),
    refused(
        raw::__NR_kexec_file_load,
        "kexec_file_load",
        |_, _| Err(Errno::EPERM),
        &[A, A, A, A, A],
        PRIVILEGED,
    ),
    refused(raw::__NR_reboot, "reboot", |_, _| Err(Errno::EPERM), &[A, A, A, A], PRIVILEGED),
    refused(raw::__NR_swapon, "swapon", |_, _| Err(Errno::EPERM), &[Show::Path, A], PRIVILEGED),
    refused(raw::__NR_swapoff, "swapoff", |_, _| Err(Errno::EPERM), &[Show::Path], PRIVILEGED),
    refused(raw::__NR_iopl, "iopl", |_, _| Err(Errno::EPERM), &[A], PRIVILEGED),
    refused(raw::__NR_ioperm, "ioperm", |_, _| Err(Errno::EPERM), &[A, A, A], PRIVILEGED),
    refused(raw::__NR_syslog, "syslog", |_, _| Err(Errno::EPERM), &[A, A, A], PRIVILEGED),
    refused(raw::__NR_adjtimex, "adjtimex", |_, _| Err(Errno::EPERM), &[A], PRIVILEGED),
    refused(raw::__NR_clock_adjtime, "clock_adjtime", |_, _| Err(Errno::EPERM), &[A, A], PRIVILEGED),
    refused(raw::__NR_setns, "setns", |_, _| Err(Errno::EPERM), &[A, A], PRIVILEGED),
    refused(raw::__NR_acct, "acct", |_, _| Err(Errno::EPERM), &[Show::Path], PRIVILEGED),
    refused(raw::__NR_vhangup, "vhangup", |_, _| Err(Errno::EPERM), &[], PRIVILEGED),
];
