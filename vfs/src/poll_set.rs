//! The engine of poll(2) and select(2).

use crate::Result;
use crate::table::UsedFile;
use kernel::poll::{PollEvents, PollTable};
use kernel::wait::{self, Ended};
use kernel::{Errno, Short, task};

/// One file to ask.
pub struct Polled<'a> {
    /// The file; `None` for a descriptor that is not open.
    pub file: Option<UsedFile<'a>>,
    /// What is asked for.
    pub wanted: PollEvents,
    /// What it is ready for.
    pub ready: PollEvents,
}

/// One round over all files; how many are ready. `table` gets the listener in the first round.
fn round(files: &mut [Polled<'_>], table: &mut PollTable) -> usize {
    let mut count = 0;
    for polled in files.iter_mut() {
        polled.ready = match &polled.file {
            Some(file) => file.ops.poll(table) & (polled.wanted | PollEvents::ALWAYS),
            None => PollEvents::NVAL,
        };
        count += usize::from(!polled.ready.is_empty());
    }
    count
}

/// Waits until one of the files is ready or the deadline (`CLOCK_MONOTONIC`, ns; 0 asks only) has passed; how many are ready.
/// `EINTR` when a signal came first.
pub fn wait(files: &mut [Polled<'_>], deadline: Option<u64>) -> Result<usize> {
    // Nobody listens before it is known that there is something to wait for.
    let count = round(files, &mut PollTable::none());
    if count > 0 || deadline == Some(0) {
        return Ok(count);
    }
    let mut table = PollTable::new(task::current().waiter.clone());
    let outcome = wait::until_woken(deadline, || {
        let count = round(files, &mut table);
        table.seal();
        (count > 0).then_some(count)
    });
    match outcome {
        Ok(count) => Ok(count),
        Err(Ended::TimedOut) => Ok(0),
        Err(Ended::Interrupted) => Err(Errno::EINTR),
    }
}

/// The files of a call, from descriptors.
pub fn gather<'a>(entries: impl Iterator<Item = (Option<UsedFile<'a>>, PollEvents)>) -> Short<Polled<'a>> {
    entries.map(|(file, wanted)| Polled { file, wanted, ready: PollEvents::empty() }).collect()
}
