//! Names of unix sockets: places in the tree, and abstract names.

use super::Unix;
use crate::address::{self, Address};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use hashbrown::HashMap;
use kernel::sync::{BootCell, Mutex};
use linux_raw_sys::net;
use vfs::attributes::Kind;
use vfs::namespace::{Access, Lookup, Path, Target, WalkFlags, check_inode_permission, find, make_socket};

/// `sizeof(struct sockaddr_un)`, of which the path has all but two.
const ADDRESS_MAX: usize = 110;
/// Numbers that autobind has (five hexadecimal digits).
const AUTOMATIC: u32 = 1 << 20;

/// A socket's name.
pub struct Name {
    /// `sun_path` as it was given: an abstract name starts with NUL, a path has one at its end.
    pub text: Vec<u8>,
    /// The place that a path means, held so that its inode number means nothing else meanwhile.
    pub place: Option<(Path, FileKey)>,
}

impl Name {
    /// As a program sees it.
    pub fn address(&self) -> Address {
        Address::new(net::AF_UNIX, &self.text)
    }
}

/// Device and inode number.
type FileKey = (u64, u64);

/// Type and name: two sockets of different types may have one abstract name.
type AbstractKey = (u32, Vec<u8>);

#[derive(Default)]
struct Names {
    abstracts: HashMap<AbstractKey, Weak<Unix>>,
    files: HashMap<FileKey, Weak<Unix>>,
    /// Every socket by its inode number, for `/proc/net/unix`.
    all: HashMap<u64, Weak<Unix>>,
    next_automatic: u32,
}

static NAMES: BootCell<Box<Mutex<Names>>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    NAMES.set(Box::default());
}

fn names() -> Result<&'static Mutex<Names>> {
    NAMES.get().map(|names| &**names).ok_or(Errno::EINVAL)
}

/// Puts a new socket on the list of all.
pub fn register(socket: &Arc<Unix>) {
    if let Ok(names) = names() {
        names.lock().all.insert(socket.common.birth.ino, Arc::downgrade(socket));
    }
}

/// Takes a closed socket off the lists.
pub fn forget(socket: &Unix, name: Option<&Name>) {
    let Ok(names) = names() else { return };
    let mut names = names.lock();
    names.all.remove(&socket.common.birth.ino);
    let Some(name) = name else { return };
    // An accepted socket has the name of the listening one.
    let own = |found: Option<&Weak<Unix>>| found.is_some_and(|found| core::ptr::eq(found.as_ptr(), socket));
    match &name.place {
        Some((_, key)) if own(names.files.get(key)) => {
            names.files.remove(key);
        }
        Some(_) => {}
        None => {
            let key = (socket.common.kind, name.text.clone());
            if own(names.abstracts.get(&key)) {
                names.abstracts.remove(&key);
            }
        }
    }
}

/// All sockets there are, in the order of their making.
pub fn all() -> Vec<Arc<Unix>> {
    let Ok(names) = names() else { return Vec::new() };
    let mut all: Vec<_> = names.lock().all.values().filter_map(Weak::upgrade).collect();
    all.sort_by_key(|socket| socket.common.birth.ino);
    all
}

/// The path part of an address: `EINVAL` unless it is one of the family, not empty and not too long.
pub fn checked(address: &[u8]) -> Result<&[u8]> {
    let text = address.get(2..).filter(|text| !text.is_empty() && address.len() <= ADDRESS_MAX);
    let text = text.ok_or(Errno::EINVAL)?;
    if address::family(address)? == net::AF_UNIX { Ok(text) } else { Err(Errno::EINVAL) }
}

fn path_of(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or(text)
}

/// Whether an address asks for a name of the kernel's choice.
pub fn is_automatic(address: &[u8]) -> bool {
    address.len() == 2 && address::family(address) == Ok(net::AF_UNIX)
}

/// Gives `socket` the name of an address: `EADDRINUSE`, `EINVAL` if it has one, and the errors of mknod(2).
pub fn bind(socket: &Arc<Unix>, address: &[u8], lookup: &Lookup<'_>) -> Result<()> {
    let text = checked(address)?;
    if text.first() == Some(&0) {
        return bind_abstract(socket, text.to_vec());
    }
    let path = path_of(text);
    let mode = socket.common.mode.load(Ordering::Relaxed);
    let in_use = |error| if error == Errno::EEXIST { Errno::EADDRINUSE } else { error };
    let place = make_socket(lookup, path, mode).map_err(in_use)?;
    let attributes = place.inode().attributes()?;
    let key = (attributes.dev, attributes.ino);
    let mut text = path.to_vec();
    text.push(0);
    let name = Name { text, place: Some((place, key)) };
    if socket.set_name(name) {
        names()?.lock().files.insert(key, Arc::downgrade(socket));
        return Ok(());
    }
    // Named before: the node goes again.
    let _ = vfs::namespace::unlink(lookup, linux_raw_sys::general::AT_FDCWD, path);
    Err(Errno::EINVAL)
}

fn bind_abstract(socket: &Arc<Unix>, text: Vec<u8>) -> Result<()> {
    if socket.current_name().is_some() {
        return Err(Errno::EINVAL);
    }
    let mut names = names()?.lock();
    let key = (socket.common.kind, text.clone());
    if names.abstracts.contains_key(&key) {
        return Err(Errno::EADDRINUSE);
    }
    if !socket.set_name(Name { text, place: None }) {
        return Err(Errno::EINVAL);
    }
    names.abstracts.insert(key, Arc::downgrade(socket));
    Ok(())
}

/// Gives `socket` an abstract name that is free (unix(7), Autobind feature); one that has a name keeps it.
pub fn bind_automatically(socket: &Arc<Unix>) -> Result<()> {
    if socket.current_name().is_some() {
        return Ok(());
    }
    for _ in 0..AUTOMATIC {
        let number = {
            let mut names = names()?.lock();
            names.next_automatic = (names.next_automatic + 1) % AUTOMATIC;
            names.next_automatic
        };
        match bind_abstract(socket, format!("\0{number:05x}").into_bytes()) {
            Err(Errno::EADDRINUSE) => {}
            // Another thread was faster.
            Err(Errno::EINVAL) => return Ok(()),
            outcome => return outcome,
        }
    }
    Err(Errno::ENOSPC)
}

/// The socket that an address names: `ECONNREFUSED` if there is none, `EPROTOTYPE` for one of another type, `EACCES` and the
/// other errors of a path.
pub fn find_socket(address: &[u8], lookup: &Lookup<'_>, kind: u32) -> Result<Arc<Unix>> {
    let text = checked(address)?;
    if text.first() == Some(&0) {
        let found = names()?.lock().abstracts.get(&(kind, text.to_vec())).and_then(Weak::upgrade);
        return found.ok_or(Errno::ECONNREFUSED);
    }
    let target = find(lookup, linux_raw_sys::general::AT_FDCWD, path_of(text), WalkFlags::FOLLOW)?;
    let Target::Place(place) = target else { return Err(Errno::ECONNREFUSED) };
    let attributes = place.inode().attributes()?;
    check_inode_permission(lookup.cred, &**place.inode(), Access::WRITE)?;
    if attributes.kind() != Kind::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    let found = names()?.lock().files.get(&(attributes.dev, attributes.ino)).and_then(Weak::upgrade);
    let found = found.ok_or(Errno::ECONNREFUSED)?;
    if found.common.kind == kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
}
