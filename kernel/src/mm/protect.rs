//! mprotect(2).

use super::area::{AreaFlags, Prot};
use super::space::{AddressSpace, Inner, Limits, MAX_AREAS, aligned, page_up};
use super::{host_map, screen};
use crate::{Errno, Result};
use linux_raw_sys::general as raw;
use trap_handler::host;

impl AddressSpace {
    /// mprotect(2). As on Linux, what comes before the first obstacle is changed.
    pub fn mprotect(&self, address: u64, length: u64, prot: u32, limits: &Limits) -> Result<()> {
        let grows = prot & (raw::PROT_GROWSDOWN | raw::PROT_GROWSUP);
        let prot = prot & !(raw::PROT_GROWSDOWN | raw::PROT_GROWSUP);
        if grows == raw::PROT_GROWSDOWN | raw::PROT_GROWSUP || !aligned(address) {
            return Err(Errno::EINVAL);
        }
        if length == 0 {
            return Ok(());
        }
        let end = page_up(length).and_then(|length| address.checked_add(length));
        let end = end.filter(|end| *end > address).ok_or(Errno::ENOMEM)?;
        let known = Prot::from_bits(prot & !raw::PROT_SEM).ok_or(Errno::EINVAL)?;

        let mut inner = self.inner.write();
        let (first, area) = match inner.map.find(address) {
            Some(found) => found,
            // With PROT_GROWSDOWN the range may begin below the area.
            None if grows == raw::PROT_GROWSDOWN => {
                inner.map.next(address).filter(|(first, _)| *first < end).ok_or(Errno::ENOMEM)?
            }
            None => return Err(Errno::ENOMEM),
        };
        let mut at = address;
        match grows {
            raw::PROT_GROWSDOWN if area.flags.contains(AreaFlags::GROWS_DOWN) => at = first,
            0 => {}
            _ => return Err(Errno::EINVAL),
        }
        while at < end {
            let Some((_, area)) = inner.map.find(at) else { return Err(Errno::ENOMEM) };
            let to = area.end.min(end);
            inner.protect(at, to, known, limits)?;
            at = to;
        }
        Ok(())
    }
}

impl Inner {
    /// `[start, end)` lies in one area.
    fn protect(&mut self, start: u64, end: u64, prot: Prot, limits: &Limits) -> Result<()> {
        let Some((_, area)) = self.map.find(start) else { return Err(Errno::ENOMEM) };
        if !area.may.contains(prot) {
            return Err(Errno::EACCES);
        }
        if area.prot == prot {
            return Ok(());
        }
        let mut after = area.clone();
        after.prot = prot;
        if screen::refuses(&after) {
            return Err(Errno::EACCES);
        }
        let becomes_data = after.is_data() && !area.is_data();
        if becomes_data && self.map.totals().data.saturating_add(end - start) > limits.data {
            return Err(Errno::ENOMEM);
        }
        let splits = self.map.splits(start, end);
        if splits > 0 && self.map.count() + splits > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        host_map::check(start, end - start)?;
        self.restore_calls(start, end);
        self.close_code(start, end)?;
        host::mprotect(start, end - start, screen::host_bits(prot))?;
        self.map.update(start, end, |area| area.prot = prot);
        Ok(())
    }
}
