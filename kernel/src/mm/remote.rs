//! Access to a process's memory on behalf of another: what the process's own thread does when it is asked (ptrace(2),
//! process_vm_readv(2), `/proc/PID/mem`).

use super::area::{Area, AreaFlags, Content, Prot};
use super::screen;
use super::space::{AddressSpace, Inner};
use crate::Result;
use boundary::layout::PAGE_SIZE;
use trap_handler::{copy, host, keys};

/// Rules of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What the program itself could do (process_vm_readv(2)).
    Permitted,
    /// Also what protections forbid, where the mapping is private or could be read (Linux's `FOLL_FORCE`).
    Forced,
}

impl AddressSpace {
    /// Reads from `address` on as far as that goes; bytes read. Rewritten call sites show their original code. Called by a
    /// thread of the process.
    pub fn read_for_other(&self, address: u64, bytes: &mut [u8], reach: Reach) -> usize {
        let mut inner = self.inner.write();
        let mut done = 0;
        for chunk in chunks(address, bytes.len()) {
            let Some(part) = bytes.get_mut(done..done + chunk.1) else { break };
            let read = inner.read_chunk(chunk.0, part, reach);
            done += read;
            if read < chunk.1 {
                break;
            }
        }
        inner.show_original_code(address, bytes.get_mut(..done).unwrap_or(&mut []));
        done
    }

    /// Writes from `address` on as far as that goes; bytes written. Called by a thread of the process.
    pub fn write_for_other(&self, address: u64, bytes: &[u8], reach: Reach) -> usize {
        let mut inner = self.inner.write();
        let mut done = 0;
        for chunk in chunks(address, bytes.len()) {
            let Some(part) = bytes.get(done..done + chunk.1) else { break };
            let written = inner.write_chunk(chunk.0, part, reach);
            done += written;
            if written < chunk.1 {
                break;
            }
        }
        done
    }
}

/// `[address, address + length)` in parts that do not cross pages.
fn chunks(address: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = address.checked_add(done as u64)?;
        let part = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(length - done);
        done += part;
        (part > 0).then_some((at, part))
    })
}

/// Pages of the host kernel that Linux does not let debuggers see (`VM_PFNMAP`).
fn is_clock_page(area: &Area) -> bool {
    matches!(&area.content, Content::Special(name) if name.starts_with("[vvar"))
}

impl Inner {
    fn read_chunk(&mut self, address: u64, bytes: &mut [u8], reach: Reach) -> usize {
        let Some((_, area)) = self.map.find(address) else { return 0 };
        let (prot, may) = (area.prot, area.may);
        if is_clock_page(area) {
            return 0;
        }
        // What can be executed can be read on the host with the guard; and nothing is made executable here.
        if prot.contains(Prot::READ) || keys::on() && prot.contains(Prot::EXEC) {
            return copy::from_user_partial(bytes, address);
        }
        if reach != Reach::Forced || !may.contains(Prot::READ) {
            return 0;
        }
        with_access(address, prot, Prot::READ, || copy::from_user_partial(bytes, address)).unwrap_or(0)
    }

    fn write_chunk(&mut self, address: u64, bytes: &[u8], reach: Reach) -> usize {
        let Some((_, area)) = self.map.find(address) else { return 0 };
        let (prot, may, shared) = (area.prot, area.may, area.flags.contains(AreaFlags::SHARED));
        if is_clock_page(area) {
            return 0;
        }
        if self.close_code(address, address.saturating_add(bytes.len() as u64)).is_err() {
            return 0;
        }
        if prot.contains(Prot::WRITE) {
            return copy::to_user_partial(address, bytes);
        }
        // The page gets a copy of its own, so only private mappings qualify (`is_cow_mapping`).
        if reach != Reach::Forced || shared || !may.contains(Prot::WRITE) {
            return 0;
        }
        self.restore_calls(address, address.saturating_add(bytes.len() as u64));
        // Its code was closed.
        let prot = Prot::from_bits_truncate(screen::host_bits(prot));
        with_access(address, prot, Prot::READ | Prot::WRITE, || copy::to_user_partial(address, bytes))
            .unwrap_or(0)
    }
}

/// Runs `access` while the page of `address` has `more` beside its protection.
fn with_access(address: u64, prot: Prot, more: Prot, access: impl FnOnce() -> usize) -> Result<usize> {
    let page = address & !(PAGE_SIZE - 1);
    super::host_map::check(page, PAGE_SIZE)?;
    host::mprotect(page, PAGE_SIZE, (prot | more).bits())?;
    let done = access();
    host::mprotect(page, PAGE_SIZE, prot.bits())?;
    Ok(done)
}
