//! mlock(2) and its family: accounted here against `RLIMIT_MEMLOCK`, and passed to the host as far as it lets us.

use super::area::{AreaFlags, Prot};
use super::host_map;
use super::space::{AddressSpace, Limits, MAX_AREAS, page_up};
use crate::{Errno, Result};
use boundary::layout::PAGE_SIZE;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Makes pages resident and, where the host's limit allows, keeps them so.
pub(super) fn lock_on_host(start: u64, length: u64) {
    if host_map::check(start, length).is_err() || host::mlock(start, length).is_ok() {
        return;
    }
    // What a program can see of a lock is that its pages are there.
    if host::madvise(start, length, raw::MADV_POPULATE_WRITE).is_err() {
        let _ = host::madvise(start, length, raw::MADV_POPULATE_READ);
    }
}

fn range(address: u64, length: u64) -> Result<(u64, u64)> {
    let start = address & !(PAGE_SIZE - 1);
    let length = length.checked_add(address - start).and_then(page_up).ok_or(Errno::EINVAL)?;
    let end = start.checked_add(length).ok_or(Errno::EINVAL)?;
    Ok((start, end))
}

impl AddressSpace {
    /// mlock2(2); without flags, mlock(2).
    pub fn mlock(&self, address: u64, length: u64, flags: u32, limits: &Limits) -> Result<()> {
        if flags & !raw::MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        if limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        // Linux looks at the limit before it looks whether the range wraps around.
        if length > limits.locked {
            return Err(Errno::ENOMEM);
        }
        let on_fault = flags & raw::MLOCK_ONFAULT != 0;
        let (start, end) = range(address, length)?;
        let flags = if on_fault { AreaFlags::ANY_LOCK } else { AreaFlags::LOCKED };
        let parts = {
            let mut inner = self.inner.write();
            let already: u64 = inner
                .map
                .overlapping(start, end)
                .filter(|(_, area)| area.flags.contains(AreaFlags::LOCKED))
                .map(|(first, area)| area.end.min(end) - first.max(start))
                .sum();
            if !inner.may_lock(limits, (end - start).saturating_sub(already)) {
                return Err(Errno::ENOMEM);
            }
            let whole = inner.set_lock(start, end, flags)?;
            if !whole {
                return Err(Errno::ENOMEM);
            }
            inner.map.covered(start, end).0
        };
        for (start, end) in parts {
            if !on_fault {
                lock_on_host(start, end - start);
            }
        }
        Ok(())
    }

    /// munlock(2).
    pub fn munlock(&self, address: u64, length: u64) -> Result<()> {
        let (start, end) = range(address, length)?;
        let mut inner = self.inner.write();
        let whole = inner.set_lock(start, end, AreaFlags::empty())?;
        for (start, end) in inner.map.covered(start, end).0 {
            host_map::check(start, end - start)?;
            let _ = host::munlock(start, end - start);
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// mlockall(2).
    pub fn mlockall(&self, flags: u32, limits: &Limits) -> Result<()> {
        let known = raw::MCL_CURRENT | raw::MCL_FUTURE | raw::MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == raw::MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if limits.locked == 0 {
            return Err(Errno::EPERM);
        }
        let lock = if flags & raw::MCL_ONFAULT != 0 { AreaFlags::ANY_LOCK } else { AreaFlags::LOCKED };
        let mut inner = self.inner.write();
        let current = flags & raw::MCL_CURRENT != 0;
        if current && inner.map.totals().total > limits.locked {
            return Err(Errno::ENOMEM);
        }
        inner.future = if flags & raw::MCL_FUTURE != 0 { lock } else { AreaFlags::empty() };
        if !current {
            return Ok(());
        }
        inner.set_lock_everywhere(lock);
        let accessible: alloc::vec::Vec<(u64, u64)> = inner
            .map
            .iter()
            .filter(|(_, area)| area.prot.intersects(Prot::READ | Prot::WRITE))
            .map(|(start, area)| (start, area.end))
            .collect();
        drop(inner);
        if lock == AreaFlags::LOCKED {
            for (start, end) in accessible {
                lock_on_host(start, end - start);
            }
        }
        Ok(())
    }

    /// munlockall(2).
    pub fn munlockall(&self) -> Result<()> {
        let mut inner = self.inner.write();
        inner.future = AreaFlags::empty();
        for (start, area) in inner.map.iter() {
            if area.flags.intersects(AreaFlags::ANY_LOCK) {
                let _ = host::munlock(start, area.end - start);
            }
        }
        inner.set_lock_everywhere(AreaFlags::empty());
        Ok(())
    }
}

impl super::space::Inner {
    /// Sets the locks of `[start, end)` up to the first hole; whether there was none.
    fn set_lock(&mut self, start: u64, end: u64, lock: AreaFlags) -> Result<bool> {
        let mut at = start;
        while at < end {
            let Some((_, area)) = self.map.find(at) else { return Ok(false) };
            let to = area.end.min(end);
            if area.flags.intersection(AreaFlags::ANY_LOCK) != lock {
                if self.map.count() + self.map.splits(at, to) > MAX_AREAS {
                    return Err(Errno::ENOMEM);
                }
                self.map.update(at, to, |area| area.flags = (area.flags - AreaFlags::ANY_LOCK) | lock);
            }
            at = to;
        }
        Ok(true)
    }

    fn set_lock_everywhere(&mut self, lock: AreaFlags) {
        self.map.update(0, u64::MAX, |area| area.flags = (area.flags - AreaFlags::ANY_LOCK) | lock);
    }
}
