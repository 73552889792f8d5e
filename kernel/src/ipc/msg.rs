//! Message queues (msgop(2), msgctl(2)).
//!
//! A message goes straight to a receiver that waits for one of its kind; only if there is none it is queued. Senders that wait
//! for room look again whenever some is made.

use super::abi::IPC_NOWAIT;
use super::{Charge, Ids, Object, Perm, seconds};
use crate::boot;
use crate::poll::PollEvents;
use crate::sync::{BootCell, Mutex, MutexGuard};
use crate::task::{self, Pid};
use crate::wait::{self, Ended, WaitQueue, Waiter};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::sysctl::{MSGMAX, MSGMNB, MSGMNI};

/// Bytes of a message at most (`MSGMAX`).
pub fn size_max() -> u64 {
    boot::sysctl_number(&MSGMAX, 0)
}

/// Bytes of a queue at most, unless privileged (`MSGMNB`).
pub fn queue_bytes() -> u64 {
    boot::sysctl_number(&MSGMNB, 0)
}

/// msgrcv(2)'s flags.
#[allow(missing_docs, reason = "the names are msgrcv(2)'s")]
pub mod flag {
    pub const NOERROR: u32 = 0o10000;
    pub const EXCEPT: u32 = 0o20000;
    pub const COPY: u32 = 0o40000;
}

/// A message.
pub struct Message {
    /// Its type, positive.
    pub kind: i64,
    /// Its bytes.
    pub text: Box<[u8]>,
    _charge: Charge,
}

impl Message {
    /// A message: `ENOMEM`.
    pub fn new(kind: i64, text: Vec<u8>) -> Result<Message> {
        let charge = Charge::new((text.len() + size_of::<Message>()) as u64)?;
        Ok(Message { kind, text: text.into(), _charge: charge })
    }
}

/// Which message a receiver wants (`convert_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    Kind(i64),
    Not(i64),
    /// The lowest kind up to this one.
    UpTo(i64),
    /// The one at this place.
    Place(i64),
}

impl Wanted {
    fn new(kind: i64, flags: u32) -> Wanted {
        if flags & flag::COPY != 0 {
            Wanted::Place(kind)
        } else if kind == 0 {
            Wanted::Any
        } else if kind < 0 {
            Wanted::UpTo(kind.checked_neg().unwrap_or(i64::MAX))
        } else if flags & flag::EXCEPT != 0 {
            Wanted::Not(kind)
        } else {
            Wanted::Kind(kind)
        }
    }

    fn takes(self, kind: i64) -> bool {
        match self {
            Wanted::Any | Wanted::Place(_) => true,
            Wanted::Kind(wanted) => kind == wanted,
            Wanted::Not(other) => kind != other,
            Wanted::UpTo(most) => kind <= most,
        }
    }

    /// The place of the message that is to be taken of those with these kinds.
    fn choose(self, mut kinds: impl Iterator<Item = i64>) -> Option<usize> {
        match self {
            Wanted::Place(place) => {
                let place = usize::try_from(place).ok()?;
                kinds.nth(place).map(|_| place)
            }
            Wanted::UpTo(_) => kinds
                .enumerate()
                .filter(|(_, kind)| self.takes(*kind))
                .min_by_key(|(place, kind)| (*kind, *place))
                .map(|(place, _)| place),
            _ => kinds.position(|kind| self.takes(kind)),
        }
    }
}

/// Somebody who waits for a message.
struct Receiver {
    wanted: Wanted,
    /// Bytes it takes at most; longer ones too with `MSG_NOERROR`.
    room: usize,
    pid: Pid,
    waiter: Arc<Waiter>,
    outcome: Mutex<Option<Result<Message>>>,
}

impl Receiver {
    fn decide(&self, outcome: Result<Message>) {
        *self.outcome.lock() = Some(outcome);
        self.waiter.wake(PollEvents::IN);
    }
}

/// The changing part of a queue.
#[allow(missing_docs, reason = "the names are msqid_ds's, msgctl(2)")]
pub struct State {
    pub perm: Perm,
    messages: VecDeque<Message>,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    /// Bytes in the queue.
    pub cbytes: u64,
    /// Bytes at most.
    pub qbytes: u64,
    pub lspid: Pid,
    pub lrpid: Pid,
    removed: bool,
    receivers: VecDeque<Arc<Receiver>>,
}

/// A message queue.
pub struct Queue {
    id: i32,
    state: Mutex<State>,
    /// Senders that wait for room.
    senders: WaitQueue,
}

