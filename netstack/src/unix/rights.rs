//! Descriptors in flight (`SCM_RIGHTS`): how many there may be, what closes those that nobody receives, and the collection of
//! sockets that only hold each other.
//!
//! A socket is garbage when all references to its description lie in messages that only garbage could receive. As on Linux
//! (`net/unix/garbage.c`): sockets with no other references than those in flight are candidates; what a candidate holds does not
//! count; candidates that are still referenced, and all that they hold, live on.
//!
//! Locks: the register stands above the queues of sockets. Messages are taken from queues without it, and what is dropped is
//! dropped without either.

use super::Unix;
use crate::socket::{self, SocketFile};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hashbrown::{HashMap, HashSet};
use kernel::cred::cap;
use kernel::sync::{BootCell, Mutex};
use kernel::task;
use linux_raw_sys::general::RLIMIT_NOFILE;
use vfs::file::{FileRef, OpenFile};

/// Descriptors of one message at most (`SCM_MAX_FD`).
pub const FILES_MAX: usize = 253;
/// So many descriptors in flight, and a send looks for garbage first (`UNIX_INFLIGHT_TRIGGER_GC`).
const COLLECT_AT: usize = 16_000;

/// A description's address.
type Key = usize;

fn key(file: &FileRef) -> Key {
    Arc::as_ptr(file) as usize
}

#[derive(Default)]
struct Register {
    /// Descriptors in flight, by sending user.
    users: HashMap<u32, usize>,
    total: usize,
    /// Unix sockets in flight and how often.
    sockets: HashMap<Key, (Weak<OpenFile>, usize)>,
    /// How often one of them lost a reference since garbage was looked for.
    suspicions: usize,
    collecting: bool,
}

impl Register {
    /// Whether to look for garbage now: the more is in flight, the rarer, so that it costs little for each reference.
    fn is_due(&self) -> bool {
        const SHARE: usize = 8;
        !self.collecting && self.suspicions > 0 && self.suspicions * SHARE >= self.sockets.len()
    }
}

/// Files that are to be closed, and whether a thread is at it: a chain of sockets in flight in sockets is closed in a loop,
/// not by recursion.
#[derive(Default)]
struct Closing {
    files: Vec<FileRef>,
    busy: bool,
}

#[derive(Default)]
struct Shared {
    register: Mutex<Register>,
    closing: Mutex<Closing>,
}

static SHARED: BootCell<Box<Shared>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    SHARED.set(Box::default());
}

fn is_of(file: &FileRef, socket: &SocketFile) -> bool {
    file.ops.as_any().downcast_ref::<SocketFile>().is_some_and(|found| core::ptr::eq(found, socket))
}

fn unix(file: &FileRef) -> Option<&Unix> {
    socket::of(file).ok().and_then(|socket| socket.as_any().downcast_ref())
}

/// Descriptors on their way.
pub struct Rights {
    files: Vec<FileRef>,
    user: u32,
}

impl Rights {
    /// Sends descriptors off: `ETOOMANYREFS` if the user has too many on the way, `EINVAL` for too many in one message.
    pub fn new(files: Vec<FileRef>) -> Result<Rights> {
        if files.len() > FILES_MAX {
            return Err(Errno::EINVAL);
        }
        let Some(shared) = SHARED.get() else { return Err(Errno::ETOOMANYREFS) };
        let crowded = shared.register.lock().total > COLLECT_AT;
        if crowded {
            collect(None);
        }
        let task = task::current();
        let cred = task.cred();
        let privileged = cred.has(cap::SYS_RESOURCE) || cred.has(cap::SYS_ADMIN);
        let mut register = shared.register.lock();
        let flying = register.users.get(&cred.uid).copied().unwrap_or(0);
        if flying as u64 > task.rlimit(RLIMIT_NOFILE) && !privileged {
            return Err(Errno::ETOOMANYREFS);
        }
        register.total += files.len();
        *register.users.entry(cred.uid).or_default() += files.len();
        for (file, unix) in files.iter().filter_map(|file| Some((file, unix(file)?))) {
            unix.flying.fetch_add(1, Ordering::SeqCst);
            register.sockets.entry(key(file)).or_insert_with(|| (Arc::downgrade(file), 0)).1 += 1;
        }
        drop(register);
        Ok(Rights { files, user: cred.uid })
    }

    /// The files, for a receiver that leaves them where they are (`MSG_PEEK`).
    pub fn files(&self) -> &[FileRef] {
        &self.files
    }

