//! A message queue: messages by priority, those who wait, and who wants to be told of the first message (mq_notify(3)).
//!
//! A message goes straight to the receiver that has waited longest; when one is taken, the message of the sender that has waited
//! longest takes its place: nobody can be passed over between a wake-up and a second look.

use super::Filesystem;
use crate::anonymous::Birth;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use kernel::ipc::Charge;
use kernel::poll::PollEvents;
use kernel::signal::{self, SigInfo};
use kernel::sync::Mutex;
use kernel::task::{self, Pid};
use kernel::time::file_time;
use kernel::wait::{self, Ended, WaitQueue, Waiter};
use linux_raw_sys::general as raw;

/// Priorities at most (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;

/// A message.
pub struct Message {
    /// Its priority; higher ones are taken first.
    pub priority: u32,
    /// Its bytes.
    pub text: Box<[u8]>,
    _charge: Charge,
}

impl Message {
    /// A message: `ENOMEM`.
    pub fn new(priority: u32, text: Vec<u8>) -> Result<Message> {
        let charge = Charge::new((text.len() + size_of::<Message>()) as u64)?;
        Ok(Message { priority, text: text.into(), _charge: charge })
    }
}

/// How somebody is told that there is a message (`struct sigevent`).
#[derive(Clone)]
pub enum Notice {
    /// Not at all; nobody else can ask to be told (`SIGEV_NONE`).
    Silent,
    /// By a signal with a value (`SIGEV_SIGNAL`).
    Signal(i32, u64),
    /// By these bytes on a socket, where a thread of the C library waits for them (`SIGEV_THREAD`).
    Socket(Arc<dyn NoticeSocket>, [u8; COOKIE]),
}

/// Bytes of what a [`NoticeSocket`] is given (`NOTIFY_COOKIE_LEN`).
pub const COOKIE: usize = 32;

/// A socket that takes notices: a netlink socket (crate `netstack`).
pub trait NoticeSocket: Send + Sync {
    /// Puts the notice in front of who receives from the socket. One that finds no room is lost, as in Linux.
    fn put(&self, cookie: &[u8; COOKIE]);
}

/// Why a notice comes: its last byte.
#[derive(Clone, Copy)]
enum Why {
    /// There is a message (`NOTIFY_WOKENUP`).
    Message = 1,
    /// None will be told of (`NOTIFY_REMOVED`).
    Removed = 2,
}

fn put_cookie(socket: &dyn NoticeSocket, mut cookie: [u8; COOKIE], why: Why) {
    let [.., last] = &mut cookie;
    *last = why as u8;
    socket.put(&cookie);
}

/// A receiver or sender that waits: a receiver gets the message, a sender had its message taken.
struct Sleeper {
    waiter: Arc<Waiter>,
    message: Mutex<Option<Message>>,
    served: Mutex<bool>,
}

impl Sleeper {
    fn new(message: Option<Message>) -> Arc<Sleeper> {
        let waiter = task::current().waiter.clone();
        Arc::new(Sleeper { waiter, message: Mutex::new(message), served: Mutex::new(false) })
    }

    fn serve(&self) {
        *self.served.lock() = true;
        self.waiter.wake(PollEvents::IN);
    }
}

#[derive(Default)]
struct State {
    /// By falling priority, the oldest first.
    messages: BTreeMap<Reverse<u32>, VecDeque<Message>>,
    count: u64,
    bytes: u64,
    receivers: VecDeque<Arc<Sleeper>>,
    senders: VecDeque<Arc<Sleeper>>,
    /// Process that is to be told of the next message, and how.
    notice: Option<(Pid, Notice)>,
}

impl State {
    fn put(&mut self, message: Message) {
        self.count += 1;
        self.bytes += message.text.len() as u64;
        self.messages.entry(Reverse(message.priority)).or_default().push_back(message);
    }

    fn take(&mut self) -> Option<Message> {
        let mut first = self.messages.first_entry()?;
        let message = first.get_mut().pop_front()?;
        if first.get().is_empty() {
            first.remove();
        }
        self.count -= 1;
        self.bytes -= message.text.len() as u64;
        Some(message)
    }
}

/// What stat(2) tells.
pub(super) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    pub atime: raw::timespec,
    pub mtime: raw::timespec,
    pub ctime: raw::timespec,
}

/// A message queue.
pub struct Queue {
    pub(super) fs: Arc<Filesystem>,
    pub(super) birth: Birth,
    pub(super) meta: Mutex<Meta>,
    /// As it was named.
    pub(super) name: Box<[u8]>,
    /// Messages at most.
    pub capacity: u64,
    /// Bytes of a message at most.
    pub message_size: u64,
    /// Accounted to this user.
    pub(super) account: (u32, u64),
    state: Mutex<State>,
    pub(super) changed: WaitQueue,
}

