//! `SEM_UNDO`: what the end of a process takes back. The threads of a process share one list (clone(2) `CLONE_SYSVSEM`), which
//! is carried out when the last of them ends.

use super::sem;
use crate::sync::Mutex;
use crate::task::{Pid, Task};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// Which sets have something to take back for some tasks; what, is noted in the sets.
#[derive(Default)]
pub struct UndoList {
    tasks: AtomicU32,
    sets: Mutex<BTreeSet<i32>>,
}

/// The list that a task has, if it has one.
#[derive(Default)]
pub struct Undo(Mutex<Option<Arc<UndoList>>>);

impl UndoList {
    pub(super) fn note(&self, set: i32) {
        self.sets.lock().insert(set);
    }

    /// The set is gone.
    pub(super) fn forget(&self, set: i32) {
        self.sets.lock().remove(&set);
    }
}

/// The task's list, which it has from now on.
pub(super) fn list_of(task: &Task) -> Arc<UndoList> {
    let mut own = task.sem_undo.0.lock();
    let list = own.get_or_insert_with(|| {
        let list = UndoList::default();
        list.tasks.store(1, Ordering::SeqCst);
        Arc::new(list)
    });
    list.clone()
}

impl Undo {
    /// Makes a new task share the list of the one that makes it (`copy_semundo`).
    pub fn share_with(&self, maker: &Task) {
        let list = list_of(maker);
        list.tasks.fetch_add(1, Ordering::SeqCst);
        *self.0.lock() = Some(list);
    }

    /// The task ends, or unshares (`exit_sem`): the last one to leave a list carries it out.
    pub fn leave(&self, pid: Pid) {
        let list = self.0.lock().take();
        let Some(list) = list else { return };
        if list.tasks.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        let noted = core::mem::take(&mut *list.sets.lock());
        let Ok(sets) = sem::sets() else { return };
        for id in noted {
            if let Ok(set) = sets.find(id) {
                set.undo(&list, pid);
            }
        }
    }
}

impl Drop for Undo {
    /// For a task that never ran.
    fn drop(&mut self) {
        self.leave(Pid::NONE);
    }
}
