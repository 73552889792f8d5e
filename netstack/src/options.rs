//! Options of the level `SOL_SOCKET` (socket(7)).

use crate::common::{Common, Switches};
use crate::socket::Socket;
use crate::{Errno, Result};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::{task, time};
use linux_raw_sys::net;

/// Highest buffer size that a program may ask for (`net.core.{r,w}mem_max`).
const BUFFER_MAX: u32 = 4 << 20;
/// Lowest sizes, as getsockopt(2) reports them (`SOCK_MIN_SNDBUF`, `SOCK_MIN_RCVBUF`).
const SEND_MIN: u32 = 4608;
const RECEIVE_MIN: u32 = 2304;
/// Highest `SO_PRIORITY` without a capability.
const PRIORITY_MAX: u32 = 6;
/// Longest `SO_LINGER` in seconds that fits the host kernel's clock (`MAX_SCHEDULE_TIMEOUT / HZ` is far above).
const LINGER_MAX: u32 = i32::MAX as u32;
/// A time so short that a call does not wait: what a negative `SO_RCVTIMEO` means.
const AT_ONCE: u64 = 1;

/// What getsockopt(2) gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionValue {
    /// A number, cut to the room that the caller has.
    Number(u32),
    /// A structure, likewise.
    Bytes(Vec<u8>),
}

