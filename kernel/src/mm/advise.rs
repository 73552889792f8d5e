//! madvise(2), mincore(2) and msync(2).

use super::area::{Area, AreaFlags, Content, Prot};
use super::host_map;
use super::space::{AddressSpace, MAX_AREAS, aligned, page_up};
use crate::{Errno, Result, uaccess};
use alloc::vec;
use boundary::layout::PAGE_SIZE;
use linux_raw_sys::general as raw;
use trap_handler::{host, keys, region};

/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` (Linux 6.13).
const GUARD: [u32; 2] = [102, 103];
/// Pages that mincore(2) asks the host about at once.
const MINCORE_PAGES: u64 = 4096;

/// What one piece of advice does beside what the host does.
enum Effect {
    /// Only the host acts.
    Host,
    /// Adds and removes flags; the host is told too, and it does not matter if it does not know the advice.
    Flags(AreaFlags, AreaFlags),
}

fn effect(advice: u32) -> Result<Effect> {
    let none = AreaFlags::empty();
    let reading = AreaFlags::SEQUENTIAL | AreaFlags::RANDOM;
    let huge = AreaFlags::HUGE_PAGE | AreaFlags::NO_HUGE_PAGE;
    Ok(match advice {
        raw::MADV_NORMAL => Effect::Flags(none, reading),
        raw::MADV_RANDOM => Effect::Flags(AreaFlags::RANDOM, reading),
        raw::MADV_SEQUENTIAL => Effect::Flags(AreaFlags::SEQUENTIAL, reading),
        raw::MADV_DONTFORK => Effect::Flags(AreaFlags::DONT_FORK, none),
        raw::MADV_DOFORK => Effect::Flags(none, AreaFlags::DONT_FORK),
        raw::MADV_WIPEONFORK => Effect::Flags(AreaFlags::WIPE_ON_FORK, none),
        raw::MADV_KEEPONFORK => Effect::Flags(none, AreaFlags::WIPE_ON_FORK),
        raw::MADV_MERGEABLE => Effect::Flags(AreaFlags::MERGEABLE, none),
        raw::MADV_UNMERGEABLE => Effect::Flags(none, AreaFlags::MERGEABLE),
        raw::MADV_HUGEPAGE => Effect::Flags(AreaFlags::HUGE_PAGE, huge),
        raw::MADV_NOHUGEPAGE => Effect::Flags(AreaFlags::NO_HUGE_PAGE, huge),
        raw::MADV_DONTDUMP => Effect::Flags(AreaFlags::DONT_DUMP, none),
        raw::MADV_DODUMP => Effect::Flags(none, AreaFlags::DONT_DUMP),
        raw::MADV_WILLNEED
        | raw::MADV_DONTNEED
        | raw::MADV_FREE
        | raw::MADV_REMOVE
        | raw::MADV_COLD
        | raw::MADV_PAGEOUT
        | raw::MADV_POPULATE_READ
        | raw::MADV_POPULATE_WRITE
        | raw::MADV_DONTNEED_LOCKED
        | raw::MADV_COLLAPSE => Effect::Host,
        _ if GUARD.contains(&advice) => Effect::Host,
        raw::MADV_HWPOISON | raw::MADV_SOFT_OFFLINE => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    })
}

/// Linux's rules for an area, those that the host's answer would not show (its record of locks is not ours).
fn check_advice(area: &Area, advice: u32) -> Result<()> {
    let locked = area.flags.intersects(AreaFlags::ANY_LOCK);
    let anonymous = matches!(area.content, Content::Anonymous);
    let refused = match advice {
        raw::MADV_DONTNEED | raw::MADV_COLD | raw::MADV_PAGEOUT => locked,
        raw::MADV_FREE => !anonymous,
        raw::MADV_WIPEONFORK => !anonymous,
        raw::MADV_REMOVE => locked || anonymous,
        raw::MADV_DOFORK | raw::MADV_DODUMP => matches!(area.content, Content::Special(_)),
        _ => false,
    };
    if refused {
        return Err(Errno::EINVAL);
    }
    if advice == raw::MADV_REMOVE && !(area.shared() && area.may.contains(Prot::WRITE)) {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// `MADV_REMOVE` of `[start, end)` where the file's pages are this kernel's: also those that are not mapped yet because they came
/// after the mapping.
fn removed_by_file(
    area: &Area,
    advice: u32,
    (area_start, start, end): (u64, u64, u64),
) -> Option<Result<()>> {
    let Content::File(file, offset) = &area.content else { return None };
    if advice != raw::MADV_REMOVE {
        return None;
    }
    file.remove(offset.saturating_add(start - area_start), end - start)
}

impl AddressSpace {
    /// madvise(2). Holes give `ENOMEM` after the rest has been advised, as on Linux.
    pub fn madvise(&self, address: u64, length: u64, advice: u32) -> Result<()> {
        if !aligned(address) {
            return Err(Errno::EINVAL);
        }
        let effect = effect(advice)?;
        let end = page_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::EINVAL)?;
        if end == address {
            return Ok(());
        }
        let (parts, whole) = match effect {
            Effect::Host => {
                let drops = matches!(advice, raw::MADV_DONTNEED | raw::MADV_DONTNEED_LOCKED);
                if keys::on()
                    && (drops
                        || matches!(advice, raw::MADV_FREE | raw::MADV_REMOVE)
                        || GUARD.contains(&advice))
                {
                    self.inner.write().drop_code(address, end)?;
                }
                // Under the lock, so that nothing else is mapped there by the time the host acts.
                let mut inner = self.inner.read();
                if drops && inner.patches.are_in(address, end) {
                    // The file's own code will be there.
                    drop(inner);
                    self.inner.write().patches.forget(address, end);
                    inner = self.inner.read();
                }
                let populates = matches!(advice, raw::MADV_POPULATE_READ | raw::MADV_POPULATE_WRITE);
                let mut at = address;
                let mut whole = true;
                // Areas side by side are one call to the host.
                let mut run: Option<(u64, u64)> = None;
                let advise = |run: Option<(u64, u64)>| match run {
                    Some((start, end)) => host::madvise(start, end - start, advice),
                    None => Ok(()),
                };
                let mut next = |area_start: u64, area: &Area| -> Result<()> {
                    whole &= area_start <= at;
                    // Populating stops at the first hole, where other advice goes on.
                    if populates && !whole {
                        return Err(Errno::ENOMEM);
                    }
                    at = area.end;
                    check_advice(area, advice)?;
                    let (start, end) = (area_start.max(address), area.end.min(end));
                    host_map::check(start, end - start)?;
                    if let Some(removed) = removed_by_file(area, advice, (area_start, start, end)) {
                        return removed;
                    }
                    match &mut run {
                        Some((_, run_end)) if *run_end == start => *run_end = end,
                        _ => advise(run.replace((start, end)))?,
                    }
                    Ok(())
                };
                let mut areas = inner.map.overlapping(address, end);
                let outcome = areas.try_for_each(|(start, area)| next(start, area));
                // What comes before one that is refused has been advised.
                advise(run)?;
                outcome?;
                return if whole && at >= end { Ok(()) } else { Err(Errno::ENOMEM) };
            }
            Effect::Flags(..) => self.inner.read().map.covered(address, end),
        };
        let Effect::Flags(add, remove) = effect else { return Ok(()) };
        for (start, end) in parts {
            let mut inner = self.inner.write();
            let Some((_, area)) = inner.map.find(start) else { continue };
            check_advice(area, advice)?;
            if inner.map.splits(start, end) + inner.map.count() > MAX_AREAS {
                return Err(Errno::ENOMEM);
            }
            host_map::check(start, end - start)?;
            // The host would merge pages of all its programs that ask for it, and the time of a write tells what others have.
            let kept_here = matches!(advice, raw::MADV_MERGEABLE | raw::MADV_UNMERGEABLE);
            match if kept_here { Ok(()) } else { host::madvise(start, end - start, advice) } {
                // What decides about a forked child must be known to the host.
                Err(error)
                    if add.union(remove).intersects(AreaFlags::DONT_FORK | AreaFlags::WIPE_ON_FORK) =>
                {
                    return Err(error);
                }
                _ => {}
            }
            inner.map.update(start, end, |area| {
                area.flags.remove(remove);
                area.flags.insert(add);
            });
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// mincore(2): a byte a page to the program's `vector`.
    pub fn mincore(&self, address: u64, length: u64, vector: u64) -> Result<()> {
        if !aligned(address) {
            return Err(Errno::EINVAL);
        }
        let pages = length.div_ceil(PAGE_SIZE);
        let bytes = pages.checked_mul(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
        if !region::is_user(address, bytes) {
            return Err(Errno::ENOMEM);
        }
        if !region::is_user(vector, pages) {
            return Err(Errno::EFAULT);
        }
        let mut done = 0;
        while done < pages {
            let count = (pages - done).min(MINCORE_PAGES);
            let mut answer = vec![0u8; count as usize];
            host::mincore(address + done * PAGE_SIZE, &mut answer)?;
            uaccess::write_bytes(vector + done, &answer)?;
            done += count;
        }
        Ok(())
    }

    /// msync(2). The record is not locked while the host writes.
    pub fn msync(&self, address: u64, length: u64, flags: u32) -> Result<()> {
        let known = raw::MS_ASYNC | raw::MS_INVALIDATE | raw::MS_SYNC;
        let both = raw::MS_ASYNC | raw::MS_SYNC;
        if flags & !known != 0 || flags & both == both || !aligned(address) {
            return Err(Errno::EINVAL);
        }
        let end = page_up(length).and_then(|length| address.checked_add(length)).ok_or(Errno::ENOMEM)?;
        if end == address {
            return Ok(());
        }
        let mut files = vec![];
        let whole = {
            let inner = self.inner.read();
            for (start, area) in inner.map.overlapping(address, end) {
                if flags & raw::MS_INVALIDATE != 0 && area.flags.contains(AreaFlags::LOCKED) {
                    return Err(Errno::EBUSY);
                }
                if area.shared() {
                    files.push((start.max(address), area.end.min(end)));
                }
            }
            inner.map.covered(address, end).1
        };
        for (start, end) in files {
            host_map::check(start, end - start)?;
            // Locks are in our record alone, so the host need not look for them.
            match host::msync(start, end - start, flags & !raw::MS_INVALIDATE) {
                // Unmapped by another thread meanwhile.
                Ok(()) | Err(Errno::ENOMEM) => {}
                Err(error) => return Err(error),
            }
        }
        if whole { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}
