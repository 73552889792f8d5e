//! POSIX message queues (mq_overview(7)): a filesystem whose files are the queues. There is one for the whole sandbox, which
//! mq_open(2) uses and `/dev/mqueue` shows.

mod open;
mod queue;

pub use open::OpenQueue;
pub use queue::{COOKIE, Message, Notice, NoticeSocket, PRIORITIES, Queue};

use crate::anonymous::Birth;
use crate::attributes::{AttributeChange, Attributes, Kind, device};
use crate::file::FileOps;
use crate::inode::{Inode, NewKind, NewNode};
use crate::namespace::{Access, NAME_MAX, check_permission};
use crate::tmpfs::Entries;
use crate::{Errno, Result};
use alloc::sync::Arc;
use boundary::sysctl::{MSG_DEFAULT, MSG_MAX, MSGSIZE_DEFAULT, MSGSIZE_MAX, QUEUES_MAX};
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;
use kernel::cred::{Cred, cap};
use kernel::sync::{BootCell, Mutex};
use kernel::time::file_time;
use kernel::{boot, task};
use linux_raw_sys::general as raw;
use queue::Meta;

/// For the privileged (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
const HARD_MESSAGES: u64 = 65536;
const HARD_MESSAGE_SIZE: u64 = 16 << 20;
/// What Linux accounts for a message and for a priority (`struct msg_msg`, `struct posix_msg_tree_node`).
const ACCOUNTED_MESSAGE: u64 = 48;
const ACCOUNTED_PRIORITY: u64 = 48;
/// `MQUEUE_MAGIC`.
const MAGIC: i64 = 0x1980_0202;
const DEVICE: u64 = device(0, 20);
/// What a name counts for in the size of its directory, and the size of each file (`FILENT_SIZE`).
const NAME_SIZE: u64 = 20;
const FILE_SIZE: u64 = 80;

/// The filesystem.
pub struct Filesystem {
    birth: Birth,
    meta: Mutex<Meta>,
    queues: Mutex<Entries<Arc<Queue>>>,
    /// Queues that are there, those without a name included. Grows with the lock of `queues` held.
    count: AtomicU64,
    /// Bytes that queues of a user may take up (`RLIMIT_MSGQUEUE`).
    users: Mutex<HashMap<u32, u64>>,
}

static FILESYSTEM: BootCell<Arc<Filesystem>> = BootCell::new();

/// Sets up the filesystem. Called once, at boot.
pub fn init() {
    let birth = Birth::of(0, 0);
    let now = birth.time;
    let meta = Meta { mode: 0o1777, uid: 0, gid: 0, nlink: 2, atime: now, mtime: now, ctime: now };
    let fs = Filesystem {
        birth,
        meta: Mutex::new(meta),
        queues: Mutex::default(),
        count: AtomicU64::new(0),
        users: Mutex::default(),
    };
    FILESYSTEM.set(Arc::new(fs));
}

/// The filesystem.
pub fn filesystem() -> Result<&'static Arc<Filesystem>> {
    FILESYSTEM.get().ok_or(Errno::ENOSYS)
}

/// Capacity of a queue that is to be made: messages, and bytes of each. `EINVAL`.
fn check_capacity(capacity: (i64, i64), cred: &Cred) -> Result<(u64, u64)> {
    let (messages, size) = if cred.has(cap::SYS_RESOURCE) {
        (HARD_MESSAGES, HARD_MESSAGE_SIZE)
    } else {
        (boot::sysctl_number(&MSG_MAX, 0), boot::sysctl_number(&MSGSIZE_MAX, 0))
    };
    let within = |value: i64, most: u64| u64::try_from(value).ok().filter(|value| (1..=most).contains(value));
    within(capacity.0, messages).zip(within(capacity.1, size)).ok_or(Errno::EINVAL)
}

/// Capacity where nothing is said (`mqueue_get_inode`).
fn default_capacity() -> (u64, u64) {
    let least = |default, most| boot::sysctl_number(default, 0).min(boot::sysctl_number(most, 0));
    (least(&MSG_DEFAULT, &MSG_MAX), least(&MSGSIZE_DEFAULT, &MSGSIZE_MAX))
}

