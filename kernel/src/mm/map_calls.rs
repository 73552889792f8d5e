//! mmap(2), munmap(2) and brk(2).

use super::area::{Area, AreaFlags, Content, Prot};
use super::space::{
    AddressSpace, BOTTOM_UP_BASE, Inner, Limits, MAX_AREAS, aligned, lowest, make_shared_memory, page_up,
};
use super::{Mappable, host_map, screen};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::{PAGE_SIZE, USER_END};
use linux_raw_sys::general as raw;
use trap_handler::host;

/// Flags that `MAP_SHARED_VALIDATE` knows (Linux's `LEGACY_MAP_MASK`).
const KNOWN_FLAGS: u32 = raw::MAP_SHARED
    | raw::MAP_PRIVATE
    | raw::MAP_FIXED
    | raw::MAP_ANONYMOUS
    | raw::MAP_DENYWRITE
    | raw::MAP_EXECUTABLE
    | raw::MAP_UNINITIALIZED
    | raw::MAP_GROWSDOWN
    | raw::MAP_LOCKED
    | raw::MAP_NORESERVE
    | raw::MAP_POPULATE
    | raw::MAP_NONBLOCK
    | raw::MAP_STACK
    | raw::MAP_HUGETLB
    | raw::MAP_32BIT
    | (0x3f << 26); // MAP_HUGE_MASK << MAP_HUGE_SHIFT
/// A transparent huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// A file to map.
#[derive(Clone)]
pub struct FileToMap {
    /// What it maps.
    pub file: Arc<dyn Mappable>,
    /// Opened for reading.
    pub readable: bool,
    /// Opened for writing.
    pub writable: bool,
    /// Its mount allows execution.
    pub executable: bool,
}

/// The arguments of mmap(2).
#[derive(Clone)]
pub struct MapRequest {
    /// Hint, or the place with `MAP_FIXED`.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// `MAP_*`.
    pub flags: u32,
    /// Unless `MAP_ANONYMOUS`.
    pub file: Option<FileToMap>,
    /// Bytes.
    pub offset: u64,
}

impl AddressSpace {
    /// mmap(2); the address.
    pub fn mmap(&self, request: &MapRequest, limits: &Limits) -> Result<u64> {
        if !aligned(request.offset) || request.length == 0 {
            return Err(Errno::EINVAL);
        }
        let flags = request.flags;
        if flags & raw::MAP_HUGETLB != 0 {
            // As a machine whose pool of huge pages is empty.
            let size = flags >> raw::MAP_HUGE_SHIFT & 0x3f;
            let known = flags & raw::MAP_ANONYMOUS != 0 && matches!(size, 0 | 21 | 30);
            return Err(if known { Errno::ENOMEM } else { Errno::EINVAL });
        }
        let length = page_up(request.length).filter(|length| *length != 0).ok_or(Errno::ENOMEM)?;
        if request.offset.checked_add(length).is_none() {
            return Err(Errno::EOVERFLOW);
        }
        let fixed = flags & (raw::MAP_FIXED | raw::MAP_FIXED_NOREPLACE) != 0;
        if fixed {
            check_fixed(request.address, length)?;
        }
        // Before anything is said about the file, as Linux has it. Looked at again below, under the lock.
        let taken = |start| !self.inner.read().map.is_free(start, start + length);
        if flags & raw::MAP_FIXED_NOREPLACE != 0 && taken(request.address) {
            return Err(Errno::EEXIST);
        }
        let mut area = template(request, length)?;
        if screen::refuses(&area) {
            return Err(Errno::EACCES);
        }
        let populate = if flags & (raw::MAP_POPULATE | raw::MAP_NONBLOCK) == raw::MAP_POPULATE {
            raw::MAP_POPULATE
        } else {
            0
        };
        let pieces = match &area.content {
            Content::File(file, offset) => host_map::pieces(&**file, *offset, length, &area)?,
            _ => Vec::new(),
        };

        let mut inner = self.inner.write();
        area.flags |= inner.future;
        if flags & raw::MAP_LOCKED != 0 {
            area.flags |= AreaFlags::LOCKED;
            if limits.locked == 0 {
                return Err(Errno::EPERM);
            }
        }
        if area.flags.intersects(AreaFlags::ANY_LOCK) && !inner.may_lock(limits, length) {
            return Err(Errno::EAGAIN);
        }
        let start = if fixed { request.address } else { inner.choose(request, length, &area)? };
        let end = start + length;
        if flags & raw::MAP_FIXED_NOREPLACE != 0 && !inner.map.is_free(start, end) {
            return Err(Errno::EEXIST);
        }
        let replaced = if fixed { inner.map.covered_bytes(start, end) } else { 0 };
        if inner.map.count() + inner.map.splits(start, end) > MAX_AREAS
            || !inner.may_expand(limits, area.is_data(), length - replaced)
        {
            return Err(Errno::ENOMEM);
        }
        let (old, result) = inner.place(start, Area { end, ..area }, |start, area| match &area.content {
            Content::File(..) => host_map::file(start, area, &pieces, populate),
            _ => host_map::area(start, area, populate),
        });
        let locked = inner.map.find(start).is_some_and(|(_, area)| area.flags.contains(AreaFlags::LOCKED));
        drop(inner);
        // Files that were mapped here alone end without the lock.
        drop(old);
        result?;
        if locked {
            super::lock_calls::lock_on_host(start, length);
        }
        Ok(start)
    }

