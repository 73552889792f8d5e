//! Leases on files (fcntl(2) `F_SETLEASE`): whoever holds one gets a signal when another wants to open the file in a way that
//! goes against it, and the other waits until the lease is given up or the time for that is over.
//!
//! Leases are found through their filesystem, whose number of them an open looks at first, so nobody pays for what nobody holds.
//!
//! Locks: a filesystem's leases are a leaf below an inode's; signals are sent without it.

use crate::attributes::Kind;
use crate::file::{FileRef, OpenFile};
use crate::namespace::Path;
use crate::signal_io::{self, Recipient};
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::cred::Cred;
use kernel::poll::PollEvents;
use kernel::sync::Mutex;
use kernel::time;
use kernel::wait::{self, Ended, WaitQueue};
use linux_raw_sys::general as raw;

/// How long a holder may take (`/proc/sys/fs/lease-break-time`).
const BREAK_TIME: u64 = 45 * time::SECOND;

/// What a lease is for; the numbers are fcntl(2)'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseKind {
    /// Nobody opens it for writing.
    Read,
    /// Nobody opens it at all.
    Write,
}

impl LeaseKind {
    fn number(kind: Option<LeaseKind>) -> u64 {
        match kind {
            Some(LeaseKind::Read) => u64::from(raw::F_RDLCK),
            Some(LeaseKind::Write) => u64::from(raw::F_WRLCK),
            None => u64::from(raw::F_UNLCK),
        }
    }
}

struct Lease {
    /// The description, by address and to reach it.
    holder: (usize, Weak<OpenFile>),
    fd: i32,
    inode: (u64, u64),
    kind: LeaseKind,
    /// It is to become this (`None`: to end), by then.
    breaking: Option<(Option<LeaseKind>, u64)>,
}

/// The leases of one filesystem.
#[derive(Default)]
pub(crate) struct Leases {
    count: AtomicU32,
    list: Mutex<Vec<Lease>>,
    changed: WaitQueue,
}

fn address(file: &OpenFile) -> usize {
    core::ptr::from_ref(file) as usize
}

fn leased_path(file: &FileRef) -> Result<&Path> {
    file.path.as_ref().filter(|path| path.dentry.kind() == Kind::Regular).ok_or(Errno::EINVAL)
}

fn key(path: &Path) -> Result<(u64, u64)> {
    path.inode().attributes().map(|attributes| (attributes.dev, attributes.ino))
}

impl Leases {
    fn none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn set_count(&self, list: &[Lease]) {
        self.count.store(u32::try_from(list.len()).unwrap_or(u32::MAX), Ordering::Release);
    }

    /// Does what holders did not do in time.
    fn end_late(&self) {
        let now = time::monotonic();
        let gone = {
            let mut list = self.list.lock();
            for lease in list.iter_mut() {
                if let Some((Some(target), at)) = lease.breaking
                    && at <= now
                {
                    (lease.kind, lease.breaking) = (target, None);
                }
            }
            let late = |lease: &mut Lease| matches!(lease.breaking, Some((None, at)) if at <= now);
            let gone: Vec<Lease> = list.extract_if(.., late).collect();
            self.set_count(&list);
            gone
        };
        drop(gone);
        self.changed.wake_all(PollEvents::IN);
    }

    /// Takes a description's lease away: whether it had one.
    fn remove(&self, holder: usize) -> bool {
        let removed = {
            let mut list = self.list.lock();
            let place = list.iter().position(|lease| lease.holder.0 == holder);
            let removed = place.map(|place| list.swap_remove(place));
            self.set_count(&list);
            removed
        };
        if removed.is_some() {
            self.changed.wake_all(PollEvents::IN);
        }
        removed.is_some()
    }
}

/// `F_GETLEASE`: what the lease is, or is to become.
pub fn get(file: &FileRef) -> u64 {
    let Ok(path) = leased_path(file) else { return LeaseKind::number(None) };
    let list = path.dentry.tree().leases.list.lock();
    let lease = list.iter().find(|lease| lease.holder.0 == address(file));
    LeaseKind::number(lease.and_then(|lease| match lease.breaking {
        Some((target, _)) => target,
        None => Some(lease.kind),
    }))
}

/// `F_SETLEASE` with `F_UNLCK`: `EAGAIN` without a lease.
pub fn remove(file: &FileRef) -> Result<()> {
    let path = leased_path(file)?;
    if path.dentry.tree().leases.remove(address(file)) { Ok(()) } else { Err(Errno::EAGAIN) }
}