/// A name without slashes, as the calls take it: `ENOENT`, `EACCES`, `ENAMETOOLONG`.
fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" => Err(Errno::ENOENT),
        _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        b"." | b".." => Err(Errno::EACCES),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(()),
    }
}

impl Filesystem {
    /// The queue of a name: `ENOENT`.
    fn queue(&self, name: &[u8]) -> Result<Arc<Queue>> {
        self.queues.lock().get(name).cloned().ok_or(Errno::ENOENT)
    }

    /// mq_open(2): an existing queue or, with `O_CREAT`, a new one with `mode` (umask applied) and `capacity` (messages, bytes of
    /// each; `None` for the defaults).
    pub fn open(
        self: &Arc<Self>,
        name: &[u8],
        flags: u32,
        mode: u32,
        capacity: Option<(i64, i64)>,
    ) -> Result<Arc<OpenQueue>> {
        check_name(name)?;
        let cred = task::current().cred();
        let queue = match self.queue(name) {
            Err(_) if flags & raw::O_CREAT == 0 => return Err(Errno::ENOENT),
            Err(_) => {
                // The directory is everybody's to write to, unless its mode was changed.
                check_permission(&cred, &self.owner(), Access::WRITE | Access::EXECUTE)?;
                let (uid, gid) = (cred.fsuid, cred.fsgid);
                self.make(name, (uid, gid, mode), capacity)?
            }
            Ok(_) if flags & raw::O_CREAT != 0 && flags & raw::O_EXCL != 0 => return Err(Errno::EEXIST),
            Ok(_) if flags & raw::O_ACCMODE == raw::O_ACCMODE => return Err(Errno::EINVAL),
            Ok(queue) => {
                check_permission(&cred, &queue.owner()?, Access::of_open(flags & raw::O_ACCMODE))?;
                queue
            }
        };
        Ok(Arc::new(OpenQueue(queue)))
    }

    fn owner(&self) -> crate::attributes::Owner {
        let meta = self.meta.lock();
        crate::attributes::Owner { mode: raw::S_IFDIR | meta.mode, uid: meta.uid, gid: meta.gid, acl: false }
    }

    fn make(
        self: &Arc<Self>,
        name: &[u8],
        owner: (u32, u32, u32),
        capacity: Option<(i64, i64)>,
    ) -> Result<Arc<Queue>> {
        let cred = task::current().cred();
        let mut queues = self.queues.lock();
        if queues.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let count = self.count.load(Ordering::Relaxed);
        if count >= boot::sysctl_number(&QUEUES_MAX, 0) && !cred.has(cap::SYS_RESOURCE) {
            return Err(Errno::ENOSPC);
        }
        let capacity = match capacity {
            Some(capacity) => check_capacity(capacity, &cred)?,
            None => default_capacity(),
        };
        let per_message = capacity.1 + ACCOUNTED_MESSAGE;
        let priorities = capacity.0.min(u64::from(PRIORITIES));
        let account = (cred.uid, capacity.0 * per_message + priorities * ACCOUNTED_PRIORITY);
        self.charge(account)?;
        self.count.fetch_add(1, Ordering::Relaxed);
        let queue = Queue::new(self, name, owner, capacity, account);
        queues.insert(name, queue.clone());
        drop(queues);
        self.names_changed();
        Ok(queue)
    }

    /// mq_unlink(2): `ENOENT`, `EACCES`, `EPERM`.
    pub fn unlink_queue(&self, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let cred = task::current().cred();
        let victim = self.queue(name)?;
        let directory = self.owner();
        check_permission(&cred, &directory, Access::WRITE | Access::EXECUTE)?;
        let sticky = directory.mode & raw::S_ISVTX != 0;
        let owned = [victim.meta.lock().uid, directory.uid].contains(&cred.fsuid);
        if sticky && !owned && !cred.has(cap::FOWNER) {
            return Err(Errno::EPERM);
        }
        self.unlink(name)
    }

    fn charge(&self, (user, bytes): (u32, u64)) -> Result<()> {
        let limit = task::current().rlimit(raw::RLIMIT_MSGQUEUE);
        let mut users = self.users.lock();
        let used = users.entry(user).or_default();
        let sum = used.checked_add(bytes).filter(|&sum| sum <= limit).ok_or(Errno::EMFILE)?;
        *used = sum;
        Ok(())
    }