    /// Where mmap(2) would put a mapping of so many bytes, a multiple of the page size.
    pub fn free_place(&self, length: u64) -> Result<u64> {
        self.inner.write().pick(length)
    }

    /// munmap(2). Nothing of the kernel's is ever there, so a range across its region unmaps what is around it.
    pub fn munmap(&self, address: u64, length: u64) -> Result<()> {
        if !aligned(address) || address > USER_END || length > USER_END - address {
            return Err(Errno::EINVAL);
        }
        let length = page_up(length).filter(|length| *length != 0).ok_or(Errno::EINVAL)?;
        let mut inner = self.inner.write();
        let removed = inner.unmap(address, address + length);
        drop(inner);
        removed.map(drop)
    }

    /// shmdt(2): unmaps what is left of the segment that was attached at `address`: `EINVAL` if there is nothing of one.
    pub fn detach_segment(&self, address: u64) -> Result<()> {
        if !aligned(address) {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.inner.write();
        let attached_at = |start: u64, area: &Area| match &area.content {
            Content::File(file, offset) if start.checked_sub(address) == Some(*offset) => {
                file.segment_size().map(|size| (file.clone(), size))
            }
            _ => None,
        };
        let areas = inner.map.overlapping(address, USER_END);
        let found = areas.into_iter().find_map(|(start, area)| attached_at(start, area));
        let (segment, size) = found.ok_or(Errno::EINVAL)?;
        let end = address.saturating_add(size.next_multiple_of(PAGE_SIZE)).min(USER_END);
        let mut parts = Vec::new();
        for (start, area) in inner.map.overlapping(address, end) {
            if attached_at(start, area).is_some_and(|(other, _)| Arc::ptr_eq(&other, &segment)) {
                parts.push((start, area.end));
            }
        }
        let mut removed = Vec::new();
        for (start, end) in parts {
            removed.append(&mut inner.unmap(start, end)?);
        }
        drop(inner);
        drop(removed);
        Ok(())
    }

    /// brk(2): the end of the heap after the call, which is as before if it could not be moved.
    pub fn brk(&self, wanted: u64, limits: &Limits) -> u64 {
        let mut inner = self.inner.write();
        if wanted < inner.start_brk {
            return inner.brk;
        }
        // Linux's check_data_rlimit: heap and initialised data together.
        let data = inner.program.end_data.saturating_sub(inner.program.start_data);
        if (wanted - inner.start_brk).saturating_add(data) > limits.data {
            return inner.brk;
        }
        let (Some(new), Some(old)) = (page_up(wanted), page_up(inner.brk)) else { return inner.brk };
        if new < old {
            let Ok(removed) = inner.unmap(new, old) else { return inner.brk };
            inner.brk = wanted;
            drop(inner);
            drop(removed);
            return wanted;
        }
        if new > old {
            let area = Area::anonymous(new, Prot::READ | Prot::WRITE, inner.future);
            // One page stays free behind the heap, and the guard of a stack.
            let free = new < USER_END && inner.map.is_free_guarded(old, new + PAGE_SIZE);
            let allowed = inner.may_expand(limits, true, new - old)
                && inner.map.count() <= MAX_AREAS
                && (inner.future.is_empty() || inner.may_lock(limits, new - old));
            if !free || !allowed || host_map::area(old, &area, 0).is_err() {
                return inner.brk;
            }
            inner.map.insert(old, area);
            if inner.future.contains(AreaFlags::LOCKED) {
                super::lock_calls::lock_on_host(old, new - old);
            }
        }
        inner.brk = wanted;
        wanted
    }
}

/// The checks of a fixed place, in Linux's order.
fn check_fixed(address: u64, length: u64) -> Result<()> {
    if length > USER_END || address > USER_END - length {
        return Err(Errno::ENOMEM);
    }
    if !aligned(address) {
        return Err(Errno::EINVAL);
    }
    if address < lowest() {
        return Err(Errno::EPERM);
    }
    host_map::check(address, length)
}

/// The area that a request describes, up to `length` (its end is not known yet); makes shared anonymous memory.
fn template(request: &MapRequest, length: u64) -> Result<Area> {
    let kind = request.flags & raw::MAP_TYPE;
    // PROT_SEM and the growth bits mean nothing to mmap(2), which ignores unknown bits.
    let prot = Prot::from_bits_truncate(request.prot);
    let mut area = Area::anonymous(length, prot, AreaFlags::empty());
    if request.flags & raw::MAP_NORESERVE != 0 {
        area.flags |= AreaFlags::NO_RESERVE;
    }
    let grows_down = request.flags & raw::MAP_GROWSDOWN != 0;
    if request.flags & raw::MAP_ANONYMOUS != 0 {
        match kind {
            raw::MAP_SHARED if !grows_down => {
                area.flags |= AreaFlags::SHARED;
                area.content = Content::File(make_shared_memory(length)?, 0);
            }
            raw::MAP_PRIVATE => area.flags.set(AreaFlags::GROWS_DOWN, grows_down),
            _ => return Err(Errno::EINVAL),
        }
        return Ok(area);
    }
    let file = request.file.as_ref().ok_or(Errno::EBADF)?;
    match kind {
        raw::MAP_SHARED | raw::MAP_SHARED_VALIDATE => {
            let unknown = request.flags & !(KNOWN_FLAGS | raw::MAP_FIXED_NOREPLACE | raw::MAP_TYPE);
            if kind == raw::MAP_SHARED_VALIDATE && unknown != 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if prot.contains(Prot::WRITE) && !file.writable {
                return Err(Errno::EACCES);
            }
            area.flags |= AreaFlags::SHARED;
            area.may.set(Prot::WRITE, file.writable);
        }
        raw::MAP_PRIVATE => {}
        _ => return Err(Errno::EINVAL),
    }
    if !file.readable {
        return Err(Errno::EACCES);
    }
    if !file.executable {
        if prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        area.may.remove(Prot::EXEC);
    }
    if grows_down {
        return Err(Errno::EINVAL);
    }
    area.content = Content::File(file.file.clone(), request.offset);
    Ok(area)
}

impl Inner {
    /// Linux's `get_unmapped_area` without a fixed place.
    pub fn choose(&mut self, request: &MapRequest, length: u64, area: &Area) -> Result<u64> {
        let lowest = lowest().next_multiple_of(PAGE_SIZE);
        if length > USER_END - lowest {
            return Err(Errno::ENOMEM);
        }
        let low = request.flags & raw::MAP_32BIT != 0;
        let ceiling = if low { 1 << 31 } else { USER_END };
        let hint = request.address & !(PAGE_SIZE - 1);
        if hint != 0 {
            let hint = hint.max(lowest);
            let end = hint.checked_add(length).filter(|end| *end <= ceiling);
            if end.is_some_and(|end| self.map.is_free_guarded(hint, end)) {
                return Ok(hint);
            }
        }
        if low {
            return self.map.lowest_gap(1 << 30, ceiling, length).ok_or(Errno::ENOMEM);
        }
        if matches!(area.content, Content::Anonymous)
            && length >= HUGE_PAGE
            && length.is_multiple_of(HUGE_PAGE)
            && let Some(start) = self.map.pick(lowest, length + HUGE_PAGE)
        {
            // As Linux since 6.7: room for huge pages.
            return Ok((start & !(HUGE_PAGE - 1)) + HUGE_PAGE);
        }
        self.pick(length)
    }

