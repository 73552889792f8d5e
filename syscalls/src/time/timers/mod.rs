//! Timers of programs: setitimer(2), alarm(2), timer_create(2), and the limit of processor time.

mod cpu_limit;
pub mod interval;
pub mod posix;
mod program_timer;

use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicI32;
use cpu_limit::CpuLimit;
use hashbrown::HashMap;
use kernel::sync::{BootCell, Mutex};
use kernel::task::{Pid, Task, ThreadGroup};
use linux_raw_sys::general::RLIMIT_CPU;
use program_timer::ProgramTimer;

/// A process's timers.
#[derive(Default)]
struct ProcessTimers {
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`.
    intervals: [Mutex<Option<Arc<ProgramTimer>>>; 3],
    posix: Mutex<HashMap<i32, Arc<ProgramTimer>>>,
    next_id: AtomicI32,
    limit: Mutex<Option<Arc<CpuLimit>>>,
}

/// By process id.
type Directory = Mutex<HashMap<Pid, Arc<ProcessTimers>>>;

static TIMERS: BootCell<Box<Directory>> = BootCell::new();

/// Sets up. Called once, at boot.
pub fn init() {
    TIMERS.set(Box::default());
}

/// A process's timers, made when first asked for.
fn timers_of(tgid: Pid) -> Result<Arc<ProcessTimers>> {
    let timers = TIMERS.get().ok_or(Errno::ENOSYS)?;
    Ok(timers.lock().entry(tgid).or_default().clone())
}

fn existing(tgid: Pid) -> Option<Arc<ProcessTimers>> {
    TIMERS.get().and_then(|timers| timers.lock().get(&tgid).cloned())
}

/// The process has ended: its timers go.
pub fn process_ended(tgid: Pid) {
    let gone = TIMERS.get().and_then(|timers| timers.lock().remove(&tgid));
    drop(gone);
}

/// A new program keeps interval timers and loses POSIX ones (execve(2)).
pub fn executed(tgid: Pid) {
    if let Some(own) = existing(tgid) {
        let gone = core::mem::take(&mut *own.posix.lock());
        drop(gone);
    }
}

/// `RLIMIT_CPU` of a process was set, or inherited by a new one.
pub fn cpu_limit_changed(group: &Arc<ThreadGroup>) {
    let limited = group.rlimit(RLIMIT_CPU) != (u64::MAX, u64::MAX);
    let timers = if limited { timers_of(group.tgid).ok() } else { existing(group.tgid) };
    if let Some(timers) = timers {
        let old = core::mem::replace(&mut *timers.limit.lock(), limited.then(|| CpuLimit::watch(group)));
        drop(old);
    }
}

/// The calling thread, poked by the warden, looks at the timers of its own processor time.
pub fn look_from_thread(task: &Task) {
    if let Some(own) = existing(task.group.tgid) {
        let timers: Vec<_> = own.posix.lock().values().cloned().collect();
        for timer in timers {
            timer.look_from_thread();
        }
    }
}
