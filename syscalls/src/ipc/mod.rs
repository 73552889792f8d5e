//! System V IPC and POSIX message queues: shmget(2), semget(2), msgget(2), mq_open(2) and their relatives, after decoding and before encoding. What the objects do
//! is `vfs::shm`'s, `kernel::ipc::sem`'s, `kernel::ipc::msg`'s and `vfs::mqueue`'s.

mod mq;
mod msg;
pub mod report;
mod sem;
mod shm;
mod structures;

use crate::strace::flags::Names;
use crate::table::Row;

/// The rows of this family, a slice a file.
pub const ROWS: &[&[Row]] = &[mq::ROWS, msg::ROWS, sem::ROWS, shm::ROWS];

/// Commands of the `*ctl` calls (`linux/ipc.h`, `linux/shm.h`, `linux/sem.h`, `linux/msg.h`).
#[allow(missing_docs, reason = "the names are those of shmctl(2), semctl(2) and msgctl(2)")]
mod command {
    pub const IPC_RMID: u32 = 0;
    pub const IPC_SET: u32 = 1;
    pub const IPC_STAT: u32 = 2;
    pub const IPC_INFO: u32 = 3;
    pub const SHM_LOCK: u32 = 11;
    pub const SHM_UNLOCK: u32 = 12;
    pub const SHM_STAT: u32 = 13;
    pub const SHM_INFO: u32 = 14;
    pub const SHM_STAT_ANY: u32 = 15;
    pub const GETPID: u32 = 11;
    pub const GETVAL: u32 = 12;
    pub const GETALL: u32 = 13;
    pub const GETNCNT: u32 = 14;
    pub const GETZCNT: u32 = 15;
    pub const SETVAL: u32 = 16;
    pub const SETALL: u32 = 17;
    pub const SEM_STAT: u32 = 18;
    pub const SEM_INFO: u32 = 19;
    pub const SEM_STAT_ANY: u32 = 20;
    pub const MSG_STAT: u32 = 11;
    pub const MSG_INFO: u32 = 12;
    pub const MSG_STAT_ANY: u32 = 13;
}

/// Names of the flags of the `*get` calls, without the mode.
const GET: Names = &[
    (0o1000, "IPC_CREAT"),
    (0o2000, "IPC_EXCL"),
    (0o4000, "SHM_HUGETLB"),
    (0o10000, "SHM_NORESERVE"),
    (0o400, "0400"),
    (0o200, "0200"),
    (0o100, "0100"),
    (0o040, "040"),
    (0o020, "020"),
    (0o010, "010"),
    (0o004, "04"),
    (0o002, "02"),
    (0o001, "01"),
];
