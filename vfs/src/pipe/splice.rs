//! What splice(2) and tee(2) do to pipes beyond reading and writing them.

use super::{PipeEnd, State};
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::poll::PollEvents;
use kernel::signal::SIGPIPE;
use kernel::sync::MutexGuard;
use kernel::uaccess::Source;
use kernel::{task, wait};

impl PipeEnd {
    /// Puts bytes that were read and could not be passed on back in front: `ENOMEM`. The pipe may hold more than its
    /// capacity until they are read again.
    pub fn put_back(&self, bytes: &[u8]) -> Result<()> {
        self.pipe.state.lock().ring.put_back(bytes)?;
        self.pipe.readable.wake(PollEvents::READABLE);
        Ok(())
    }

    /// How much room there is, once there is some; waits for it unless `nonblocking`. `EPIPE` with SIGPIPE, `EAGAIN`,
    /// `ERESTARTSYS`.
    pub fn wait_for_room(&self, nonblocking: bool) -> Result<usize> {
        let look = || {
            let state = self.pipe.state.lock();
            if state.readers == 0 {
                return Some(Err(Errno::EPIPE));
            }
            let room = state.room();
            (room > 0).then_some(Ok(room))
        };
        let outcome = match look() {
            Some(outcome) => outcome,
            None if nonblocking => Err(Errno::EAGAIN),
            None => wait::until(&[&self.pipe.writable], None, look)
                .unwrap_or_else(|ended| Err(ended.errno(Errno::EINTR))),
        };
        if outcome == Err(Errno::EPIPE) {
            task::current().raise(SIGPIPE);
        }
        outcome
    }
}

/// Moves (with `keep` copies) up to `most` bytes from one pipe to another: splice(2), tee(2). Waits for bytes and for room
/// unless `nonblocking`. 0 when nobody writes any more; `EINVAL` for one pipe, `EPIPE` with SIGPIPE, `EAGAIN`, `ERESTARTSYS`.
pub fn transfer(from: &PipeEnd, to: &PipeEnd, most: usize, nonblocking: bool, keep: bool) -> Result<usize> {
    if Arc::ptr_eq(&from.pipe, &to.pipe) {
        return Err(Errno::EINVAL);
    }
    if most == 0 {
        return Ok(0);
    }
    let outcome = match attempt(from, to, most, keep) {
        Some(outcome) => outcome,
        None if nonblocking => Err(Errno::EAGAIN),
        None => {
            // Not exclusive: who waits on two queues would have to pass on what it was told on both.
            let queues = [&from.pipe.readable, &to.pipe.writable];
            wait::until(&queues, None, || attempt(from, to, most, keep))
                .unwrap_or_else(|ended| Err(ended.errno(Errno::EINTR)))
        }
    };
    if outcome == Err(Errno::EPIPE) {
        task::current().raise(SIGPIPE);
    }
    outcome
}

/// Locks two pipes in the order of their addresses.
fn lock_both<'a>(from: &'a PipeEnd, to: &'a PipeEnd) -> (MutexGuard<'a, State>, MutexGuard<'a, State>) {
    if Arc::as_ptr(&from.pipe) < Arc::as_ptr(&to.pipe) {
        let first = from.pipe.state.lock();
        (first, to.pipe.state.lock())
    } else {
        let second = to.pipe.state.lock();
        (from.pipe.state.lock(), second)
    }
}

/// One try: `None` if there is nothing to take, or no room to put it.
fn attempt(from: &PipeEnd, to: &PipeEnd, most: usize, keep: bool) -> Option<Result<usize>> {
    let (outcome, became_writable) = {
        let (mut source, mut target) = lock_both(from, to);
        if target.readers == 0 {
            return Some(Err(Errno::EPIPE));
        }
        let (available, packet) = source.ring.next_record();
        if available == 0 {
            return (source.writers == 0).then_some(Ok(0));
        }
        let count = available.min(most).min(target.room());
        if count == 0 {
            return None;
        }
        let before = source.writable();
        let outcome = copy(&source, &mut target, count, packet);
        if let (Ok(done), false) = (outcome, keep) {
            source.ring.consume(done);
        }
        (outcome, !before && source.writable())
    };
    if became_writable {
        from.pipe.writable.wake(PollEvents::WRITABLE);
    }
    if outcome.is_ok() {
        to.pipe.readable.wake(PollEvents::READABLE);
    }
    Some(outcome)
}

fn copy(source: &State, target: &mut State, count: usize, packet: bool) -> Result<usize> {
    let (first, second) = source.ring.slices(count);
    if packet && !second.is_empty() {
        // One packet stays one.
        let joined = [first, second].concat();
        return target.ring.write(&mut Source::kernel(&joined), count, true);
    }
    let done = target.ring.write(&mut Source::kernel(first), first.len(), packet)?;
    // What goes before a failure counts.
    let more = target.ring.write(&mut Source::kernel(second), second.len(), packet).unwrap_or(0);
    Ok(done + more)
}
