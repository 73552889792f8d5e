//! Urgent data (tcp(7)): one byte at most is urgent, the last of a send with `MSG_OOB`. Reading stops before it and leaves it out,
//! unless it is to be among the others (`SO_OOBINLINE`); `MSG_OOB` reads it alone, and once.

use super::{Inbox, Tcp};
use crate::common::Switches;
use crate::message::Incoming;
use crate::{Errno, Result};
use kernel::poll::PollEvents;
use linux_raw_sys::net;
use vfs::signal_io;

/// The urgent byte.
pub(super) struct Mark {
    /// Bytes before it.
    before: usize,
    byte: u8,
    /// `MSG_OOB` has taken it.
    taken: bool,
}

impl Inbox {
    /// The last byte is urgent from now on. An earlier one that reading has come to is lost, as on the host.
    pub(super) fn mark_last(&mut self, inline: bool) {
        if self.at_mark() && !inline && self.ring.len() > 1 {
            self.pass_mark();
        }
        let length = self.ring.len();
        let (first, second) = self.ring.slices(length);
        let last = second.last().or(first.last()).copied();
        self.urgent = last.map(|byte| Mark { before: length - 1, byte, taken: false });
    }

    /// Whether the next byte is the urgent one (`SIOCATMARK`).
    pub(super) fn at_mark(&self) -> bool {
        self.urgent.as_ref().is_some_and(|mark| mark.before == 0)
    }

    /// Whether an urgent byte waits that `MSG_OOB` has not taken.
    pub(super) fn urgent_waits(&self) -> bool {
        self.urgent.as_ref().is_some_and(|mark| !mark.taken)
    }

    /// Leaves the urgent byte out.
    pub(super) fn pass_mark(&mut self) {
        self.ring.consume(1);
        self.urgent = None;
    }

    /// Where reading goes on that would start `skip` bytes from here.
    pub(super) fn behind_mark(&self, skip: usize, inline: bool) -> usize {
        let leaves_out = self.urgent.as_ref().is_some_and(|mark| mark.before <= skip) && !inline;
        skip + usize::from(leaves_out)
    }

    /// Bytes from the one `skip` bytes from here to the urgent one, if that lies behind it.
    pub(super) fn until_mark(&self, skip: usize) -> Option<usize> {
        let before = self.urgent.as_ref()?.before;
        before.checked_sub(skip).filter(|count| *count > 0)
    }

    /// Bytes that can be read in one go (`FIONREAD`).
    pub(super) fn before_mark(&self, inline: bool) -> usize {
        match &self.urgent {
            Some(mark) if !inline => mark.before,
            _ => self.ring.len(),
        }
    }

    /// Whether so many bytes wait; an urgent one that is left out is none of them.
    pub(super) fn has_enough(&self, low: usize, inline: bool) -> bool {
        self.ring.len() >= low + usize::from(self.at_mark() && !inline)
    }

    /// Takes bytes out.
    pub(super) fn consume(&mut self, count: usize) {
        self.ring.consume(count);
        self.consumed(count);
    }

    /// Notes that bytes were taken out.
    pub(super) fn consumed(&mut self, count: usize) {
        if let Some(mark) = &mut self.urgent {
            match mark.before.checked_sub(count) {
                Some(before) => mark.before = before,
                None => self.urgent = None,
            }
        }
    }
}

impl Tcp {
    /// Whether the urgent byte is among the others.
    pub(super) fn urgent_is_inline(&self) -> bool {
        self.common.is_on(Switches::OOB_INLINE)
    }

    /// An urgent byte has come: tells those who wait, and the owner of the socket.
    pub(super) fn tell_of_urgent(&self) {
        self.common.queue.wake(PollEvents::PRI);
        let owner = self.common.owner_of_signals.lock().clone();
        signal_io::urgent(&owner);
    }

    /// recv(2) with `MSG_OOB`: `EINVAL` if nothing is urgent, or what is is among the other bytes.
    pub(super) fn receive_urgent(&self, message: &mut Incoming<'_, '_>) -> Result<usize> {
        let byte = {
            let mut inbox = self.inbox.lock();
            let mark = inbox.urgent.as_mut().filter(|mark| !mark.taken && !self.urgent_is_inline());
            let mark = mark.ok_or(Errno::EINVAL)?;
            mark.taken = !message.has(net::MSG_PEEK);
            mark.byte
        };
        message.report |= net::MSG_OOB;
        if message.sink.left() == 0 {
            message.report |= net::MSG_TRUNC;
            return Ok(0);
        }
        message.sink.put(&[byte])
    }
}