    /// The files, which have arrived.
    pub fn arrive(mut self) -> Vec<FileRef> {
        self.land();
        core::mem::take(&mut self.files)
    }

    /// They are not in flight any more; whether to look for garbage if they are closed now.
    fn land(&self) -> bool {
        let Some(shared) = SHARED.get() else { return false };
        let mut register = shared.register.lock();
        register.total = register.total.saturating_sub(self.files.len());
        if let Some(flying) = register.users.get_mut(&self.user) {
            *flying = flying.saturating_sub(self.files.len());
            if *flying == 0 {
                register.users.remove(&self.user);
            }
        }
        for (file, unix) in self.files.iter().filter_map(|file| Some((file, unix(file)?))) {
            unix.flying.fetch_sub(1, Ordering::SeqCst);
            if let Some((_, count)) = register.sockets.get_mut(&key(file)) {
                *count -= 1;
                if *count == 0 {
                    register.sockets.remove(&key(file));
                } else {
                    register.suspicions += 1;
                }
            }
        }
        register.is_due()
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if !self.files.is_empty() {
            let due = self.land();
            close(core::mem::take(&mut self.files));
            if due {
                collect(None);
            }
        }
    }
}

fn close(files: Vec<FileRef>) {
    let Some(shared) = SHARED.get() else { return };
    let mut closing = shared.closing.lock();
    closing.files.extend(files);
    if closing.busy {
        return;
    }
    closing.busy = true;
    while let Some(file) = closing.files.pop() {
        drop(closing);
        drop(file);
        closing = shared.closing.lock();
    }
    closing.busy = false;
}

/// A descriptor of a unix socket is being closed: if it is in flight as well, that may have been what led to it.
pub fn descriptor_closed(closing: &SocketFile) {
    let Some(shared) = SHARED.get() else { return };
    let unix: Option<&Unix> = closing.socket().as_any().downcast_ref();
    if unix.is_none_or(|unix| unix.flying.load(Ordering::SeqCst) == 0) {
        return;
    }
    let due = {
        let mut register = shared.register.lock();
        register.suspicions += 1;
        register.is_due()
    };
    if due {
        collect(Some(closing));
    }
}

/// Empties the queues of sockets that only hold each other. The reference by which one is being closed does not count.
fn collect(closing: Option<&SocketFile>) {
    let Some(shared) = SHARED.get() else { return };
    let mut register = shared.register.lock();
    if register.collecting {
        return;
    }
    register.collecting = true;
    register.suspicions = 0;
    // Counts before any reference is taken here. A description that is only in flight gets no new references: whoever receives
    // or peeks one finds it in the queue of a socket that is none of these, or that turns out to be alive.
    let candidates: HashMap<Key, (FileRef, usize)> = register
        .sockets
        .iter()
        .filter_map(|(&key, (file, count))| {
            let references = file.strong_count();
            let file = file.upgrade()?;
            let being_closed = closing.is_some_and(|closing| is_of(&file, closing));
            (references == *count + usize::from(being_closed)).then_some((key, (file, *count)))
        })
        .collect();
    let held = |file: &FileRef| unix(file).map(Unix::sockets_in_flight).unwrap_or_default();
    let mut outside: HashMap<Key, usize> =
        candidates.iter().map(|(&key, (_, count))| (key, *count)).collect();
    for (file, _) in candidates.values() {
        for inner in held(file) {
            if let Some(count) = outside.get_mut(&inner) {
                *count = count.saturating_sub(1);
            }
        }
    }
    let mut alive: HashSet<Key> = HashSet::new();
    let mut look: Vec<Key> = outside.iter().filter(|(_, count)| **count > 0).map(|(&key, _)| key).collect();
    while let Some(key) = look.pop() {
        if alive.insert(key)
            && let Some((file, _)) = candidates.get(&key)
        {
            look.extend(held(file).into_iter().filter(|inner| candidates.contains_key(inner)));
        }
    }
    let garbage: Vec<Rights> = candidates
        .iter()
        .filter(|(key, _)| !alive.contains(*key))
        .filter_map(|(_, (file, _))| unix(file))
        .flat_map(Unix::take_rights)
        .collect();
    drop(register);
    drop(garbage);
    drop(candidates);
    shared.register.lock().collecting = false;
}

/// The addresses of unix sockets' descriptions among `rights`.
pub fn sockets_among<'a>(rights: impl Iterator<Item = &'a Rights>) -> Vec<usize> {
    rights.flat_map(|rights| &rights.files).filter(|file| unix(file).is_some()).map(key).collect()
}
