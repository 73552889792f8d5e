//! How host ids look from inside.
//!
//! The user namespace of the sandbox maps few ids; the host reports every other owner as its overflow id. Those are shown
//! as the id that the configuration names (user_namespaces(7), "Set-user-ID and unmapped ids").

use boundary::boot;

/// The rule that turns ids of host files into virtual ones and back.
#[derive(Debug, Clone, Copy)]
pub struct HostIds(boot::HostIds);

impl HostIds {
    /// The rule of a boot configuration.
    pub fn new(ids: boot::HostIds) -> HostIds {
        HostIds(ids)
    }

    /// The virtual user id of a host file's owner.
    pub fn uid(&self, host: u32) -> u32 {
        if host == self.0.overflow_uid { self.0.unmapped_shown_as } else { host }
    }

    /// The virtual group id of a host file's group.
    pub fn gid(&self, host: u32) -> u32 {
        if host == self.0.overflow_gid { self.0.unmapped_shown_as } else { host }
    }

    /// The host's number for a virtual user id; `None` for one that no host file is shown with.
    pub fn host_uid(&self, shown: u32) -> Option<u32> {
        self.host(shown, self.0.overflow_uid)
    }

    /// Likewise of a group.
    pub fn host_gid(&self, shown: u32) -> Option<u32> {
        self.host(shown, self.0.overflow_gid)
    }

    fn host(&self, shown: u32, overflow: u32) -> Option<u32> {
        match shown {
            _ if overflow == u32::MAX => Some(shown),
            _ if shown == self.0.unmapped_shown_as => Some(overflow),
            _ => Some(shown).filter(|id| *id != overflow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmapped_owners_are_shown_as_the_configured_id_and_others_as_they_are() {
        let ids = boot::HostIds { overflow_uid: 65534, overflow_gid: 65533, unmapped_shown_as: 0 };
        let ids = HostIds::new(ids);
        assert_eq!((ids.uid(65534), ids.uid(1000), ids.uid(65533)), (0, 1000, 65533));
        assert_eq!(
            (ids.host_uid(0), ids.host_uid(1000), ids.host_uid(65534)),
            (Some(65534), Some(1000), None)
        );
        assert_eq!((ids.gid(65533), ids.gid(100), ids.gid(65534)), (0, 100, 65534));
    }
}
