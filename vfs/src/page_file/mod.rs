//! Contents of files in page frames: tmpfs, memfd, shared anonymous memory.
//!
//! Frames are mapped writable in every process, so reads and writes copy straight between them and program memory, and a
//! program's mapping of a file is a host mapping of its frames. Bytes behind the end of a file in its last page are zero.
//!
//! While a file is mapped none of its frames is given up: what is cut off is zeroed in place, so that a mapping and the file
//! go on being the same memory when the file grows again. (A mapping that was made before the cut does not raise SIGBUS
//! there.) What lies behind the end is given up with the last mapping.

mod map;
mod quota;

use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use kernel::frames;
use kernel::mm::{Backing, Mappable};
use kernel::sync::RwLock;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;
use map::{PageMap, Place};
pub use quota::Quota;
use trap_handler::host;

/// Largest size of a file (`MAX_LFS_FILESIZE`).
pub const SIZE_MAX: u64 = i64::MAX as u64;
/// Frames emptied at once that are worth a host call to give their memory back.
const WORTH_GIVING_BACK: u64 = 16;
/// Pages filled at a time for a mapping.
const FILL_STEP: u64 = 1 << frames::MAX_ORDER;

#[derive(Default)]
struct Inner {
    size: u64,
    map: PageMap,
    mappings: usize,
    /// Was mapped at some time: bytes behind the end may have been written.
    was_mapped: bool,
}

/// The contents of one file.
#[derive(Default)]
pub struct PageFile {
    inner: RwLock<Inner>,
    quota: Option<Arc<Quota>>,
}

/// Frames as memory.
fn bytes_of(frame: u64, offset: u64, length: u64) -> *mut [u8] {
    core::ptr::slice_from_raw_parts_mut((frames::address(frame) + offset) as *mut u8, length as usize)
}

/// Zeros a part of frames.
fn zero(frame: u64, offset: u64, length: u64) {
    // SAFETY: frames of a file, whose lock is held for writing.
    unsafe { bytes_of(frame, offset, length).cast::<u8>().write_bytes(0, length as usize) }
}

impl Inner {
    fn charge(&self, quota: &Option<Arc<Quota>>, pages: u64) -> Result<()> {
        quota.as_ref().map_or(Ok(()), |quota| quota.charge(pages))
    }

    /// Makes sure that a run covers `page`.
    fn provide(&mut self, page: u64, wanted: u64) -> Result<()> {
        if self.map.extent(page).is_some() {
            return Ok(());
        }
        let order = self.map.order_for(page, wanted);
        let run = match frames::allocate_dirty(order) {
            Err(Errno::ENOSPC) if order > 0 => frames::allocate_dirty(0)?,
            other => other?,
        };
        self.map.add(page, run);
        Ok(())
    }

    /// Takes back a run that was provided and not used.
    fn settle(&mut self, page: u64) {
        self.map.take_empty(page).into_iter().for_each(frames::free);
    }

    /// Writes bytes that lie in one run: `[offset, offset + length)`. The number written.
    fn write_in_run(
        &mut self,
        quota: &Option<Arc<Quota>>,
        offset: u64,
        source: &mut Source<'_>,
    ) -> Result<u64> {
        let page = offset / PAGE_SIZE;
        let wanted = (source.left() as u64).min(SIZE_MAX - offset);
        self.provide(page, (offset % PAGE_SIZE + wanted).div_ceil(PAGE_SIZE))?;
        let Some((start, extent)) = self.map.extent(page) else { return Err(Errno::EIO) };
        let base = start * PAGE_SIZE;
        let mut length = wanted.min(base + extent.run.pages() * PAGE_SIZE - offset);
        let mut charged = self.map.missing(page, (offset + length).div_ceil(PAGE_SIZE));
        if self.charge(quota, charged).is_err() {
            // What fits is written: page by page (or granule by granule) then.
            length = length.min(self.map.granule(page).1 * PAGE_SIZE - offset);
            charged = self.map.missing(page, page + 1);
            if let Err(error) = self.charge(quota, charged) {
                self.settle(page);
                return Err(error);
            }
        }
        let end = offset + length;
        let last = end.div_ceil(PAGE_SIZE);
        let frame = extent.run.first;
        // What is around the bytes in granules that hold no data yet.
        let (low, high) = (self.map.granule(page), self.map.granule(last - 1));
        let holes = |page: u64| matches!(self.map.place(page), Place::Hole { .. });
        let (low_hole, high_hole) = (holes(page), holes(last - 1));
        if low_hole {
            zero(frame, low.0 * PAGE_SIZE - base, offset - low.0 * PAGE_SIZE);
        }
        if high_hole {
            zero(frame, end - base, high.1 * PAGE_SIZE - end);
        }
        // SAFETY: frames of this file, locked for writing. Programs that map them may write too: bytes are bytes.
        let target = unsafe { &mut *bytes_of(frame, offset - base, length) };
        let taken = source.take(target);
        let done = taken.as_ref().map_or(0, |&done| done as u64);
        if done > 0 {
            let until = offset + done;
            let tail = (until - 1) / PAGE_SIZE;
            let granule = self.map.granule(tail);
            if done < length && matches!(self.map.place(tail), Place::Hole { .. }) {
                zero(frame, until - base, granule.1 * PAGE_SIZE - until);
            }
            let before = self.map.used();
            self.map.fill(page, tail + 1);
            self.refund(quota, charged - (self.map.used() - before));
        } else {
            self.refund(quota, charged);
            self.settle(page);
        }
        taken.map(|_| done)
    }

