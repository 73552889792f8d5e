//! Contents of the regular files of the upper: page frames, in runs, with holes.

use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use boundary::layout::PAGE_SIZE;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::frames::{self, Run};
use kernel::mm::Backing;
use kernel::sync::Mutex;
use kernel::uaccess::{Sink, Source, Span};
use linux_raw_sys::general as raw;
use trap_handler::host;

use crate::host::HostFd;

/// Largest file.
const MAX_SIZE: u64 = i64::MAX as u64;
/// Frames taken ahead of a growing file at most, as a power of two.
const MAX_AHEAD: u32 = 4;

/// Contents of a file.
#[derive(Default)]
pub(super) struct UpperData {
    pages: Mutex<Pages>,
    /// Some program has mapped it: its frames stay until the file is gone, because mappings of them may stay.
    mapped: AtomicBool,
}

#[derive(Default)]
struct Pages {
    size: u64,
    /// Runs by the number of their first page in the file. They do not overlap. What lies behind the size is zero.
    runs: BTreeMap<u64, Run>,
}

impl Pages {
    /// The run that has `page`, and its first page.
    fn run_at(&self, page: u64) -> Option<(u64, Run)> {
        let (&first, &run) = self.runs.range(..=page).next_back()?;
        (page - first < run.pages()).then_some((first, run))
    }

    fn next_run(&self, page: u64) -> u64 {
        self.runs.range(page..).next().map_or(u64::MAX, |(&first, _)| first)
    }

    /// The longest contiguous piece of kernel memory from `offset` on, at most `length`: its address (`None`: a hole).
    fn piece(&self, offset: u64, length: u64) -> (Option<u64>, u64) {
        let page = offset / PAGE_SIZE;
        match self.run_at(page) {
            Some((first, run)) => {
                let within = offset - first * PAGE_SIZE;
                let left = run.pages() * PAGE_SIZE - within;
                (Some(frames::address(run.first) + within), left.min(length))
            }
            None => {
                let end = self.next_run(page).saturating_mul(PAGE_SIZE);
                (None, (end - offset).min(length))
            }
        }
    }

    /// Puts frames behind every page of the range.
    fn provide(&mut self, offset: u64, length: u64) -> Result<()> {
        let end = offset.saturating_add(length).div_ceil(PAGE_SIZE);
        let mut page = offset / PAGE_SIZE;
        while page < end {
            if let Some((first, run)) = self.run_at(page) {
                page = first + run.pages();
                continue;
            }
            let room = self.next_run(page) - page;
            let wanted = (end - page).min(room);
            // A file that grows by small writes still gets runs that a mapping can take whole.
            let ahead = room.min(page.min(1 << MAX_AHEAD)).max(1);
            let order = wanted.max(ahead).ilog2().min(frames::MAX_ORDER);
            let run = match frames::allocate(order) {
                Err(Errno::ENOSPC) if order > 0 => frames::allocate(0)?,
                other => other?,
            };
            self.runs.insert(page, run);
            page += run.pages();
        }
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) {
        let (mut at, mut left) = (offset, length);
        while left > 0 {
            let (address, piece) = self.piece(at, left);
            if let Some(address) = address {
                // SAFETY: the frames of this file, mapped writable in every process; the lock is held.
                unsafe { core::ptr::write_bytes(address as *mut u8, 0, piece as usize) };
            }
            (at, left) = (at + piece, left - piece);
        }
    }

    /// Frees the runs that lie whole in `[first, end)` pages.
    fn free(&mut self, first: u64, end: u64) {
        let inside: alloc::vec::Vec<u64> = self
            .runs
            .range(first..)
            .take_while(|(start, _)| **start < end)
            .filter(|(start, run)| start.saturating_add(run.pages()) <= end)
            .map(|(&start, _)| start)
            .collect();
        for start in inside {
            if let Some(run) = self.runs.remove(&start) {
                frames::free(run);
            }
        }
    }
}

impl UpperData {
    pub(super) fn size(&self) -> u64 {
        self.pages.lock().size
    }

    /// In units of 512 bytes.
    pub(super) fn blocks(&self) -> u64 {
        self.pages.lock().runs.values().map(|run| run.pages() * (PAGE_SIZE / 512)).sum()
    }

    pub(super) fn note_mapping(&self) {
        self.mapped.store(true, Ordering::SeqCst);
    }