impl OptionValue {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            OptionValue::Number(value) => value.to_ne_bytes().to_vec(),
            OptionValue::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// The number that most options are: `EINVAL` if fewer bytes were passed.
pub fn number(value: &[u8]) -> Result<u32> {
    match value {
        [a, b, c, d, ..] => Ok(u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => Err(Errno::EINVAL),
    }
}

/// A structure of two words: `struct timeval`.
fn words(value: &[u8]) -> Result<[i64; 2]> {
    let mut words = [0; 2];
    for (index, word) in words.iter_mut().enumerate() {
        let bytes = value.get(index * 8..index * 8 + 8).ok_or(Errno::EINVAL)?;
        *word = i64::from_ne_bytes(bytes.try_into().map_err(|_| Errno::EINVAL)?);
    }
    Ok(words)
}

/// The switch of an option that is on or off.
fn switch(name: u32) -> Option<Switches> {
    Some(match name {
        net::SO_DEBUG => Switches::DEBUG,
        net::SO_REUSEADDR => Switches::REUSE_ADDRESS,
        net::SO_REUSEPORT => Switches::REUSE_PORT,
        net::SO_DONTROUTE => Switches::DONT_ROUTE,
        net::SO_BROADCAST => Switches::BROADCAST,
        net::SO_KEEPALIVE => Switches::KEEP_ALIVE,
        net::SO_OOBINLINE => Switches::OOB_INLINE,
        net::SO_PASSCRED => Switches::PASS_CREDENTIALS,
        net::SO_PASSPIDFD => Switches::PASS_PIDFD,
        net::SO_TIMESTAMP | net::SO_TIMESTAMP_NEW => Switches::TIMESTAMP,
        net::SO_TIMESTAMPNS | net::SO_TIMESTAMPNS_NEW => Switches::TIMESTAMP_NS,
        net::SO_RXQ_OVFL => Switches::OVERFLOWS,
        net::SO_NO_CHECK => Switches::NO_CHECK,
        net::SO_PASSSEC => Switches::PASS_SECURITY,
        net::SO_ZEROCOPY => Switches::ZERO_COPY,
        net::SO_SELECT_ERR_QUEUE => Switches::SELECT_ERROR_QUEUE,
        _ => return None,
    })
}

/// `SOL_SOCKET`'s part of getsockopt(2): `ENOPROTOOPT` for what there is not.
pub fn get(socket: &dyn Socket, name: u32) -> Result<OptionValue> {
    let common = socket.common();
    if let Some(switch) = switch(name) {
        return Ok(OptionValue::Number(u32::from(common.is_on(switch))));
    }
    let value = match name {
        net::SO_TYPE => common.kind,
        net::SO_DOMAIN => common.family,
        net::SO_PROTOCOL => common.protocol,
        net::SO_ERROR => {
            socket.gather_error();
            common.take_error().map_or(0, |error| error.0 as u32)
        }
        net::SO_SNDBUF => common.send_buffer.load(Ordering::Relaxed),
        net::SO_RCVBUF => common.receive_buffer.load(Ordering::Relaxed),
        net::SO_RCVLOWAT => common.low_water.load(Ordering::Relaxed),
        net::SO_SNDLOWAT => 1,
        net::SO_PRIORITY => common.priority.load(Ordering::Relaxed),
        net::SO_MARK => common.mark.load(Ordering::Relaxed),
        net::SO_PEEK_OFF => common.peek_offset.load(Ordering::Relaxed) as u32,
        net::SO_INCOMING_CPU => u32::MAX,
        net::SO_BUSY_POLL | net::SO_INCOMING_NAPI_ID | net::SO_BINDTOIFINDEX | net::SO_LOCK_FILTER => 0,
        net::SO_MAX_PACING_RATE => u32::MAX,
        net::SO_BINDTODEVICE => return Ok(OptionValue::Bytes(Vec::new())),
        net::SO_LINGER => return Ok(OptionValue::Bytes(linger(common))),
        net::SO_COOKIE => return Ok(OptionValue::Bytes(common.birth.ino.to_ne_bytes().to_vec())),
        net::SO_RCVTIMEO | net::SO_RCVTIMEO_NEW => return Ok(timeout(&common.receive_timeout)),
        net::SO_SNDTIMEO | net::SO_SNDTIMEO_NEW => return Ok(timeout(&common.send_timeout)),
        _ => return socket.option(net::SOL_SOCKET, name).map_err(no_option),
    };
    Ok(OptionValue::Number(value))
}

/// A socket without a level `SOL_SOCKET` of its own has no such option.
fn no_option(error: Errno) -> Errno {
    if error == Errno::EOPNOTSUPP { Errno::ENOPROTOOPT } else { error }
}

fn timeout(slot: &core::sync::atomic::AtomicU64) -> OptionValue {
    let time = time::timeval(slot.load(Ordering::Relaxed));
    let words = [time.tv_sec, time.tv_usec];
    OptionValue::Bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

fn linger(common: &Common) -> Vec<u8> {
    let set = common.linger.load(Ordering::Relaxed);
    let (on, seconds) = if set < 0 { (0u32, !set) } else { (1, set) };
    [on, seconds as u32].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `SOL_SOCKET`'s part of setsockopt(2): `EINVAL`, `EDOM`, `EPERM`, `EOPNOTSUPP`, `ENOPROTOOPT`.
pub fn set(socket: &dyn Socket, name: u32, value: &[u8]) -> Result<()> {
    let common = socket.common();
    let first = number(value)?;
    let on = first != 0;
    let inet = matches!(common.family, net::AF_INET | net::AF_INET6);
    let capable = |capability| task::current().cred().has(capability);
    let privileged = || capable(cap::NET_ADMIN) || capable(cap::NET_RAW);
    match name {
        net::SO_TYPE | net::SO_DOMAIN | net::SO_PROTOCOL | net::SO_ERROR | net::SO_SNDLOWAT => {
            return Err(Errno::ENOPROTOOPT);
        }
        net::SO_DEBUG if on && !capable(cap::NET_ADMIN) => return Err(Errno::EACCES),
        net::SO_REUSEPORT if on && !inet => return Err(Errno::EOPNOTSUPP),
        net::SO_PASSCRED | net::SO_PASSPIDFD if inet => return Err(Errno::EOPNOTSUPP),
        net::SO_SNDBUF => set_send_buffer(common, first.min(BUFFER_MAX)),
        net::SO_RCVBUF => set_receive_buffer(common, first.min(BUFFER_MAX)),
        net::SO_SNDBUFFORCE | net::SO_RCVBUFFORCE if !capable(cap::NET_ADMIN) => return Err(Errno::EPERM),
        net::SO_SNDBUFFORCE => set_send_buffer(common, forced(first)),
        net::SO_RCVBUFFORCE => set_receive_buffer(common, forced(first)),
        net::SO_RCVLOWAT => {
            let bytes = if (first as i32) < 0 { i32::MAX as u32 } else { first.max(1) };
            common.low_water.store(bytes, Ordering::Relaxed);
        }
        net::SO_PRIORITY if first > PRIORITY_MAX && !privileged() => return Err(Errno::EPERM),
        net::SO_PRIORITY => common.priority.store(first, Ordering::Relaxed),
        net::SO_MARK if !privileged() => return Err(Errno::EPERM),
        net::SO_MARK => common.mark.store(first, Ordering::Relaxed),
        net::SO_LINGER => {
            let seconds = i64::from(number(value.get(4..).unwrap_or(&[]))?.min(LINGER_MAX));
            common.linger.store(if on { seconds } else { !seconds }, Ordering::Relaxed);
        }
        net::SO_RCVTIMEO | net::SO_RCVTIMEO_NEW => {
            common.receive_timeout.store(checked_timeout(value)?, Ordering::Relaxed);
        }
        net::SO_SNDTIMEO | net::SO_SNDTIMEO_NEW => {
            common.send_timeout.store(checked_timeout(value)?, Ordering::Relaxed);
        }
        net::SO_PEEK_OFF if common.family == net::AF_NETLINK => {
            return Err(Errno::EOPNOTSUPP);
        }
        net::SO_PEEK_OFF => common.peek_offset.store(first as i32, Ordering::Relaxed),
        net::SO_DETACH_FILTER => return Err(Errno::ENOENT),
        // Nothing that a program in memory could notice.
        net::SO_BUSY_POLL | net::SO_INCOMING_CPU | net::SO_MAX_PACING_RATE | net::SO_BSDCOMPAT => {}
        _ => match switch(name) {
            Some(switch) => {
                let stamps = Switches::TIMESTAMP | Switches::TIMESTAMP_NS;
                if stamps.contains(switch) {
                    // One or the other (socket(7)).
                    common.switch(stamps, false);
                }
                common.switch(switch, on);
            }
            None => {
                kernel::warn!("socket option {name} of the level SOL_SOCKET is not implemented: ENOPROTOOPT");
                return socket.set_option(net::SOL_SOCKET, name, value).map_err(no_option);
            }
        },
    }
    Ok(())
}

/// `SO_SNDBUFFORCE` may exceed the limit, but stays what memory can hold.
fn forced(bytes: u32) -> u32 {
    bytes.min(BUFFER_MAX * 4)
}

/// The host kernel doubles what is asked for, to have room for bookkeeping (socket(7)).
fn set_send_buffer(common: &Common, bytes: u32) {
    common.send_buffer.store((bytes * 2).max(SEND_MIN), Ordering::Relaxed);
    common.queue.wake(kernel::poll::PollEvents::WRITABLE);
}

fn set_receive_buffer(common: &Common, bytes: u32) {
    common.receive_buffer.store((bytes * 2).max(RECEIVE_MIN), Ordering::Relaxed);
}

fn checked_timeout(value: &[u8]) -> Result<u64> {
    let [seconds, microseconds] = words(value)?;
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno::EDOM);
    }
    let Ok(seconds) = u64::try_from(seconds) else { return Ok(AT_ONCE) };
    Ok(seconds.saturating_mul(time::SECOND).saturating_add(microseconds as u64 * 1000))
}
