//! Signals that wait to be delivered: standard ones once each, real-time ones in a queue.

use super::{COUNT, RT_MIN, SYNCHRONOUS, SigInfo, SigSet, bit};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Pending signals of a task or of a group.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl Pending {
    /// Which signals pend.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// What pends, in order of arrival.
    pub fn list(&self) -> Vec<SigInfo> {
        self.queue.iter().copied().collect()
    }

    /// Number of queued entries.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing pends.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Whether an expiry of this timer pends.
    pub fn has_timer(&self, signal: i32, id: u32) -> bool {
        self.set & bit(signal) != 0
            && self.queue.iter().any(|info| info.signal == signal && info.timer() == Some(id))
    }

    /// Adds one. A standard signal that pends already is dropped (signal(7)); a timer's that pends already counts one overrun
    /// more (timer_getoverrun(2)).
    pub fn add(&mut self, info: SigInfo) {
        if let Some(id) = info.timer()
            && let Some(old) =
                self.queue.iter_mut().find(|old| old.signal == info.signal && old.timer() == Some(id))
        {
            old.add_overrun(info.overrun().saturating_add(1));
            return;
        }
        let set = bit(info.signal);
        if set == 0 || (info.signal < RT_MIN && self.set & set != 0) {
            return;
        }
        self.set |= set;
        self.queue.push_back(info);
    }

    /// Takes the next one of `allowed`: synchronous ones first, then by number, then in order of arrival.
    pub fn take(&mut self, allowed: SigSet) -> Option<SigInfo> {
        let ready = self.set & allowed;
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        if first == 0 {
            return None;
        }
        let signal = first.trailing_zeros() as i32 + 1;
        debug_assert!(signal <= COUNT);
        let index = self.queue.iter().position(|info| info.signal == signal)?;
        let info = self.queue.remove(index)?;
        if !self.queue.iter().any(|other| other.signal == signal) {
            self.set &= !bit(signal);
        }
        Some(info)
    }

    /// Forgets all of `signals`.
    pub fn discard(&mut self, signals: SigSet) {
        if self.set & signals != 0 {
            self.set &= !signals;
            self.queue.retain(|info| bit(info.signal) & signals == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SIGSEGV, SIGTERM, SIGUSR1};
    use super::*;

    #[test]
    fn a_standard_signal_pends_once_and_a_real_time_signal_as_often_as_sent() {
        let mut pending = Pending::default();
        for code in 0..3 {
            pending.add(SigInfo::new(SIGUSR1, code));
            pending.add(SigInfo::new(40, code));
        }
        let codes: alloc::vec::Vec<(i32, i32)> =
            core::iter::from_fn(|| pending.take(!0)).map(|info| (info.signal, info.code)).collect();
        assert_eq!(codes, [(SIGUSR1, 0), (40, 0), (40, 1), (40, 2)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_synchronous_signal_goes_before_one_with_a_smaller_number() {
        let mut pending = Pending::default();
        pending.add(SigInfo::new(1, 0));
        pending.add(SigInfo::new(SIGSEGV, 0));
        assert_eq!(pending.take(!0).map(|info| info.signal), Some(SIGSEGV));
    }

    #[test]
    fn a_timer_queues_once_and_counts_what_it_missed() {
        let mut pending = Pending::default();
        for _ in 0..3 {
            pending.add(SigInfo::of_timer(40, 7, 1, 99));
        }
        pending.add(SigInfo::of_timer(40, 8, 0, 98));
        assert!(pending.has_timer(40, 7) && !pending.has_timer(40, 9));
        let first = pending.take(!0).map(|info| (info.timer(), info.overrun(), info.fields[1]));
        assert_eq!(first, Some((Some(7), 5, 99)));
        assert_eq!(pending.take(!0).and_then(|info| info.timer()), Some(8));
    }

    #[test]
    fn a_blocked_signal_stays() {
        let mut pending = Pending::default();
        pending.add(SigInfo::new(SIGTERM, 0));
        assert!(pending.take(!bit(SIGTERM)).is_none());
        assert_eq!(pending.set(), bit(SIGTERM));
    }
}
