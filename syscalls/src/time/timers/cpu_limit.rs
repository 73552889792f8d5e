//! `RLIMIT_CPU`: SIGXCPU every second from the soft limit on, SIGKILL at the hard one (setrlimit(2)).

use super::super::processor::{ProcessorClock, Which};
use alloc::sync::{Arc, Weak};
use kernel::signal::{self, SIGKILL, SIGXCPU, SigInfo, si};
use kernel::sync::Mutex;
use kernel::task::ThreadGroup;
use kernel::time::{self, SECOND};
use kernel::timer::{self, Expire, TimerId};
use linux_raw_sys::general::RLIMIT_CPU;

/// Watches one process.
pub struct CpuLimit {
    group: Weak<ThreadGroup>,
    clock: ProcessorClock,
    armed: Mutex<Option<TimerId>>,
    this: Weak<CpuLimit>,
}

/// How often to look at most: the limits are in seconds.
const LOOK_NS: u64 = 10_000_000;

impl CpuLimit {
    /// Starts watching a process that has a limit.
    pub fn watch(group: &Arc<ThreadGroup>) -> Arc<CpuLimit> {
        let limit = Arc::new_cyclic(|this| CpuLimit {
            group: Arc::downgrade(group),
            clock: ProcessorClock::of_process(group, Which::Exact),
            armed: Mutex::new(None),
            this: this.clone(),
        });
        limit.arm(group.rlimit(RLIMIT_CPU));
        limit
    }

    fn arm(&self, (soft, hard): (u64, u64)) {
        let next = soft.min(hard).saturating_mul(SECOND);
        // A process that is only being made has no clock yet, and has used nothing.
        let left = next.saturating_sub(self.clock.now().unwrap_or(0));
        let Some(this) = self.this.upgrade() else { return };
        let wait = self.clock.real_time_for(left).max(LOOK_NS);
        let old = self.armed.lock().replace(timer::add(time::monotonic().saturating_add(wait), this));
        if let Some(id) = old {
            timer::cancel(id);
        }
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        if let Some(id) = self.armed.lock().take() {
            timer::cancel(id);
        }
    }
}

impl Expire for CpuLimit {
    fn expire(&self) {
        let (Some(group), Ok(now)) = (self.group.upgrade(), self.clock.now()) else { return };
        let (mut soft, hard) = group.rlimit(RLIMIT_CPU);
        let used = now / SECOND;
        if used >= hard {
            let _ = signal::send_to_group(&group, SigInfo::new(SIGKILL, si::KERNEL));
            return;
        }
        if used >= soft {
            let _ = signal::send_to_group(&group, SigInfo::new(SIGXCPU, si::KERNEL));
            // As Linux does: the next warning comes a second later.
            soft = used + 1;
            group.set_rlimit(RLIMIT_CPU, (soft, hard));
        }
        self.arm((soft, hard));
    }
}