/// `F_SETLEASE`. `others` says of the open files of all processes, this one aside, whether any has the file open, and whether any
/// for writing. `EACCES`, `EAGAIN`, `EINVAL`.
pub fn set(
    file: &FileRef,
    fd: i32,
    kind: LeaseKind,
    cred: &Cred,
    others: impl FnOnce(&dyn Fn(&OpenFile) -> bool) -> (bool, bool),
) -> Result<()> {
    let path = leased_path(file)?;
    if !is_owner_of_lease(cred, path)? {
        return Err(Errno::EACCES);
    }
    let inode = key(path)?;
    let tree = path.dentry.tree();
    let same = |other: &OpenFile| {
        other.path.as_ref().is_some_and(|other| {
            Arc::ptr_eq(other.dentry.tree(), tree) && Arc::ptr_eq(other.inode(), path.inode())
        })
    };
    let (open, written) = others(&same);
    let conflicts = match kind {
        LeaseKind::Read => file.writable() || written,
        LeaseKind::Write => open,
    };
    if conflicts {
        return Err(Errno::EAGAIN);
    }
    let own = address(file);
    {
        let mut list = tree.leases.list.lock();
        let on_it = |lease: &&Lease| lease.inode == inode && lease.holder.0 != own;
        let refused = list.iter().filter(on_it).any(|lease| {
            let ends = matches!(lease.breaking, Some((None, _)));
            kind == LeaseKind::Write || lease.kind == LeaseKind::Write || ends
        });
        if refused {
            return Err(Errno::EAGAIN);
        }
        match list.iter_mut().find(|lease| lease.holder.0 == own) {
            // Also one that is to end: the holder has decided (`lease_modify`).
            Some(lease) => (lease.kind, lease.breaking) = (kind, None),
            None => list.push(Lease { holder: (own, Arc::downgrade(file)), fd, inode, kind, breaking: None }),
        }
        tree.leases.set_count(&list);
    }
    tree.leases.changed.wake_all(PollEvents::IN);
    let mut owner = file.owner.lock();
    if matches!(owner.to, Recipient::Nobody) {
        let group = kernel::task::current().group.clone();
        owner.to = Recipient::Process(Arc::downgrade(&group));
        owner.users = (cred.uid, cred.euid);
    }
    Ok(())
}

/// The file's owner, or whoever has `CAP_LEASE`.
fn is_owner_of_lease(cred: &Cred, path: &Path) -> Result<bool> {
    const CAP_LEASE: u32 = 28;
    let owner = path.inode().owner()?;
    Ok(cred.fsuid == owner.uid || cred.has(CAP_LEASE))
}

/// A description has gone, and with it its lease.
pub(crate) fn closed(file: &OpenFile) {
    if let Some(path) = &file.path
        && !path.dentry.tree().leases.none()
    {
        path.dentry.tree().leases.remove(address(file));
    }
}

/// Somebody is about to open a file, or to cut it off: breaks the leases that this goes against and waits for their end.
/// `EAGAIN` instead of waiting if `nonblocking`.
pub(crate) fn break_for(path: &Path, writes: bool, nonblocking: bool) -> Result<()> {
    let leases = &path.dentry.tree().leases;
    if leases.none() || path.dentry.kind() != Kind::Regular {
        return Ok(());
    }
    let inode = key(path)?;
    let target = if writes { None } else { Some(LeaseKind::Read) };
    let against = |lease: &Lease| lease.inode == inode && (writes || lease.kind == LeaseKind::Write);
    let deadline = time::monotonic().saturating_add(BREAK_TIME);
    let mut told = Vec::new();
    {
        let mut list = leases.list.lock();
        for lease in list.iter_mut().filter(|lease| against(lease)) {
            match &mut lease.breaking {
                Some((now, _)) if *now == target || now.is_none() => {}
                breaking => {
                    *breaking = Some((target, deadline));
                    told.extend(lease.holder.1.upgrade().map(|file| (file, lease.fd)));
                }
            }
        }
    }
    for (file, fd) in &told {
        signal_io::message(file, *fd);
    }
    drop(told);
    loop {
        let until = {
            let list = leases.list.lock();
            let left = list.iter().filter(|lease| against(lease));
            left.filter_map(|lease| lease.breaking).map(|(_, at)| at).min()
        };
        let Some(until) = until else { return Ok(()) };
        if nonblocking {
            return Err(Errno::EAGAIN);
        }
        let gone = || {
            let left = leases.list.lock().iter().any(&against);
            (!left).then_some(())
        };
        match wait::until(&[&leases.changed], Some(until), gone) {
            Ok(()) => return Ok(()),
            Err(Ended::TimedOut) => leases.end_late(),
            Err(ended) => return Err(ended.errno(Errno::EINTR)),
        }
    }
}