    fn refund(&self, quota: &Option<Arc<Quota>>, pages: u64) {
        if let Some(quota) = quota {
            quota.refund(pages);
        }
    }

    /// Fills holes in `[first, end)` with zeros.
    fn fill(&mut self, quota: &Option<Arc<Quota>>, first: u64, end: u64) -> Result<()> {
        let mut page = first;
        while page < end {
            let pages = match self.map.place(page) {
                Place::Data { pages, .. } => pages,
                Place::Hole { pages } => {
                    let wanted = pages.min(end - page);
                    match self.map.extent(page) {
                        Some((start, extent)) => {
                            let (low, _) = self.map.granule(page);
                            let (_, high) = self.map.granule(page + wanted - 1);
                            self.charge(quota, high - low)?;
                            zero(extent.run.first + (low - start), 0, (high - low) * PAGE_SIZE);
                            self.map.fill(page, page + wanted);
                            wanted
                        }
                        None => self.fill_with_run(quota, page, wanted)?,
                    }
                }
            };
            page = page.saturating_add(pages);
        }
        Ok(())
    }

    /// Fresh frames are zero without having been touched.
    fn fill_with_run(&mut self, quota: &Option<Arc<Quota>>, page: u64, wanted: u64) -> Result<u64> {
        // Not longer than what is filled: all of it counts.
        let order = self.map.order_for(page, wanted).min(wanted.ilog2());
        self.charge(quota, 1 << order)?;
        let run = match frames::allocate(order) {
            Ok(run) => run,
            Err(Errno::ENOSPC) if order > 0 => {
                self.refund(quota, (1 << order) - 1);
                frames::allocate(0).inspect_err(|_| self.refund(quota, 1))?
            }
            Err(error) => {
                self.refund(quota, 1 << order);
                return Err(error);
            }
        };
        self.map.add(page, run);
        self.map.fill(page, page + run.pages());
        Ok(run.pages())
    }

    /// Zeros `[offset, end)` where there is data, without giving frames up.
    fn zero_bytes(&mut self, offset: u64, end: u64) {
        let mut at = offset;
        while at < end {
            let page = at / PAGE_SIZE;
            match self.map.place(page) {
                Place::Data { frame, pages } => {
                    let until = end.min(page.saturating_add(pages).saturating_mul(PAGE_SIZE));
                    zero(frame, at % PAGE_SIZE, until - at);
                    at = until;
                }
                Place::Hole { pages } => at = page.saturating_add(pages).saturating_mul(PAGE_SIZE),
            }
        }
    }

    /// Makes `[offset, end)` read as zero, and gives up frames where that can be done.
    fn punch(&mut self, quota: &Option<Arc<Quota>>, offset: u64, end: u64) {
        let (first, last) = (offset.div_ceil(PAGE_SIZE), end / PAGE_SIZE);
        if self.mappings > 0 || first >= last {
            self.zero_bytes(offset, end);
            return;
        }
        self.zero_bytes(offset, first * PAGE_SIZE);
        self.zero_bytes(last.saturating_mul(PAGE_SIZE), end);
        let before = self.map.used();
        let (gone, emptied) = self.map.clear(first, last);
        self.refund(quota, before - self.map.used());
        gone.into_iter().for_each(frames::free);
        for (frame, count) in emptied {
            if count >= WORTH_GIVING_BACK {
                let mode = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE;
                let _ =
                    host::fallocate(frames::host_fd(), mode, frames::file_offset(frame), count * PAGE_SIZE);
            }
        }
        // Granules that stay because only a part of them was cut.
        self.zero_bytes(first * PAGE_SIZE, last.saturating_mul(PAGE_SIZE));
    }