impl Queue {
    pub(super) fn new(
        fs: &Arc<Filesystem>,
        name: &[u8],
        (uid, gid, mode): (u32, u32, u32),
        (capacity, message_size): (u64, u64),
        account: (u32, u64),
    ) -> Arc<Queue> {
        let birth = Birth::of(uid, gid);
        let now = birth.time;
        let meta = Meta { mode, uid, gid, nlink: 1, atime: now, mtime: now, ctime: now };
        Arc::new(Queue {
            fs: fs.clone(),
            birth,
            meta: Mutex::new(meta),
            name: name.into(),
            capacity,
            message_size,
            account,
            state: Mutex::default(),
            changed: WaitQueue::new(),
        })
    }

    /// Messages in it, and their bytes.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.count, state.bytes)
    }

    /// Who is to be told of the next message, and how.
    pub fn notice(&self) -> Option<(Pid, Notice)> {
        self.state.lock().notice.clone()
    }

    fn touched(&self, read: bool) {
        let now = file_time();
        let mut meta = self.meta.lock();
        meta.ctime = now;
        if read {
            meta.atime = now;
        } else {
            meta.mtime = now;
        }
    }

    /// mq_send(3): `EMSGSIZE`; waits for room until `deadline` (`CLOCK_MONOTONIC`, ns) unless `nonblocking` (`EAGAIN`):
    /// `ETIMEDOUT`, `EINTR`.
    pub fn send(&self, message: Message, nonblocking: bool, deadline: Option<u64>) -> Result<()> {
        let sleeper = {
            let mut state = self.state.lock();
            if state.count < self.capacity {
                let told = self.deliver(&mut state, message);
                drop(state);
                self.touched(false);
                self.tell(told);
                return Ok(());
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let sleeper = Sleeper::new(Some(message));
            state.senders.push_back(sleeper.clone());
            sleeper
        };
        let ended = wait::until_woken(deadline, || sleeper.served.lock().then_some(()));
        let Err(ended) = ended else { return Ok(()) };
        self.state.lock().senders.retain(|other| !Arc::ptr_eq(other, &sleeper));
        // It may have been served meanwhile.
        if *sleeper.served.lock() { Ok(()) } else { Err(ended_as(ended)) }
    }

    /// Hands a message to a receiver, or puts it in; who is to be told that it is there.
    fn deliver(&self, state: &mut State, message: Message) -> Option<(Pid, Notice)> {
        if let Some(receiver) = state.receivers.pop_front() {
            *receiver.message.lock() = Some(message);
            receiver.serve();
            return None;
        }
        state.put(message);
        self.changed.wake(PollEvents::READABLE);
        if state.count == 1 { state.notice.take() } else { None }
    }

    fn tell(&self, told: Option<(Pid, Notice)>) {
        /// `SI_MESGQ`.
        const CODE: i32 = -3;
        let (pid, number, value) = match told {
            Some((pid, Notice::Signal(number, value))) => (pid, number, value),
            Some((_, Notice::Socket(socket, cookie))) => return put_cookie(&*socket, cookie, Why::Message),
            Some((_, Notice::Silent)) | None => return,
        };
        let task = task::current();
        let mut info = SigInfo::from_process(number, CODE, task.group.tgid, task.cred().uid);
        info.fields[1] = value;
        let group = task::lock_table().ok().and_then(|table| table.group(pid));
        if let Some(group) = group.filter(|_| number != 0) {
            let _ = signal::send_to_group(&group, info);
        }
    }

    /// mq_receive(3), once the caller has room for a message: waits for one as [`Self::send`] waits for room.
    pub fn receive(&self, nonblocking: bool, deadline: Option<u64>) -> Result<Message> {
        let sleeper = {
            let mut state = self.state.lock();
            if let Some(message) = state.take() {
                self.let_sender_go(&mut state);
                drop(state);
                self.touched(true);
                return Ok(message);
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let sleeper = Sleeper::new(None);
            state.receivers.push_back(sleeper.clone());
            sleeper
        };
        let mut got = wait::until_woken(deadline, || sleeper.message.lock().take());
        if got.is_err() {
            self.state.lock().receivers.retain(|other| !Arc::ptr_eq(other, &sleeper));
            // It may have been served meanwhile.
            got = got.or_else(|ended| sleeper.message.lock().take().ok_or(ended));
        }
        got.map_err(ended_as)
    }

    fn let_sender_go(&self, state: &mut State) {
        match state.senders.pop_front() {
            Some(sender) => {
                let message = sender.message.lock().take();
                if let Some(message) = message {
                    state.put(message);
                }
                sender.serve();
            }
            None => self.changed.wake(PollEvents::WRITABLE),
        }
    }

    /// mq_notify(3): `EBUSY` if somebody else is to be told.
    pub fn register(&self, pid: Pid, notice: Notice) -> Result<()> {
        let mut state = self.state.lock();
        if state.notice.is_some() {
            return Err(Errno::EBUSY);
        }
        state.notice = Some((pid, notice));
        Ok(())
    }

    /// The process is no longer to be told.
    pub fn unregister(&self, pid: Pid) {
        let removed = self.state.lock().notice.take_if(|(owner, _)| *owner == pid);
        if let Some((_, Notice::Socket(socket, cookie))) = removed {
            put_cookie(&*socket, cookie, Why::Removed);
        }
    }
}

fn ended_as(ended: Ended) -> Errno {
    ended.errno(Errno::ETIMEDOUT)
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.fs.refund(self.account);
    }
}
