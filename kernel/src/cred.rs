//! Credentials (credentials(7), capabilities(7)): virtual, they decide what our kernel allows and mean nothing to the host.

use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::process::Process;

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
    pub const AUDIT_CONTROL: u32 = 30;
    /// Highest capability number.
    pub const LAST: u32 = 40;
}

/// A set of all capabilities.
pub const ALL_CAPABILITIES: u64 = (1 << (cap::LAST + 1)) - 1;

/// Bits of `securebits` (capabilities(7)): user 0 is as any other; capabilities outlive the change to another user.
const SECBIT_NOROOT: u32 = 1;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

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
}

impl Cred {
    /// Credentials with these ids. User 0 has every capability over the sandbox's own objects.
    pub fn new(uid: u32, gid: u32, mut groups: Vec<u32>) -> Cred {
        // As setgroups(2) has them.
        groups.sort_unstable();
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
        }
    }

    /// Those that a process starts with.
    pub fn of_process(process: &Process) -> Cred {
        let mut cred = Cred::new(process.uid, process.gid, process.groups.clone());
        if let Some(sets) = process.capabilities {
            cred.bounding = sets.bounding & ALL_CAPABILITIES;
            cred.permitted = sets.permitted & ALL_CAPABILITIES;
            cred.effective = sets.effective & cred.permitted;
            cred.inheritable = sets.inheritable & ALL_CAPABILITIES;
            cred.ambient = sets.ambient & cred.permitted & cred.inheritable;
        }
        cred
    }

    /// Those with which a new program starts (capabilities(7), "Transformation of capabilities during execve()"; files have none).
    pub fn executed(&self) -> Cred {
        let root = self.securebits & SECBIT_NOROOT == 0;
        let as_root = |id: u32, with: u64| if root && id == 0 { with } else { 0 };
        let all = self.inheritable | self.bounding;
        let permitted = as_root(self.uid, all) | as_root(self.euid, all) | self.ambient;
        let effective = if root && self.euid == 0 { permitted } else { self.ambient };
        let securebits = self.securebits & !SECBIT_KEEP_CAPS;
        Cred { permitted, effective, securebits, suid: self.euid, sgid: self.egid, ..self.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use boundary::process::Capabilities;

    fn container(uid: u32) -> Cred {
        let sets =
            Capabilities { bounding: 0b111, effective: 0b11, permitted: 0b11, ..Capabilities::default() };
        Cred::of_process(&Process { uid, capabilities: Some(sets), ..Process::default() })
    }

    #[test]
    fn a_program_of_root_has_what_the_bounding_set_allows_and_others_what_is_ambient() {
        let root = container(0).executed();
        assert_eq!((root.permitted, root.effective), (0b111, 0b111));
        let user = container(1000).executed();
        assert_eq!((user.permitted, user.effective, user.bounding), (0, 0, 0b111));
        let no_root = Cred { securebits: SECBIT_NOROOT, ..container(0) }.executed();
        assert_eq!((no_root.permitted, no_root.effective), (0, 0));
        let ambient = Cred { inheritable: 1, ambient: 1, ..container(1000) }.executed();
        assert_eq!((ambient.permitted, ambient.effective), (1, 1));
    }
}
