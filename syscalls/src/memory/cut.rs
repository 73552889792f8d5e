//! What becomes of mappings when their file is made shorter: pages behind its end go in every process, before the call that
//! cut it returns, as Linux unmaps them.

use crate::thread::{self, Memory, Thread};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::task::calls::{self, Call};
use kernel::task::{ThreadGroup, table};

/// What a thread of another process is asked to do.
struct Cut;

impl Call for Cut {
    fn run(&self) {
        thread::current().memory().space.cut_behind_ends();
    }
}

/// Has the pages taken away that are behind the end of a file which the running thread has made shorter. Called without locks.
pub fn tell_of_cut_file(running: &Thread) {
    // Nearly always nobody maps it.
    if !running.task.cut_a_mapped_file.swap(false, Ordering::SeqCst) {
        return;
    }
    let own = running.memory();
    own.space.cut_behind_ends();
    let groups = table().map_or_else(Vec::new, |table| table.lock().groups());
    for group in groups {
        // A process that ends before it was asked needs nothing any more.
        if memory_of(&group)
            .is_some_and(|memory| !Arc::ptr_eq(&memory, &own) && memory.space.reaches_behind_ends())
        {
            let _ = calls::ask(&group, None, Arc::new(Cut));
        }
    }
}

fn memory_of(group: &ThreadGroup) -> Option<Arc<Memory>> {
    let tid = group.signals.lock().tasks.first().map(|task| task.tid())?;
    thread::find(tid).map(|thread| thread.memory())
}
