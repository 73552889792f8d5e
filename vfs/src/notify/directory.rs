//! Notice of changes in a directory by signals (fcntl(2) `F_NOTIFY`, "dnotify").
//!
//! A request belongs to an open file description and a descriptor table, as in Linux: it ends when any of the table's descriptors
//! for it is closed.

use super::{InodeKey, Watches, key_of};
use crate::attributes::Kind;
use crate::file::{FileRef, OpenFile};
use crate::signal_io::{self, Recipient};
use crate::table::FileTable;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::task;
use linux_raw_sys::general as raw;

/// A name got another one in the same directory; beside `IN_*`, of which none has this bit.
pub(super) const RENAMED: u32 = 1 << 20;

/// One request.
pub(super) struct Request {
    key: InodeKey,
    /// The description, by address and to reach it.
    file: (usize, Weak<OpenFile>),
    table: usize,
    fd: i32,
    /// `IN_*` and [`RENAMED`].
    mask: u32,
    multishot: bool,
}

/// `IN_*` for `DN_*` (`convert_arg`).
fn converted(notify: u32) -> u32 {
    let pairs = [
        (raw::DN_ACCESS, raw::IN_ACCESS),
        (raw::DN_MODIFY, raw::IN_MODIFY),
        (raw::DN_CREATE, raw::IN_CREATE | raw::IN_MOVED_TO),
        (raw::DN_DELETE, raw::IN_DELETE | raw::IN_MOVED_FROM),
        (raw::DN_RENAME, RENAMED),
        (raw::DN_ATTRIB, raw::IN_ATTRIB),
    ];
    pairs.iter().filter(|(bit, _)| notify & bit != 0).fold(0, |mask, (_, bits)| mask | bits)
}

fn address<T>(thing: &T) -> usize {
    core::ptr::from_ref(thing) as usize
}

impl Watches {
    fn take_requests(&self, wanted: impl FnMut(&mut Request) -> bool) {
        let taken: Vec<Request> = self.requests.lock().extract_if(.., wanted).collect();
        self.count.fetch_sub(u32::try_from(taken.len()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// `F_NOTIFY`: `ENOTDIR`. Without any event the request ends.
pub fn notify(table: &FileTable, file: &FileRef, fd: i32, argument: u32) -> Result<()> {
    let multishot = argument & raw::DN_MULTISHOT != 0;
    if argument & !raw::DN_MULTISHOT == 0 {
        descriptor_closed(table, file);
        return Ok(());
    }
    let path =
        file.path.as_ref().filter(|path| path.dentry.kind() == Kind::Directory).ok_or(Errno::ENOTDIR)?;
    let watches = &path.dentry.tree().watches;
    let key = key_of(&**path.inode())?;
    {
        let mut owner = file.owner.lock();
        if matches!(owner.to, Recipient::Nobody) {
            let task = task::current();
            let cred = task.cred();
            owner.to = Recipient::Process(Arc::downgrade(&task.group));
            owner.users = (cred.uid, cred.euid);
        }
    }
    let mask = converted(argument);
    let (own, table) = (address(&**file), address(table));
    let mut requests = watches.requests.lock();
    match requests.iter_mut().find(|request| request.file.0 == own && request.table == table) {
        Some(request) => {
            request.mask |= mask;
            request.multishot |= multishot;
        }
        None => {
            requests.push(Request { key, file: (own, Arc::downgrade(file)), table, fd, mask, multishot });
            watches.count.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// A descriptor was closed: the request that its table made through it ends.
pub(crate) fn descriptor_closed(table: &FileTable, file: &OpenFile) {
    let Some(path) = &file.path else { return };
    let watches = &path.dentry.tree().watches;
    if path.dentry.kind() == Kind::Directory && !watches.none() {
        let (own, table) = (address(file), address(table));
        watches.take_requests(|request| request.file.0 == own && request.table == table);
    }
}

/// Something happened to an inode, or in it.
pub(super) fn tell(watches: &Watches, key: InodeKey, mask: u32) {
    let mut told: Vec<(FileRef, i32)> = Vec::new();
    watches.take_requests(|request| {
        if request.key != key || request.mask & mask == 0 {
            return false;
        }
        told.extend(request.file.1.upgrade().map(|file| (file, request.fd)));
        !request.multishot
    });
    for (file, fd) in &told {
        signal_io::message(file, *fd);
    }
}