    /// Before the size grows: what a program wrote behind the end through a mapping is not the file's.
    fn clean_tail(&self, pages: &Pages) {
        if self.mapped.load(Ordering::SeqCst) {
            pages.zero(pages.size, pages.size.next_multiple_of(PAGE_SIZE) - pages.size);
        }
    }

    pub(super) fn read(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let pages = self.pages.lock();
        let mut at = offset;
        let mut done = 0;
        while sink.left() > 0 && at < pages.size {
            let (address, length) = pages.piece(at, (pages.size - at).min(sink.left() as u64));
            let length = length as usize;
            let put = match address {
                Some(address) => {
                    // SAFETY: frames of this file. Programs that map them may change bytes meanwhile: each is read once.
                    sink.put(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
                }
                None => sink.put_zeros(length),
            };
            match put {
                Ok(count) => {
                    done += count;
                    at += count as u64;
                    if count < length {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies bytes from `offset` on; fewer at the end of the file.
    pub(super) fn copy_out(&self, offset: u64, room: &mut [u8]) -> usize {
        let pages = self.pages.lock();
        let mut done = 0;
        while let Some(left) = room.get_mut(done..).filter(|left| !left.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let most = pages.size.saturating_sub(at).min(left.len() as u64);
            let (address, length) = pages.piece(at, most);
            let Some(target) = left.get_mut(..length as usize).filter(|target| !target.is_empty()) else {
                break;
            };
            match address {
                // SAFETY: frames of this file; programs that map them may change bytes meanwhile, each is read once.
                Some(address) => unsafe {
                    core::ptr::copy_nonoverlapping(address as *const u8, target.as_mut_ptr(), target.len());
                },
                None => target.fill(0),
            }
            done += length as usize;
        }
        done
    }

    /// Writes at `offset`, or at the end: bytes written and the offset after.
    pub(super) fn write(&self, offset: Option<u64>, source: &mut Source<'_>) -> Result<(usize, u64)> {
        let mut pages = self.pages.lock();
        let start = offset.unwrap_or(pages.size);
        if source.left() > 0 && start >= MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        if source.left() > 0 && start > pages.size {
            self.clean_tail(&pages);
        }
        let mut at = start;
        while source.left() > 0 && at < MAX_SIZE {
            // In steps: a long write that runs out of memory keeps what it has written.
            let step = (source.left() as u64).min(PAGE_SIZE << frames::MAX_ORDER).min(MAX_SIZE - at);
            let provided = pages.provide(at, step);
            let (Some(address), length) = pages.piece(at, step) else {
                if at == start {
                    provided?;
                }
                break;
            };
            // SAFETY: frames of this file; the lock keeps other writers off, programs may see the bytes come.
            let bytes = unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length as usize) };
            match source.take(bytes) {
                Ok(count) => {
                    at += count as u64;
                    pages.size = pages.size.max(at);
                    if (count as u64) < length {
                        break;
                    }
                }
                Err(error) if at == start => return Err(error),
                Err(_) => break,
            }
        }
        Ok(((at - start) as usize, at))
    }

    /// Sets the size. What is cut off reads as zero if the file grows again.
    pub(super) fn truncate(&self, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let mut pages = self.pages.lock();
        if size < pages.size {
            if !self.mapped.load(Ordering::SeqCst) {
                pages.free(size.div_ceil(PAGE_SIZE), u64::MAX);
            }
            // What programs wrote behind the end of the last page goes with it.
            let length = pages.size.next_multiple_of(PAGE_SIZE) - size;
            pages.zero(size, length);
            if self.mapped.load(Ordering::SeqCst) {
                kernel::mm::note_cut_file();
            }
        } else if size > pages.size {
            self.clean_tail(&pages);
        }
        pages.size = size;
        Ok(())
    }

    /// fallocate(2).
    pub(super) fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|&end| end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let keep = mode & raw::FALLOC_FL_KEEP_SIZE != 0;
        let mut pages = self.pages.lock();
        if !keep && end > pages.size {
            self.clean_tail(&pages);
        }
        match mode & !raw::FALLOC_FL_KEEP_SIZE {
            0 => pages.provide(offset, length)?,
            raw::FALLOC_FL_PUNCH_HOLE if keep => {
                if !self.mapped.load(Ordering::SeqCst) {
                    pages.free(offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
                }
                pages.zero(offset, length);
            }
            raw::FALLOC_FL_ZERO_RANGE => {
                pages.zero(offset, length);
                pages.provide(offset, length)?;
            }
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if !keep {
            pages.size = pages.size.max(end);
        }
        Ok(())
    }

    /// `SEEK_DATA` or `SEEK_HOLE` from a position within the file.
    pub(super) fn find(&self, start: u64, data: bool) -> Result<u64> {
        let pages = self.pages.lock();
        let mut at = start;
        while at < pages.size {
            let (address, length) = pages.piece(at, pages.size - at);
            if address.is_some() == data {
                return Ok(at);
            }
            at += length;
        }
        if data { Err(Errno::ENXIO) } else { Ok(pages.size) }
    }

    /// What a mapping of the range gets: frames for all of it, since the host cannot fill holes for us.
    pub(super) fn backing(&self, offset: u64, length: u64) -> Result<Backing> {
        let mut pages = self.pages.lock();
        let inside = pages.size.next_multiple_of(PAGE_SIZE).saturating_sub(offset).min(length);
        if inside == 0 {
            return Ok(Backing::BeyondEnd { length });
        }
        pages.provide(offset, inside)?;
        let page = offset / PAGE_SIZE;
        let (first, run) = pages.run_at(page).ok_or(Errno::EIO)?;
        let frame = run.first + (page - first);
        let mut count = run.pages() - (page - first);
        // Runs that happen to follow each other in the frames' file make one host mapping.
        while count * PAGE_SIZE < inside
            && let Some((_, next)) = pages.run_at(page + count)
            && next.first == frame + count
        {
            count += next.pages();
        }
        let length = (count * PAGE_SIZE).min(inside);
        Ok(Backing::Host { fd: frames::host_fd(), offset: frames::file_offset(frame), length })
    }

    /// Copies the first `size` bytes of a host file, leaving its holes out. Nobody else has this file yet.
    pub(super) fn fill_from(&self, file: &HostFd, size: u64) -> Result<()> {
        let fd = file.number();
        let mut at = 0;
        while at < size {
            let data = match host::lseek(fd, at as i64, raw::SEEK_DATA) {
                Ok(data) => data,
                Err(Errno::ENXIO) => break,
                // A filesystem that does not know: all of it is data.
                Err(_) => at,
            };
            let hole = host::lseek(fd, data as i64, raw::SEEK_HOLE).unwrap_or(size).min(size);
            at = data;
            while at < hole {
                let address = {
                    let mut pages = self.pages.lock();
                    pages.provide(at, (hole - at).min(PAGE_SIZE << frames::MAX_ORDER))?;
                    pages.piece(at, hole - at)
                };
                let (Some(address), length) = address else { return Err(Errno::EIO) };
                match host::pread(fd, Span { address, length }, at)? {
                    // Shorter than it said: the rest reads as zero.
                    0 => return Ok(()),
                    count => at += count as u64,
                }
            }
            if hole <= data {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for UpperData {
    fn drop(&mut self) {
        // Mappings hold the file, so none is left.
        for run in self.pages.get_mut().runs.values() {
            frames::free(*run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with_runs(runs: &[(u64, u64, u32)]) -> Pages {
        let runs = runs.iter().map(|&(page, first, order)| (page, Run { first, order })).collect();
        Pages { size: 1 << 20, runs }
    }

    #[test]
    fn a_page_belongs_to_the_run_that_covers_it() {
        let pages = file_with_runs(&[(0, 100, 2), (8, 200, 0)]);
        assert_eq!(pages.run_at(3).map(|(first, run)| (first, run.first)), Some((0, 100)));
        assert!(pages.run_at(4).is_none());
        assert_eq!(pages.run_at(8).map(|(first, _)| first), Some(8));
        assert!(pages.run_at(9).is_none());
        assert_eq!(pages.next_run(4), 8);
        assert_eq!(pages.next_run(9), u64::MAX);
    }

    #[test]
    fn a_hole_ends_where_the_next_run_begins() {
        let pages = file_with_runs(&[(8, 200, 0)]);
        assert_eq!(pages.piece(100, 1 << 20), (None, 8 * PAGE_SIZE - 100));
        assert_eq!(pages.piece(9 * PAGE_SIZE, 50), (None, 50));
    }
}