    /// The highest gap below the place of mappings, or any above the bottom-up base.
    pub fn pick(&mut self, length: u64) -> Result<u64> {
        let lowest = lowest().next_multiple_of(PAGE_SIZE);
        let found = self.map.pick(lowest, length);
        found.or_else(|| self.map.lowest_gap(BOTTOM_UP_BASE, USER_END, length)).ok_or(Errno::ENOMEM)
    }

    /// Maps an area at `start` in place of what is there; the areas that were there are the caller's to drop without the
    /// lock. When the host refuses, nothing is mapped there afterwards, as when Linux fails halfway.
    pub fn place(
        &mut self,
        start: u64,
        area: Area,
        map: impl FnOnce(u64, &Area) -> Result<Vec<(u64, u64)>>,
    ) -> (Vec<(u64, Area)>, Result<()>) {
        let end = area.end;
        self.patches.forget(start, end);
        self.screen.forget(start, end);
        let old = self.map.remove(start, end);
        self.beyond.remove(start, end);
        match map(start, &area) {
            Ok(beyond) => {
                for (start, end) in beyond {
                    self.beyond.insert(start, end);
                }
                self.map.insert(start, area);
                (old, Ok(()))
            }
            Err(error) => {
                if host_map::check(start, end - start).is_ok() {
                    let _ = host::munmap(start, end - start);
                }
                (old, Err(error))
            }
        }
    }

    /// Unmaps `[start, end)` but for the kernel's region; the areas are the caller's to drop without the lock.
    pub fn unmap(&mut self, start: u64, end: u64) -> Result<Vec<(u64, Area)>> {
        // Only a range in the middle of one area makes one more.
        let middle = self.map.find(start).is_some_and(|(first, area)| first < start && area.end > end);
        if middle && self.map.count() >= MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        let mut removed = Vec::new();
        for (start, end) in self.map.outside_reserved(start, end) {
            if self.map.overlapping(start, end).next().is_some() {
                host_map::check(start, end - start)?;
                host::munmap(start, end - start)?;
                self.patches.forget(start, end);
                self.screen.forget(start, end);
                removed.append(&mut self.map.remove(start, end));
                self.beyond.remove(start, end);
            }
        }
        Ok(removed)
    }
}
