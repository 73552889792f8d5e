//! Credentials (credentials(7), capabilities(7)): virtual, they decide what our kernel allows and mean nothing to the host.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// Capability numbers that the kernel asks about (capabilities(7)).
#[allow(missing_docs, reason = "the names are capabilities(7)'s")]
pub mod cap {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const FSETID: u32 = 4;
    pub const KILL: u32 = 5;
    pub const SETGID: u32 = 6;
    pub const SETUID: u32 = 7;
    pub const SETPCAP: u32 = 8;
    pub const NET_BIND_SERVICE: u32 = 10;
    pub const NET_ADMIN: u32 = 12;
    pub const NET_RAW: u32 = 13;
    pub const IPC_LOCK: u32 = 14;
    pub const IPC_OWNER: u32 = 15;
    pub const SYS_CHROOT: u32 = 18;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYS_RESOURCE: u32 = 24;
    pub const MKNOD: u32 = 27;
    /// Highest capability number.
    pub const LAST: u32 = 40;
}

/// A set of all capabilities.
pub const ALL_CAPABILITIES: u64 = (1 << (cap::LAST + 1)) - 1;

/// What a task may do. Immutable: a change makes a new one.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are credentials(7)'s and capabilities(7)'s")]
pub struct Cred {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Arc<Vec<u32>>,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Cred {
    /// Credentials of the first process. User 0 has every capability over the sandbox's own objects.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Cred {
        let capabilities = if uid == 0 { ALL_CAPABILITIES } else { 0 };
        Cred {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: Arc::new(groups),
            permitted: capabilities,
            effective: capabilities,
            inheritable: 0,
            bounding: ALL_CAPABILITIES,
            ambient: 0,
            securebits: 0,
            no_new_privs: false,
        }
    }

    /// Whether the effective set has `capability`.
    pub fn has(&self, capability: u32) -> bool {
        self.effective & (1 << capability) != 0
    }

    /// Whether `gid` is the filesystem group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
