//! The way out over an interface (`--network=stack`): Ethernet, ARP and neighbour discovery, IPv4, IPv6, ICMP and the state machine
//! of TCP are smoltcp's; who has which port, and what a program may learn, stays with the sockets of [`super`].
//!
//! One lock holds it all ([`state::State`]). A program's own thread sends at once; what comes in is taken by the warden ([`serve`]),
//! or by a thread that would otherwise sleep. Nobody is woken, and nothing that could come back here is dropped, under the lock:
//! that is left to [`with`].
//!
//! Locks, in order: this one, then those of sockets. No socket calls here with one of its own held.

mod connection;
mod datagrams;
mod frame;
mod gather;
mod link;
mod state;
mod stream;

pub use link::Traffic;
pub use stream::{Handle, Stream};

use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::vec::Vec;
use boundary::boot::Interface;
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicU64, Ordering};
use kernel::boot;
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::wait::WaitQueue;
use smoltcp::time::Instant;
use state::State;

/// Batches of frames that the warden takes in a row.
const ROUNDS: usize = 16;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Here.
    pub local: SocketAddr,
    /// There.
    pub peer: SocketAddr,
}

struct Stack {
    interface: &'static Interface,
    fd: i32,
    state: Mutex<State>,
    /// When the warden comes by itself; changed under the lock.
    planned: AtomicU64,
}

static STACK: BootCell<Box<Stack>> = BootCell::new();

fn instant(ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}

/// Sets up. Called once, at boot.
pub fn init() {
    let Some(config) = boot::config() else { return };
    if let Some(interface) = &config.interface {
        init_on(interface, config.fds.packet, &config.host.seed);
    }
}

/// By itself, as the state on its way to the heap takes as much of the kernel's stack as nothing else does.
#[inline(never)]
fn init_on(interface: &'static Interface, fd: i32, seed: &[u8; 32]) {
    let state = Mutex::new(State::new(interface, fd, seed));
    STACK.set(Box::new(Stack { interface, fd, state, planned: AtomicU64::new(u64::MAX) }));
}

/// The interface, if there is one.
pub fn interface() -> Option<&'static Interface> {
    STACK.get().map(|stack| stack.interface)
}

/// The packet socket that the warden is to watch; -1 if there is none.
pub fn descriptor() -> i32 {
    STACK.get().map_or(-1, |stack| stack.fd)
}

/// Whether `ip` is one of the interface's own addresses.
pub fn is_own(ip: IpAddr) -> bool {
    interface().is_some_and(|interface| interface.addresses.iter().any(|(own, _)| *own == ip))
}

/// Whether `ip` is the broadcast address of a network that the interface is in.
pub fn is_broadcast(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let addresses = interface().into_iter().flat_map(|interface| &interface.addresses);
    addresses.into_iter().any(|(own, prefix)| {
        let mask = u32::MAX.checked_shr(u32::from(*prefix)).unwrap_or(0);
        matches!(own, IpAddr::V4(own) if *prefix < 31 && u32::from(*own) | mask == u32::from(ip))
    })
}

fn in_network(ip: IpAddr, (network, prefix): (IpAddr, u8)) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    };
    let differ = (bits(ip) ^ bits(network)).checked_shr(128 - u32::from(prefix.min(128))).unwrap_or(0);
    ip.is_ipv4() == network.is_ipv4() && differ == 0
}

/// Whether there is a way to `ip` over the interface.
pub fn routes(ip: IpAddr) -> bool {
    let Some(interface) = interface() else { return false };
    let everybody = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) || ip.is_multicast();
    let has_family = interface.addresses.iter().any(|(own, _)| own.is_ipv4() == ip.is_ipv4());
    let routes = interface.routes.iter().map(|route| route.to);
    has_family
        && !ip.is_loopback()
        && (everybody || interface.addresses.iter().copied().chain(routes).any(|to| in_network(ip, to)))
}

/// The address that packets to `ip` come from, if they go over the interface.
pub fn source_for(ip: IpAddr) -> Option<IpAddr> {
    let interface = interface()?;
    let own = interface.addresses.iter().filter(|(own, _)| own.is_ipv4() == ip.is_ipv4());
    let near = own.clone().filter(|address| in_network(ip, **address)).max_by_key(|(_, prefix)| *prefix);
    near.or(own.clone().next()).map(|(own, _)| *own)
}

/// The neighbour that packets to `ip` go to first.
fn next_hop(ip: IpAddr) -> IpAddr {
    let Some(interface) = interface() else { return ip };
    if interface.addresses.iter().any(|address| in_network(ip, *address)) {
        return ip;
    }
    let through = interface.routes.iter().filter(|route| in_network(ip, route.to));
    through.max_by_key(|route| route.to.1).map_or(ip, |route| route.via)
}

/// Does something under the lock; what it has told to whom comes behind it.
fn with<R>(action: impl FnOnce(&mut State) -> R) -> Option<R> {
    let stack = STACK.get()?;
    let mut state = stack.state.lock();
    let result = action(&mut state);
    let (news, kept) = (core::mem::take(&mut state.news), core::mem::take(&mut state.kept));
    let deadline = state.deadline().unwrap_or(u64::MAX);
    let sooner = deadline < stack.planned.load(Ordering::Relaxed);
    if sooner {
        stack.planned.store(deadline, Ordering::Relaxed);
    }
    drop(state);
    tell(news);
    drop(kept);
    if sooner {
        kernel::hostpoll::wake_warden();
    }
    Some(result)
}

fn tell(news: Vec<(WaitQueue, PollEvents)>) {
    for (queue, events) in news {
        if events.intersects(PollEvents::ALWAYS | PollEvents::RDHUP) {
            queue.wake_all(events);
        } else {
            queue.wake(events);
        }
    }
}

/// Takes frames that wait, for a caller who would otherwise sleep: whether there were any.
fn look() -> bool {
    with(State::receive).is_some_and(|count| count > 0)
}

/// Takes what has come in and does what is due. Called by the warden.
pub fn serve() {
    for _ in 0..ROUNDS {
        if with(State::receive).is_none_or(|count| count == 0) {
            break;
        }
    }
    with(State::expire);
}

/// What has come and gone over the interface.
pub fn traffic() -> Traffic {
    with(|state| state.link.traffic).unwrap_or_default()
}

/// When the warden is to come by itself.
pub fn next_deadline() -> Option<u64> {
    let stack = STACK.get()?;
    let state = stack.state.lock();
    let deadline = state.deadline();
    stack.planned.store(deadline.unwrap_or(u64::MAX), Ordering::Relaxed);
    deadline
}

/// Sends a datagram: `EMSGSIZE`, `ENETUNREACH`.
pub fn send_datagram(from: SocketAddr, to: SocketAddr, bytes: &[u8], hops: u8) -> Result<()> {
    with(|state| state.send_datagram(from, to, bytes, hops)).unwrap_or(Err(Errno::ENETUNREACH))
}

/// Sends a message of ICMP, which gets its checksum here: `EMSGSIZE`, `ENETUNREACH`.
pub fn send_message(from: IpAddr, to: IpAddr, message: &[u8]) -> Result<()> {
    with(|state| state.send_message(from, to, message)).unwrap_or(Err(Errno::ENETUNREACH))
}
