//! What a socket can do, whatever its family, and the open file that it is.

use crate::address::Address;
use crate::common::Common;
use crate::message::{Attached, Incoming, Outgoing};
use crate::options::OptionValue;
use crate::{Errno, Result, inet, interfaces, netlink, unix};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use kernel::poll::{PollEvents, PollTable};
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::{general as raw, net};
use vfs::attributes::{AttributeChange, Attributes, Kind, device};
use vfs::file::{FileOps, FileRef, OpenFile};
use vfs::namespace::Lookup;
use vfs::signal_io::Owner;

/// Device of sockets (`sockfs`).
const DEVICE: u64 = device(0, 8);

bitflags::bitflags! {
    /// Directions of shutdown(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Shutdown: u32 {
        /// Nothing more is received.
        const RECEIVE = 1;
        /// Nothing more is sent.
        const SEND = 2;
    }
}

/// A socket. Defaults are the answers of families that cannot do the thing.
///
/// Blocking is the implementation's, by [`Common::sending`] and [`Common::receiving`].
pub trait Socket: Any + Send + Sync {
    /// What all sockets have.
    fn common(&self) -> &Common;

    /// For code that deals with one family.
    fn as_any(&self) -> &dyn Any;

    /// bind(2); `address` has the length that the program gave. `lookup` is for addresses that are paths.
    fn bind(&self, address: &[u8], lookup: &Lookup<'_>) -> Result<()>;

    /// connect(2).
    fn connect(&self, address: &[u8], lookup: &Lookup<'_>, nonblocking: bool) -> Result<()>;

    /// listen(2); `backlog` is cut to `net.core.somaxconn`.
    fn listen(&self, _backlog: usize) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// accept(2): the new socket.
    fn accept(&self, _nonblocking: bool) -> Result<Arc<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// getsockname(2).
    fn name(&self) -> Result<Address>;

    /// getpeername(2): `ENOTCONN`.
    fn peer_name(&self) -> Result<Address>;

    /// send(2) and its family: bytes sent.
    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize>;

    /// recv(2) and its family: bytes received.
    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize>;

    /// recv(2) with `MSG_ERRQUEUE`: `EAGAIN` if no error waits there.
    fn receive_error(&self, _message: &mut Incoming<'_, '_>) -> Result<usize> {
        Err(Errno::EAGAIN)
    }

    /// shutdown(2).
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// What it is ready for; changes wake the queue of [`Common`]. Other queues may be added to `table`.
    fn poll(&self, table: &mut PollTable) -> PollEvents;

    /// getsockopt(2) beyond `SOL_SOCKET`'s common part: `EOPNOTSUPP` for a level that it does not have, `ENOPROTOOPT`.
    fn option(&self, _level: u32, _name: u32) -> Result<OptionValue> {
        Err(Errno::EOPNOTSUPP)
    }

    /// setsockopt(2) likewise.
    fn set_option(&self, _level: u32, _name: u32, _value: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes an error that waits elsewhere over to [`Common`], for those who ask for it.
    fn gather_error(&self) {}

    /// setsockopt(2) has set an option, of whatever level.
    fn option_was_set(&self, _level: u32, _name: u32, _value: &[u8]) {}

    /// ioctl(2).
    fn ioctl(&self, _command: u32, _argument: u64) -> Result<u64> {
        Err(Errno::ENOTTY)
    }

    /// The last description has gone.
    fn close(&self);
}

/// A socket as an open file.
pub struct SocketFile(Arc<dyn Socket>);

impl SocketFile {
    /// The socket.
    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A description for a socket; `flags` may have `O_NONBLOCK`.
pub fn open(socket: Arc<dyn Socket>, flags: u32) -> FileRef {
    OpenFile::new(Arc::new(SocketFile(socket)), None, raw::O_RDWR | (flags & raw::O_NONBLOCK))
}

/// The socket behind an open file: `ENOTSOCK`.
pub fn of(file: &OpenFile) -> Result<&Arc<dyn Socket>> {
    file.ops.as_any().downcast_ref::<SocketFile>().map(|file| &file.0).ok_or(Errno::ENOTSOCK)
}

/// Highest `SOCK_*` (`SOCK_MAX`).
const KIND_MAX: u32 = 11;

/// socket(2): `EAFNOSUPPORT`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `EINVAL`.
pub fn create(family: u32, kind: u32, protocol: u32) -> Result<Arc<dyn Socket>> {
    if family >= net::AF_MAX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind >= KIND_MAX {
        return Err(Errno::EINVAL);
    }
    match family {
        net::AF_UNIX => Ok(unix::create(kind, protocol)?),
        net::AF_INET | net::AF_INET6 => inet::create(family, kind, protocol),
        net::AF_NETLINK => Ok(netlink::create(kind, protocol)?),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// socketpair(2): `EOPNOTSUPP` for families that have none, else as [`create`].
pub fn create_pair(family: u32, kind: u32, protocol: u32) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
    let first = create(family, kind, protocol)?;
    if family != net::AF_UNIX {
        return Err(Errno::EOPNOTSUPP);
    }
    drop(first);
    let (first, second) = unix::pair(kind, protocol)?;
    Ok((first, second))
}

impl FileOps for SocketFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &OpenFile, _offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.left() == 0 {
            return Ok(0);
        }
        self.0.receive(&mut Incoming::new(sink, 0, file.nonblocking()))
    }

    fn write_at(&self, file: &OpenFile, _offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let nonblocking = file.nonblocking();
        let attached = Attached::default();
        self.0.send(&mut Outgoing { source, flags: 0, nonblocking, to: None, attached })
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, 0))
    }

    fn poll(&self, table: &mut PollTable) -> PollEvents {
        table.add(&self.0.common().queue);
        self.0.poll(table)
    }

    fn pollable(&self) -> bool {
        true
    }

    fn signals_io(&self) -> bool {
        true
    }

    fn owner_changed(&self, owner: &Owner) {
        let before = core::mem::replace(&mut *self.0.common().owner_of_signals.lock(), owner.clone());
        drop(before);
    }

    fn ioctl(&self, _file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
        match interfaces::ioctl(command, argument) {
            Some(outcome) => outcome,
            None => self.0.ioctl(command, argument),
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        let common = self.0.common();
        let mode = common.mode.load(Ordering::Relaxed);
        let mut attributes = common.birth.attributes(DEVICE, Kind::Socket.mode_bits() | mode);
        for (id, set) in [(&mut attributes.uid, &common.owner.0), (&mut attributes.gid, &common.owner.1)] {
            let set = set.load(Ordering::Relaxed);
            if set != u32::MAX {
                *id = set;
            }
        }
        Ok(attributes)
    }

    /// fchmod(2) before bind(2) decides the mode of the name; fchown(2) is only shown.
    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        let common = self.0.common();
        let changes =
            [(&common.mode, change.mode), (&common.owner.0, change.uid), (&common.owner.1, change.gid)];
        for (slot, value) in changes {
            if let Some(value) = value {
                slot.store(value, Ordering::Relaxed);
            }
        }
        if change.size.is_some() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn flush(&self) -> Result<()> {
        unix::descriptor_closed(self);
        Ok(())
    }

    fn describe(&self) -> String {
        format!("socket:[{}]", self.0.common().birth.ino)
    }
}
