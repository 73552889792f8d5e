//! Netlink sockets (netlink(7)) of the families `NETLINK_ROUTE` and `NETLINK_SOCK_DIAG`, for queries (rtnetlink(7), sock_diag(7)). An
//! answer is made while the question is
//! sent, and waits in the socket itself.

mod diag;
mod route;

use crate::address::{self, Address};
use crate::common::Common;
use crate::message::{Incoming, Outgoing};
use crate::options::OptionValue;
use crate::socket::{self, Shutdown, Socket};
use crate::{Errno, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::poll::{PollEvents, PollTable};
use kernel::sync::Mutex;
use kernel::task;
use linux_raw_sys::net;
use vfs::file::OpenFile;
use vfs::mqueue::{COOKIE, NoticeSocket};
use vfs::namespace::Lookup;

/// The protocols there are (`NETLINK_ROUTE`, `NETLINK_SOCK_DIAG`).
const ROUTE: u32 = 0;
const SOCK_DIAG: u32 = 4;
/// Longest question.
const QUESTION_MAX: usize = 64 << 10;

/// A netlink socket.
pub struct Netlink {
    common: Common,
    /// `nl_pid`: 0 until it is bound.
    port: AtomicU32,
    groups: AtomicU32,
    answers: Mutex<VecDeque<Vec<u8>>>,
}

/// The netlink socket behind a file: `ENOTSOCK`, `EINVAL` if it is of another family.
pub fn of(file: &OpenFile) -> Result<Arc<Netlink>> {
    let socket: Arc<dyn Any + Send + Sync> = socket::of(file)?.clone();
    socket.downcast().map_err(|_| Errno::EINVAL)
}

/// socket(2): `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<Netlink>> {
    if !matches!(kind, net::SOCK_RAW | net::SOCK_DGRAM) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if !matches!(protocol, ROUTE | SOCK_DIAG) {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok(Arc::new(Netlink {
        common: Common::new(net::AF_NETLINK, kind, protocol),
        port: AtomicU32::new(0),
        groups: AtomicU32::new(0),
        answers: Mutex::default(),
    }))
}

/// Port and groups of a `struct sockaddr_nl`: `EINVAL`.
fn read_address(bytes: &[u8]) -> Result<(u32, u32)> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(u32::from_ne_bytes).ok_or(Errno::EINVAL)
    };
    if address::family(bytes)? != net::AF_NETLINK { Err(Errno::EINVAL) } else { Ok((word(4)?, word(8)?)) }
}

fn shown(port: u32, groups: u32) -> Address {
    let mut rest = vec![0; 2];
    rest.extend_from_slice(&port.to_ne_bytes());
    rest.extend_from_slice(&groups.to_ne_bytes());
    Address::new(net::AF_NETLINK, &rest)
}

impl Netlink {
    /// Its port: the process's number, or one above all of those if another socket of it has that. Ports need not differ here,
    /// since nobody sends to one.
    fn bound_port(&self) -> u32 {
        let group = &task::current().group;
        let own = group.space.shown(group.tgid) as u32;
        let _ = self.port.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed);
        self.port.load(Ordering::Relaxed)
    }

    fn try_receive(&self, message: &mut Incoming<'_, '_>) -> Option<Result<usize>> {
        let mut answers = self.answers.lock();
        let answer = answers.front()?;
        let part = answer.get(..message.sink.left()).unwrap_or(answer);
        let outcome = message.sink.put(part);
        if part.len() < answer.len() {
            message.report |= net::MSG_TRUNC;
        }
        let length = if message.has(net::MSG_TRUNC) { answer.len() } else { part.len() };
        message.from = Some(shown(0, 0));
        let gone = if message.has(net::MSG_PEEK) { None } else { answers.pop_front() };
        drop(answers);
        drop(gone);
        Some(outcome.map(|_| length))
    }
}

