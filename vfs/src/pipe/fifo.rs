//! Named pipes (fifo(7)).

use super::{Pipe, PipeEnd, directions};
use crate::anonymous::Birth;
use crate::file::FileOps;
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::poll::PollEvents;
use kernel::wait::{self, WaitQueue};
use linux_raw_sys::general as raw;

/// The pipe of a FIFO's inode.
pub struct FifoState {
    pipe: Arc<Pipe>,
    /// Woken when somebody opens.
    opened: WaitQueue,
}

impl Default for FifoState {
    fn default() -> Self {
        // stat(2) asks the FIFO's inode: owner and number of the pipe itself are not seen.
        FifoState { pipe: Pipe::new(Birth::of(0, 0)), opened: WaitQueue::new() }
    }
}

/// Opens a FIFO: waits for the other end unless `O_NONBLOCK` or for both directions. `ENXIO` for a writer that would have to
/// wait and must not; `ERESTARTSYS`.
pub fn open_fifo(fifo: &Arc<FifoState>, flags: u32) -> Result<Arc<dyn FileOps>> {
    let (reads, writes) = directions(flags)?;
    let nonblocking = flags & raw::O_NONBLOCK != 0;
    let pipe = &fifo.pipe;
    let (end, seen, waits) = {
        let mut state = pipe.state.lock();
        if writes && !reads && nonblocking && state.readers == 0 {
            return Err(Errno::ENXIO);
        }
        let mut end = PipeEnd::open(pipe, &mut state, reads, writes);
        end.no_hang_up_at = (nonblocking && state.writers == 0).then_some(state.opened.1);
        // Decided under the same lock: an other end that is there now may have gone at the next look.
        let alone = if reads { state.writers == 0 } else { state.readers == 0 };
        (end, state.opened, alone && !nonblocking)
    };
    fifo.opened.wake_all(PollEvents::IN);
    if !waits {
        return Ok(Arc::new(end));
    }
    wait::until(&[&fifo.opened], None, || {
        let state = pipe.state.lock();
        let met = if reads { state.opened.1 != seen.1 } else { state.opened.0 != seen.0 };
        met.then_some(())
    })
    .map_err(|ended| ended.errno(Errno::EINTR))?;
    Ok(Arc::new(end))
}