static QUEUES_BY_ID: BootCell<Box<Ids<Queue>>> = BootCell::new();

pub(super) fn init() {
    QUEUES_BY_ID.set(Box::new(Ids::new(boot::sysctl_number(&MSGMNI, 0) as usize)));
}

/// All queues.
pub fn queues() -> Result<&'static Ids<Queue>> {
    QUEUES_BY_ID.get().map(|ids| &**ids).ok_or(Errno::ENOSYS)
}

/// msgget(2).
pub fn get(key: i32, flags: u32) -> Result<i32> {
    queues()?.get(
        key,
        flags,
        |_| Ok(()),
        |id| {
            let state = State {
                perm: Perm::new(key, flags),
                messages: VecDeque::new(),
                stime: 0,
                rtime: 0,
                ctime: seconds(),
                cbytes: 0,
                qbytes: queue_bytes(),
                lspid: Pid::NONE,
                lrpid: Pid::NONE,
                removed: false,
                receivers: VecDeque::new(),
            };
            Ok(Arc::new(Queue { id, state: Mutex::new(state), senders: WaitQueue::new() }))
        },
    )
}

impl Object for Queue {
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }

    fn id(&self) -> i32 {
        self.id
    }
}

impl State {
    /// Number of messages.
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.cbytes.saturating_add(bytes) <= self.qbytes && (self.messages.len() as u64) < self.qbytes
    }

    /// Hands a message to the first receiver that wants one of its kind (`pipelined_send`). A receiver that has too little room
    /// for it fails, and the next one is tried. Gives the message back if nobody takes it.
    fn hand_over(&mut self, message: Message) -> Option<Message> {
        let mut index = 0;
        while let Some(receiver) = self.receivers.get(index) {
            if !receiver.wanted.takes(message.kind) {
                index += 1;
                continue;
            }
            let Some(receiver) = self.receivers.remove(index) else { break };
            if receiver.room < message.text.len() {
                receiver.decide(Err(Errno::E2BIG));
                continue;
            }
            self.lrpid = receiver.pid;
            self.rtime = seconds();
            receiver.decide(Ok(message));
            return None;
        }
        Some(message)
    }

    /// The message that is wanted, taken out: `ENOMSG`, `E2BIG`.
    fn take(&mut self, wanted: Wanted, room: usize, pid: Pid) -> Result<Message> {
        let place = wanted.choose(self.messages.iter().map(|message| message.kind)).ok_or(Errno::ENOMSG)?;
        if self.messages.get(place).is_some_and(|message| message.text.len() > room) {
            return Err(Errno::E2BIG);
        }
        let message = self.messages.remove(place).ok_or(Errno::ENOMSG)?;
        self.cbytes = self.cbytes.saturating_sub(message.text.len() as u64);
        self.lrpid = pid;
        self.rtime = seconds();
        Ok(message)
    }

    /// A copy of the message at a place (`MSG_COPY`): `ENOMSG`, `E2BIG`, or `EINVAL` if a part is all there is room for.
    fn copy(&self, wanted: Wanted, room: usize, parts: bool) -> Result<Message> {
        let place = wanted.choose(self.messages.iter().map(|message| message.kind)).ok_or(Errno::ENOMSG)?;
        let message = self.messages.get(place).ok_or(Errno::ENOMSG)?;
        if message.text.len() > room {
            return Err(if parts { Errno::EINVAL } else { Errno::E2BIG });
        }
        Message::new(message.kind, message.text.to_vec())
    }
}

impl Queue {
    /// The state: `EIDRM` once it was removed.
    pub fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.removed { Err(Errno::EIDRM) } else { Ok(state) }
    }

    /// `IPC_RMID`: who waits gets `EIDRM`.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.lock()?;
        state.perm.check_owner(&task::current().cred())?;
        state.removed = true;
        let receivers = core::mem::take(&mut state.receivers);
        let messages = core::mem::take(&mut state.messages);
        drop(state);
        receivers.iter().for_each(|receiver| receiver.decide(Err(Errno::EIDRM)));
        self.senders.wake_all(PollEvents::OUT);
        drop(messages);
        queues()?.remove(self.id, |_| true);
        Ok(())
    }

    /// `IPC_SET`, after the state was changed: who waits looks again, as its permissions or the room may have changed.
    pub fn changed(&self) {
        let receivers = core::mem::take(&mut self.state.lock().receivers);
        receivers.iter().for_each(|receiver| receiver.decide(Err(Errno::EAGAIN)));
        self.senders.wake_all(PollEvents::OUT);
    }

    /// Puts the message in if there is room; gives it back otherwise.
    fn try_send(&self, message: Message, pid: Pid) -> Result<Option<Message>> {
        let mut state = self.lock()?;
        state.perm.check(&task::current().cred(), 0o222)?;
        if !state.has_room(message.text.len()) {
            return Ok(Some(message));
        }
        state.lspid = pid;
        state.stime = seconds();
        if let Some(message) = state.hand_over(message) {
            state.cbytes += message.text.len() as u64;
            state.messages.push_back(message);
        }
        Ok(None)
    }
}