/// mq_notify(2) tells threads through a socket of this family.
impl NoticeSocket for Netlink {
    fn put(&self, cookie: &[u8; COOKIE]) {
        let mut waiting = self.answers.lock();
        let used: usize = waiting.iter().map(Vec::len).sum();
        if used > self.common.receive_room() {
            return;
        }
        waiting.push_back(cookie.to_vec());
        drop(waiting);
        self.common.queue.wake(PollEvents::READABLE);
    }
}

impl Socket for Netlink {
    fn common(&self) -> &Common {
        &self.common
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn bind(&self, address: &[u8], _lookup: &Lookup<'_>) -> Result<()> {
        let (port, groups) = read_address(address)?;
        let bound = self.port.load(Ordering::Relaxed);
        if bound != 0 && port != bound {
            return Err(Errno::EINVAL);
        }
        self.groups.store(groups, Ordering::Relaxed);
        if port != 0 {
            self.port.store(port, Ordering::Relaxed);
        }
        self.bound_port();
        Ok(())
    }

    /// Only the kernel can be a peer.
    fn connect(&self, address: &[u8], _lookup: &Lookup<'_>, _nonblocking: bool) -> Result<()> {
        if address::is_unspecified(address) {
            return Ok(());
        }
        let (port, groups) = read_address(address)?;
        if port != 0 || groups != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        self.bound_port();
        Ok(())
    }

    fn name(&self) -> Result<Address> {
        Ok(shown(self.port.load(Ordering::Relaxed), self.groups.load(Ordering::Relaxed)))
    }

    fn peer_name(&self) -> Result<Address> {
        Ok(shown(0, 0))
    }

    fn send(&self, message: &mut Outgoing<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(to) = message.to {
            let (port, groups) = read_address(to.address)?;
            if port != 0 || groups != 0 {
                return Err(Errno::ECONNREFUSED);
            }
        }
        let length = message.source.left();
        if length > QUESTION_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let mut question = vec![0; length];
        if message.source.take(&mut question)? != length {
            return Err(Errno::EFAULT);
        }
        let port = self.bound_port();
        let answers = route::answer(&question, self.common.protocol == SOCK_DIAG, port);
        if !answers.is_empty() {
            let mut waiting = self.answers.lock();
            let used: usize = waiting.iter().map(Vec::len).sum();
            if used > self.common.receive_room() {
                return Err(Errno::ENOBUFS);
            }
            waiting.extend(answers);
            drop(waiting);
            self.common.queue.wake(PollEvents::READABLE);
        }
        Ok(length)
    }

    fn receive(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        if message.has(net::MSG_OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut waiting = self.common.receiving(message.nonblocking);
        waiting.until(&[&self.common.queue], || self.try_receive(message))
    }

    fn shutdown(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn poll(&self, _table: &mut PollTable) -> PollEvents {
        let mut events = PollEvents::WRITABLE | PollEvents::WRBAND;
        events.set(PollEvents::READABLE, !self.answers.lock().is_empty());
        events
    }

    fn option(&self, level: u32, name: u32) -> Result<OptionValue> {
        const LIST_MEMBERSHIPS: u32 = 9;
        match level {
            net::SOL_SOCKET => Err(Errno::ENOPROTOOPT),
            net::SOL_NETLINK if name == LIST_MEMBERSHIPS => Ok(OptionValue::Bytes(Vec::new())),
            net::SOL_NETLINK if name <= 12 => Ok(OptionValue::Number(0)),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    /// Nothing ever changes here, so groups may be joined in peace, and how answers are decorated is not asked for.
    fn set_option(&self, level: u32, name: u32, _value: &[u8]) -> Result<()> {
        const KNOWN: core::ops::RangeInclusive<u32> = 1..=12;
        if level == net::SOL_NETLINK && KNOWN.contains(&name) { Ok(()) } else { Err(Errno::ENOPROTOOPT) }
    }

    fn close(&self) {
        self.answers.lock().clear();
    }
}