    /// Before the size grows: what a program wrote behind the end is not the file's.
    fn clean_tail(&mut self) {
        if self.was_mapped && !self.size.is_multiple_of(PAGE_SIZE) {
            self.zero_bytes(self.size, self.size.next_multiple_of(PAGE_SIZE));
        }
    }
}

impl PageFile {
    /// An empty file, counted by `quota` if there is one.
    pub fn new(quota: Option<Arc<Quota>>) -> Arc<PageFile> {
        Arc::new(PageFile { inner: RwLock::default(), quota })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.inner.read().size
    }

    /// Bytes, and how many units of 512 bytes hold data.
    pub fn size_and_blocks(&self) -> (u64, u64) {
        let inner = self.inner.read();
        (inner.size, inner.map.used() * (PAGE_SIZE / 512))
    }

    /// Reads from `offset` on, up to the end; the number of bytes.
    pub fn read(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let inner = self.inner.read();
        let mut at = offset;
        let mut done = 0;
        while at < inner.size && sink.left() > 0 {
            let page = at / PAGE_SIZE;
            let most = (inner.size - at).min(sink.left() as u64);
            let left_in = |pages: u64| page.saturating_add(pages).saturating_mul(PAGE_SIZE) - at;
            let (wanted, put) = match inner.map.place(page) {
                Place::Data { frame, pages } => {
                    let length = most.min(left_in(pages));
                    // SAFETY: frames of this file, locked. Programs that map them may write meanwhile: each byte is read once.
                    (length, sink.put(unsafe { &*bytes_of(frame, at % PAGE_SIZE, length) }))
                }
                Place::Hole { pages } => {
                    let length = most.min(left_in(pages));
                    (length, sink.put_zeros(length as usize))
                }
            };
            match put {
                Ok(count) => {
                    done += count;
                    at += count as u64;
                    if (count as u64) < wanted {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Writes at `offset`; the number of bytes: `ENOSPC`, `EFBIG`.
    pub fn write(&self, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        self.write_locked(&mut self.inner.write(), offset, source)
    }

    /// Writes at the end; the number of bytes, and where the end is then.
    pub fn append(&self, source: &mut Source<'_>) -> Result<(usize, u64)> {
        let mut inner = self.inner.write();
        let end = inner.size;
        let done = self.write_locked(&mut inner, end, source)?;
        Ok((done, end + done as u64))
    }

    fn write_locked(&self, inner: &mut Inner, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if source.left() == 0 {
            return Ok(0);
        }
        if offset >= SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if offset > inner.size {
            inner.clean_tail();
        }
        let mut at = offset;
        while source.left() > 0 && at < SIZE_MAX {
            let before = source.left();
            match inner.write_in_run(&self.quota, at, source) {
                Ok(0) => break,
                Ok(count) => {
                    at += count;
                    inner.size = inner.size.max(at);
                    // Short of its run: the program's memory ended.
                    if before as u64 > count && !at.is_multiple_of(PAGE_SIZE) {
                        break;
                    }
                }
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
        }
        Ok((at - offset) as usize)
    }

    /// Sets the size: `EFBIG`. What is cut off is zero when the file grows again.
    pub fn truncate(&self, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let mut inner = self.inner.write();
        if size < inner.size {
            inner.size = size;
            // With what was allocated behind the end.
            inner.punch(&self.quota, size, SIZE_MAX);
            if inner.mappings > 0 {
                kernel::mm::note_cut_file();
            }
        } else if size > inner.size {
            inner.clean_tail();
            inner.size = size;
        }
        Ok(())
    }

    /// fallocate(2): no mode, `KEEP_SIZE`, `PUNCH_HOLE | KEEP_SIZE`, `ZERO_RANGE` with or without `KEEP_SIZE`; `EOPNOTSUPP` for
    /// others, `ENOSPC`, `EFBIG`.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let end = offset.checked_add(length).filter(|&end| end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        let keep = mode & raw::FALLOC_FL_KEEP_SIZE != 0;
        let mut inner = self.inner.write();
        match mode & !raw::FALLOC_FL_KEEP_SIZE {
            0 => {}
            raw::FALLOC_FL_PUNCH_HOLE if keep => {
                inner.punch(&self.quota, offset, end);
                return Ok(());
            }
            raw::FALLOC_FL_ZERO_RANGE => inner.zero_bytes(offset, end),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if end > inner.size && !keep {
            inner.clean_tail();
        }
        inner.fill(&self.quota, offset / PAGE_SIZE, end.div_ceil(PAGE_SIZE))?;
        if !keep {
            inner.size = inner.size.max(end);
        }
        Ok(())
    }

    /// `SEEK_DATA` (`hole` false) and `SEEK_HOLE` from an offset on: `ENXIO`.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        let inner = self.inner.read();
        if offset >= inner.size {
            return Err(Errno::ENXIO);
        }
        let page = offset / PAGE_SIZE;
        if hole {
            let found = inner.map.next_hole(page).saturating_mul(PAGE_SIZE);
            return Ok(found.max(offset).min(inner.size));
        }
        let found = inner.map.next_data(page).ok_or(Errno::ENXIO)?.saturating_mul(PAGE_SIZE).max(offset);
        if found < inner.size { Ok(found) } else { Err(Errno::ENXIO) }
    }

    /// What mmap(2) maps. `shown` is device, inode number and path for `/proc/PID/maps`.
    pub fn mappable(self: &Arc<Self>, shown: (u64, u64, Vec<u8>)) -> Arc<dyn Mappable> {
        {
            let mut inner = self.inner.write();
            inner.mappings += 1;
            inner.was_mapped = true;
        }
        Arc::new(Mapping { file: self.clone(), shown })
    }

    fn backing(&self, offset: u64, length: u64) -> Result<Backing> {
        let mut inner = self.inner.write();
        let end = inner.size.next_multiple_of(PAGE_SIZE).min(offset.saturating_add(length)) / PAGE_SIZE;
        let first = offset / PAGE_SIZE;
        if first >= end {
            return Ok(Backing::BeyondEnd { length });
        }
        let mut at = first;
        let mut start = None;
        while at < end {
            inner.fill(&self.quota, at, end.min(at + FILL_STEP))?;
            let Place::Data { frame, pages } = inner.map.place(at) else { break };
            let from = *start.get_or_insert(frame);
            // As far as frames follow each other, runs are mapped at once.
            if frame != from + (at - first) {
                break;
            }
            at = end.min(at + pages);
        }
        let frame = start.ok_or(Errno::EIO)?;
        let length = (at - first) * PAGE_SIZE;
        Ok(Backing::Host { fd: frames::host_fd(), offset: frames::file_offset(frame), length })
    }
}

impl Drop for PageFile {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        if let Some(quota) = &self.quota {
            quota.refund(inner.map.used());
        }
        inner.map.take_all().for_each(frames::free);
    }
}

/// One mmap(2) of a file, with all that came of it by fork and mremap.
struct Mapping {
    file: Arc<PageFile>,
    shown: (u64, u64, Vec<u8>),
}

impl Mappable for Mapping {
    fn backing(&self, offset: u64, length: u64, _shared: bool, _writable: bool) -> Result<Backing> {
        self.file.backing(offset, length)
    }

    fn end(&self) -> Option<u64> {
        Some(self.file.size())
    }

    fn remove(&self, offset: u64, length: u64) -> Option<Result<()>> {
        Some(self.file.allocate(raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE, offset, length))
    }

    fn describe(&self) -> (u64, u64, Vec<u8>) {
        self.shown.clone()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut inner = self.file.inner.write();
        inner.mappings -= 1;
        if inner.mappings == 0 {
            let size = inner.size;
            inner.punch(&self.file.quota, size, SIZE_MAX);
        }
    }
}

/// Shared anonymous memory of so many bytes, for `kernel::mm::set_shared_memory`: shown as Linux shows it.
pub fn shared_memory(length: u64) -> Result<Arc<dyn Mappable>> {
    let file = PageFile::new(None);
    file.truncate(length)?;
    let ino = Arc::as_ptr(&file) as u64 >> 4 & 0xffff_ffff;
    Ok(file.mappable((crate::attributes::device(0, 1), ino, b"/dev/zero (deleted)".to_vec())))
}