/// msgsnd(2), after the message was copied in: `EACCES`, `EAGAIN`, `EIDRM`, `EINTR` (restarted only if no handler ran).
pub fn send(id: i32, message: Message, flags: u32) -> Result<()> {
    let queue = queues()?.find(id)?;
    let pid = task::current().group.tgid;
    let mut message = match queue.try_send(message, pid)? {
        None => return Ok(()),
        Some(_) if flags & IPC_NOWAIT != 0 => return Err(Errno::EAGAIN),
        Some(message) => Some(message),
    };
    let sent = wait::until(&[&queue.senders], None, || match queue.try_send(message.take()?, pid) {
        Ok(None) => Some(Ok(())),
        Ok(back) => {
            message = back;
            None
        }
        Err(errno) => Some(Err(errno)),
    });
    sent.unwrap_or(Err(Errno::ERESTARTNOHAND))
}

/// msgrcv(2), before the message is copied out, which may be longer than `room` only with `MSG_NOERROR`: `EACCES`, `E2BIG`,
/// `ENOMSG`, `EIDRM`, `EINVAL`, `EINTR` (restarted only if no handler ran).
pub fn receive(id: i32, room: usize, kind: i64, flags: u32) -> Result<Message> {
    if flags & flag::COPY != 0 && (flags & flag::EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let wanted = Wanted::new(kind, flags);
    let most = if flags & flag::NOERROR != 0 { usize::MAX } else { room };
    let queue = queues()?.find(id)?;
    let task = task::current();
    let pid = task.group.tgid;
    loop {
        let receiver = {
            let mut state = queue.lock()?;
            state.perm.check(&task.cred(), 0o444)?;
            let taken = if flags & flag::COPY != 0 {
                state.copy(wanted, room, flags & flag::NOERROR != 0)
            } else {
                state.take(wanted, most, pid)
            };
            match taken {
                Err(Errno::ENOMSG) if flags & IPC_NOWAIT == 0 => {}
                taken => {
                    drop(state);
                    if taken.is_ok() && flags & flag::COPY == 0 {
                        queue.senders.wake(PollEvents::OUT);
                    }
                    return taken;
                }
            }
            let waiter = task.waiter.clone();
            let receiver = Arc::new(Receiver { wanted, room: most, pid, waiter, outcome: Mutex::new(None) });
            state.receivers.push_back(receiver.clone());
            receiver
        };
        let mut outcome = wait::until_woken(None, || receiver.outcome.lock().take());
        if outcome.is_err() {
            queue.state.lock().receivers.retain(|other| !Arc::ptr_eq(other, &receiver));
            // It may have been decided meanwhile.
            outcome = receiver.outcome.lock().take().ok_or(Ended::Interrupted);
        }
        match outcome {
            Ok(Err(Errno::EAGAIN)) => {}
            Ok(decided) => return decided,
            Err(_) => return Err(Errno::ERESTARTNOHAND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_receiver_chooses_the_message() {
        let kinds = [5, 3, 9, 3];
        let choose = |kind, flags| Wanted::new(kind, flags).choose(kinds.into_iter());
        assert_eq!(choose(0, 0), Some(0));
        assert_eq!(choose(3, 0), Some(1));
        assert_eq!(choose(4, 0), None);
        assert_eq!(choose(5, flag::EXCEPT), Some(1));
        assert_eq!(choose(-9, 0), Some(1));
        assert_eq!(choose(-2, 0), None);
        assert_eq!(choose(i64::MIN, 0), Some(1));
        assert_eq!(choose(2, flag::COPY), Some(2));
        assert_eq!(choose(4, flag::COPY), None);
        assert_eq!(choose(-1, flag::COPY), None);
    }
}