    /// A queue has gone.
    fn refund(&self, (user, bytes): (u32, u64)) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        let mut users = self.users.lock();
        if let Some(used) = users.get_mut(&user) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                users.remove(&user);
            }
        }
    }

    fn names_changed(&self) {
        let now = file_time();
        let mut meta = self.meta.lock();
        (meta.atime, meta.mtime, meta.ctime) = (now, now, now);
    }
}

fn change(meta: &mut Meta, change: &AttributeChange) {
    meta.mode = change.mode.map_or(meta.mode, |mode| mode & 0o7777);
    meta.uid = change.uid.unwrap_or(meta.uid);
    meta.gid = change.gid.unwrap_or(meta.gid);
    meta.atime = change.atime.unwrap_or(meta.atime);
    meta.mtime = change.mtime.unwrap_or(meta.mtime);
    meta.ctime = file_time();
}

fn attributes(meta: &Meta, birth: &Birth, kind: Kind, size: u64) -> Attributes {
    Attributes {
        nlink: meta.nlink,
        uid: meta.uid,
        gid: meta.gid,
        size,
        atime: meta.atime,
        mtime: meta.mtime,
        ctime: meta.ctime,
        ..birth.attributes(DEVICE, kind.mode_bits() | meta.mode)
    }
}

fn statfs() -> raw::statfs {
    raw::statfs {
        f_type: MAGIC,
        f_bsize: 4096,
        f_blocks: 0,
        f_bfree: 0,
        f_bavail: 0,
        f_files: 0,
        f_ffree: 0,
        f_fsid: raw::__kernel_fsid_t { val: [DEVICE as i32, 0] },
        f_namelen: NAME_MAX as i64,
        f_frsize: 4096,
        f_flags: 0,
        f_spare: [0; 4],
    }
}

impl Inode for Filesystem {
    fn attributes(&self) -> Result<Attributes> {
        let size = self.queues.lock().len() as u64 * NAME_SIZE;
        Ok(attributes(&self.meta.lock(), &self.birth, Kind::Directory, size))
    }

    fn kind(&self) -> Kind {
        Kind::Directory
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, wanted: &AttributeChange) -> Result<()> {
        change(&mut self.meta.lock(), wanted);
        Ok(())
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(open::OpenDirectory(self)))
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.queue(name)?)
    }

    /// mq_open(2) and mq_unlink(2) change names without the dentries' knowledge.
    fn cacheable(&self) -> bool {
        false
    }

    fn create(&self, name: &[u8], node: &NewNode<'_>) -> Result<Arc<dyn Inode>> {
        if !matches!(node.what, NewKind::Regular) {
            return Err(Errno::EPERM);
        }
        Ok(filesystem()?.make(name, (node.uid, node.gid, node.mode), None)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let gone = self.queues.lock().remove(name).ok_or(Errno::ENOENT)?;
        {
            let mut meta = gone.meta.lock();
            meta.nlink = 0;
            meta.ctime = file_time();
        }
        drop(gone);
        self.names_changed();
        Ok(())
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(statfs())
    }
}

impl Inode for Queue {
    fn attributes(&self) -> Result<Attributes> {
        Ok(attributes(&self.meta.lock(), &self.birth, Kind::Regular, FILE_SIZE))
    }

    fn kind(&self) -> Kind {
        Kind::Regular
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn set_attributes(&self, wanted: &AttributeChange) -> Result<()> {
        change(&mut self.meta.lock(), wanted);
        Ok(())
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn FileOps>> {
        Ok(Arc::new(OpenQueue(self)))
    }

    fn revalidate(&self, parent: &dyn Inode, name: &[u8], _told: &mut Option<Attributes>) -> bool {
        let Some(fs) = parent.as_any().downcast_ref::<Filesystem>() else { return false };
        fs.queue(name).is_ok_and(|queue| core::ptr::eq(&*queue, self))
    }

    fn filesystem(&self) -> Result<raw::statfs> {
        Ok(statfs())
    }
}
