//! Names of calls that the table has no row for, and the table as text.

use crate::table::{self, Status};
use alloc::format;
use alloc::string::String;

/// Name and number of a call, for the log.
pub fn describe(number: u64) -> String {
    match table::row(number).map(|row| row.name).or_else(|| missing_name(number)) {
        Some(name) => format!("{name} (call {number})"),
        None => format!("call {number}"),
    }
}

macro_rules! missing {
    ($($constant:ident $name:literal)*) => {
        /// Calls of x86-64 Linux without a row.
        const MISSING: &[(u32, &str)] = &[$((linux_raw_sys::general::$constant, $name),)*];
    };
}

missing! {
    __NR_ptrace "ptrace" __NR_acct "acct" __NR_mount "mount" __NR_umount2 "umount2" __NR_swapon "swapon" __NR_swapoff "swapoff"
    __NR_shmget "shmget" __NR_shmat "shmat" __NR_shmctl "shmctl" __NR_shmdt "shmdt" __NR_semget "semget" __NR_semop "semop"
    __NR_semctl "semctl" __NR_semtimedop "semtimedop" __NR_msgget "msgget" __NR_msgsnd "msgsnd" __NR_msgrcv "msgrcv" __NR_msgctl "msgctl"
    __NR_socket "socket" __NR_connect "connect" __NR_accept "accept" __NR_accept4 "accept4" __NR_sendto "sendto"
    __NR_recvfrom "recvfrom" __NR_sendmsg "sendmsg" __NR_recvmsg "recvmsg" __NR_shutdown "shutdown" __NR_bind "bind"
    __NR_listen "listen" __NR_getsockname "getsockname" __NR_getpeername "getpeername" __NR_socketpair "socketpair"
    __NR_setsockopt "setsockopt" __NR_getsockopt "getsockopt" __NR_sendmmsg "sendmmsg" __NR_recvmmsg "recvmmsg"
    __NR_inotify_init "inotify_init" __NR_inotify_init1 "inotify_init1" __NR_inotify_add_watch "inotify_add_watch"
    __NR_inotify_rm_watch "inotify_rm_watch" __NR_fanotify_init "fanotify_init" __NR_fanotify_mark "fanotify_mark"
    __NR_name_to_handle_at "name_to_handle_at" __NR_open_by_handle_at "open_by_handle_at" __NR_setns "setns" __NR_unshare "unshare"
    __NR_process_vm_readv "process_vm_readv" __NR_process_vm_writev "process_vm_writev" __NR_kcmp "kcmp"
    __NR_pidfd_open "pidfd_open" __NR_pidfd_send_signal "pidfd_send_signal" __NR_pidfd_getfd "pidfd_getfd"
    __NR_io_setup "io_setup" __NR_io_submit "io_submit" __NR_io_getevents "io_getevents" __NR_io_destroy "io_destroy"
    __NR_io_cancel "io_cancel" __NR_io_pgetevents "io_pgetevents" __NR_io_uring_setup "io_uring_setup"
    __NR_io_uring_enter "io_uring_enter" __NR_io_uring_register "io_uring_register" __NR_mq_open "mq_open"
    __NR_mq_unlink "mq_unlink" __NR_mq_timedsend "mq_timedsend" __NR_mq_timedreceive "mq_timedreceive" __NR_mq_notify "mq_notify"
    __NR_mq_getsetattr "mq_getsetattr" __NR_landlock_create_ruleset "landlock_create_ruleset" __NR_landlock_add_rule "landlock_add_rule"
    __NR_landlock_restrict_self "landlock_restrict_self" __NR_tee "tee" __NR_vmsplice "vmsplice" __NR_quotactl "quotactl"
    __NR_bpf "bpf" __NR_perf_event_open "perf_event_open" __NR_userfaultfd "userfaultfd" __NR_keyctl "keyctl" __NR_add_key "add_key"
    __NR_request_key "request_key" __NR_rseq "rseq" __NR_seccomp "seccomp" __NR_futex_waitv "futex_waitv"
    __NR_cachestat "cachestat" __NR_fsopen "fsopen" __NR_fsconfig "fsconfig" __NR_fsmount "fsmount" __NR_fspick "fspick"
    __NR_move_mount "move_mount" __NR_open_tree "open_tree" __NR_mount_setattr "mount_setattr" __NR_pivot_root "pivot_root"
    __NR_modify_ldt "modify_ldt" __NR_lookup_dcookie "lookup_dcookie" __NR_vhangup "vhangup" __NR_uselib "uselib" __NR_ustat "ustat"



    __NR_migrate_pages "migrate_pages" __NR_move_pages "move_pages" __NR_init_module "init_module" __NR_finit_module "finit_module"
    __NR_delete_module "delete_module" __NR_kexec_load "kexec_load" __NR_kexec_file_load "kexec_file_load" __NR_reboot "reboot"
    __NR_memfd_secret "memfd_secret"
    __NR_process_madvise "process_madvise" __NR_process_mrelease "process_mrelease" __NR_remap_file_pages "remap_file_pages"

}

fn missing_name(number: u64) -> Option<&'static str> {
    MISSING.iter().find(|(known, _)| u64::from(*known) == number).map(|(_, name)| *name)
}

/// The table with each call's status, a line a call.
pub fn listing() -> String {
    let mut text = String::new();
    for number in 0..512u64 {
        let line = match table::row(number) {
            Some(row) => match row.status {
                Status::Full => format!("{number:>3}  {:<24} full\n", row.name),
                Status::Partial(missing) => format!("{number:>3}  {:<24} partial: {missing}\n", row.name),
                Status::Refused(why) => format!("{number:>3}  {:<24} refused: {why}\n", row.name),
            },
            None => match missing_name(number) {
                Some(name) => format!("{number:>3}  {name:<24} none\n"),
                None => continue,
            },
        };
        text.push_str(&line);
    }
    text
}
