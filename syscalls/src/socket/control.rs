//! Control messages (cmsg(3)).

use crate::file::descriptor_limit;
use crate::process::pidfd;
use crate::table::Context;
use crate::{Errno, Result};
use alloc::vec::Vec;
use kernel::cred::cap;
use kernel::task::{Pid, PidSpace, lock_table};
use kernel::uaccess;
use linux_raw_sys::{general as raw, net};
use netstack::common::Switches;
use netstack::message::{Attached, Credentials, Incoming};
use netstack::socket::Socket;

/// Bytes of control messages in one send (`net.core.optmem_max`).
const SENT_MAX: usize = 128 << 10;
/// Size of a header; data are aligned to 8 bytes.
const HEADER: usize = size_of::<net::cmsghdr>();
/// A pidfd of the sender (`SCM_PIDFD`).
const SCM_PIDFD: u32 = 4;

/// What a program attaches to a message: `EINVAL` for what is malformed or unknown, `EBADF`, `EPERM` for somebody else's
/// credentials, `ENOBUFS`.
pub fn read(context: &Context<'_>, socket: &dyn Socket, at: u64, length: usize) -> Result<Attached> {
    if length > SENT_MAX {
        return Err(Errno::ENOBUFS);
    }
    let bytes = uaccess::read_bytes(at, length)?;
    let unix = socket.common().family == net::AF_UNIX;
    let mut attached = Attached::default();
    let mut rest = bytes.as_slice();
    while rest.len() >= HEADER {
        let word =
            |at: usize| rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        let long = rest.get(..8).and_then(|bytes| bytes.try_into().ok()).map(usize::from_ne_bytes);
        let (Some(length), Some(level), Some(kind)) = (long, word(8), word(12)) else { break };
        let data = rest.get(HEADER..length).ok_or(Errno::EINVAL)?;
        match (level, kind) {
            (net::SOL_SOCKET, net::SCM_RIGHTS) if unix => {
                for fd in data.chunks_exact(4) {
                    let fd = fd.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL)?;
                    attached.files.push(context.files().get_any(fd)?);
                    if attached.files.len() > netstack::unix::FILES_MAX {
                        return Err(Errno::EINVAL);
                    }
                }
            }
            (net::SOL_SOCKET, net::SCM_CREDENTIALS) if unix => {
                attached.credentials = Some(credentials(context, data)?);
            }
            (net::SOL_SOCKET, _) if unix => return Err(Errno::EINVAL),
            _ => {
                // Longer ones (addresses, timestamps) change nothing here.
                if let Ok(value) = data.try_into().map(i32::from_ne_bytes) {
                    attached.numbers.push((level, kind, value));
                }
            }
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(attached)
}

/// `SCM_CREDENTIALS`: the caller's own ids, unless it is privileged.
fn credentials(context: &Context<'_>, data: &[u8]) -> Result<Credentials> {
    if data.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let mut words = [0u32; 3];
    for (word, bytes) in words.iter_mut().zip(data.chunks_exact(4)) {
        *word = bytes.try_into().map(u32::from_ne_bytes).map_err(|_| Errno::EINVAL)?;
    }
    let [pid, uid, gid] = words;
    let task = &context.thread.task;
    let cred = task.cred();
    let own_pid = pid as i32 == context.shown(task.group.tgid);
    let own_uid = [cred.uid, cred.euid, cred.suid].contains(&uid);
    let own_gid = [cred.gid, cred.egid, cred.sgid].contains(&gid);
    if !(own_pid || cred.has(cap::SYS_ADMIN))
        || !(own_uid || cred.has(cap::SETUID))
        || !(own_gid || cred.has(cap::SETGID))
    {
        return Err(Errno::EPERM);
    }
    let pid = context.named(pid as i32)?;
    if !own_pid && lock_table()?.group(pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(Credentials { pid, uid, gid })
}

/// The program's buffer for control messages.
pub struct Room {
    at: u64,
    left: usize,
    used: usize,
    truncated: bool,
}

impl Room {
    /// `length` bytes at `at`.
    pub fn new(at: u64, length: usize) -> Room {
        Room { at, left: if at == 0 { 0 } else { length }, used: 0, truncated: false }
    }

    /// Bytes used (`msg_controllen`).
    pub fn used(&self) -> usize {
        self.used
    }

    /// `MSG_CTRUNC` if something did not fit.
    pub fn report(&self) -> u32 {
        if self.truncated { net::MSG_CTRUNC } else { 0 }
    }

    /// Puts one message, as much of it as fits.
    fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.left < HEADER {
            self.truncated = true;
            return;
        }
        let room = self.left - HEADER;
        let data = data.get(..room).map_or(data, |cut| {
            self.truncated |= cut.len() < data.len();
            cut
        });
        let length = HEADER + data.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&level.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(data);
        if uaccess::write_bytes(self.at, &bytes).is_err() {
            return;
        }
        let space = length.next_multiple_of(8).min(self.left);
        self.at += space as u64;
        self.used += space;
        self.left -= space;
    }

    /// Puts all that came with a message, in the host kernel's order, and gives received files their numbers.
    pub fn put_all(
        &mut self,
        context: &Context<'_>,
        socket: &dyn Socket,
        message: Incoming<'_, '_>,
        close_on_exec: bool,
    ) {
        for (level, kind, data) in &message.ancillary {
            self.put(*level, *kind, data);
        }
        if let Some(Credentials { pid, uid, gid }) = message.credentials {
            if socket.common().is_on(Switches::PASS_CREDENTIALS) {
                let words = [context.shown(pid) as u32, uid, gid];
                let data: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                self.put(net::SOL_SOCKET, net::SCM_CREDENTIALS, &data);
            }
            if socket.common().is_on(Switches::PASS_PIDFD) {
                self.put_pidfd(context, pid);
            }
        }
        if !message.files.is_empty() {
            self.put_files(context, message.files, close_on_exec);
        }
    }

    fn put_pidfd(&mut self, context: &Context<'_>, pid: Pid) {
        if self.left < HEADER + 4 {
            self.truncated = true;
            return;
        }
        let fd = pidfd::install_for(context, pid).unwrap_or_else(|error| error.as_result() as i32);
        self.put(net::SOL_SOCKET, SCM_PIDFD, &fd.to_ne_bytes());
    }

    /// As many descriptors as there is room for; the others are closed.
    fn put_files(&mut self, context: &Context<'_>, files: Vec<vfs::file::FileRef>, close_on_exec: bool) {
        let room = self.left.saturating_sub(HEADER) / 4;
        let (count, limit) = (files.len(), descriptor_limit(context));
        let mut data = Vec::new();
        for file in files.into_iter().take(room) {
            match context.files().insert(file, close_on_exec, limit) {
                Ok(fd) => data.extend_from_slice(&fd.to_ne_bytes()),
                Err(_) => break,
            }
        }
        self.truncated |= data.len() / 4 < count;
        if !data.is_empty() {
            self.put(net::SOL_SOCKET, net::SCM_RIGHTS, &data);
        }
    }
}

/// A descriptor for a socket's peer, whose kernel's number is the option's value: `ENODATA` if there is none, `ESRCH`. Whether the caller
/// sees it by a number plays no part.
pub fn peer_pidfd(context: &Context<'_>, peer: &[u8]) -> Result<i32> {
    let number = peer.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    pidfd::install_for(context, PidSpace::ALL.named(number).ok_or(Errno::ENODATA)?)
}

const _: () = assert!(HEADER == 16 && raw::O_CLOEXEC != 0);
