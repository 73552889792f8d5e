//! Takes the addresses off an interface, and puts them and the routes back when the supervisor is done, or was killed: by a process
//! of its own, which does nothing else.

use super::{Stack, StackError, host};
use boundary::boot::Interface;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};
use nix::fcntl::OFlag;
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The interface is the sandbox's as long as this is there.
pub struct Guard {
    pid: Pid,
    alive: Option<OwnedFd>,
}

impl Stack {
    /// Takes the interface's addresses away from the host, for good: for a namespace that ends with the sandbox.
    ///
    /// # Errors
    /// The host refuses it; what was taken is put back then.
    pub fn take_over(mut self) -> Result<(Interface, OwnedFd), StackError> {
        self.take()?;
        Ok((self.interface, self.packet))
    }

    /// Takes the interface's addresses away from the host until the guard is dropped, or this process has ended in whatever way.
    /// The caller has one thread.
    ///
    /// # Errors
    /// The host refuses it, or has no process left.
    pub fn take_for_a_while(mut self) -> Result<(Interface, OwnedFd, Guard), StackError> {
        let (alive, ends) = nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map_err(|error| host("a pipe for the interface's guard")(error.into()))?;
        let parent = nix::unistd::getpid();
        // SAFETY: this process has one thread.
        let forked =
            unsafe { fork() }.map_err(|error| host("a process for the interface's guard")(error.into()))?;
        match forked {
            ForkResult::Parent { child } => {
                drop(alive);
                let guard = Guard { pid: child, alive: Some(ends) };
                self.take()?;
                Ok((self.interface, self.packet, guard))
            }
            ForkResult::Child => {
                drop(ends);
                let failed = self.wait_and_put_back(&alive, parent);
                for what in &failed {
                    eprintln!("sandbox-exec: {}: not put back: {what}", self.interface.name);
                }
                // SAFETY: ends the process; nothing of the parent's is to be done here.
                unsafe { libc::_exit(i32::from(!failed.is_empty())) }
            }
        }
    }

    fn take(&mut self) -> Result<(), StackError> {
        for at in 0..self.addresses.len() {
            if let Err(error) = self.tables.remove_address(&self.addresses[at]) {
                // Removing the first address of a network may have taken the others along.
                if error.raw_os_error() != Some(libc::EADDRNOTAVAIL) {
                    self.put_back();
                    return Err(host("taking the addresses off the interface")(error));
                }
            }
        }
        Ok(())
    }

    /// In the guard's process: what could not be put back.
    fn wait_and_put_back(&mut self, alive: &OwnedFd, parent: Pid) -> Vec<String> {
        // What the terminal sends is not for this process.
        let _ = nix::unistd::setsid();
        let _ = SigSet::all().thread_set_mask();
        // Standard output and error may be pipes that somebody reads to their end: the latter is kept for what goes wrong.
        if let Ok(nothing) = File::options().read(true).write(true).open("/dev/null") {
            for fd in 0..2 {
                // SAFETY: only numbers; what these descriptors were is not used any more.
                unsafe { libc::dup2(nothing.as_raw_fd(), fd) };
            }
        }
        let keep = [alive.as_raw_fd(), self.tables.as_raw_fd()];
        if crate::launch::close_others(&keep).is_err() || nix::unistd::getppid() != parent {
            return self.put_back();
        }
        let mut byte = [0];
        loop {
            match nix::unistd::read(alive, &mut byte) {
                Err(nix::Error::EINTR) => {}
                _ => return self.put_back(),
            }
        }
    }

    fn put_back(&mut self) -> Vec<String> {
        let mut failed = Vec::new();
        for address in self.addresses.iter().map(lasting).collect::<Vec<_>>() {
            match self.tables.add_address(address) {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                    failed.push(format!("an address: {error}"));
                }
                _ => {}
            }
        }
        let has_gateway = |route: &RouteMessage| {
            route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)))
        };
        let mut routes: Vec<RouteMessage> = self.routes.clone();
        // Those follow from the addresses.
        routes.retain(|route| route.header.protocol != RouteProtocol::Kernel);
        // A gateway must be on the link before it can be one.
        routes.sort_by_key(has_gateway);
        for mut route in routes {
            // Facts, which the host does not take as settings.
            route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
            match self.tables.add_route(route) {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                    failed.push(format!("a route: {error}"));
                }
                _ => {}
            }
        }
        failed
    }
}

/// The message that makes an address what it was, with no look first whether somebody else has it: nobody could get it meanwhile.
fn lasting(address: &AddressMessage) -> AddressMessage {
    let mut address = address.clone();
    address.header.flags.remove(AddressHeaderFlags::Tentative);
    address.header.flags.insert(AddressHeaderFlags::Nodad);
    for attribute in &mut address.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            flags.remove(AddressFlags::Tentative);
            flags.insert(AddressFlags::Nodad);
        }
    }
    address
}

impl Guard {
    fn finish(&mut self) -> io::Result<()> {
        drop(self.alive.take());
        waitpid(self.pid, None).map(drop).map_err(io::Error::from)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
