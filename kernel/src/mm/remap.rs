//! mremap(2).

use super::area::{Area, AreaFlags, Content};
use super::host_map;
use super::map_calls::MapRequest;
use super::space::{AddressSpace, Inner, Limits, MAX_AREAS, aligned, lowest, page_up};
use crate::{Errno, Result};
use alloc::vec::Vec;
use boundary::layout::USER_END;
use linux_raw_sys::general as raw;
use trap_handler::host;

/// The arguments of mremap(2).
#[derive(Debug, Clone, Copy)]
struct Move {
    old: u64,
    old_length: u64,
    new_length: u64,
    flags: u32,
    target: u64,
}

type Removed = Vec<(u64, Area)>;

impl AddressSpace {
    /// mremap(2); the new address. Checks are in Linux's order.
    pub fn mremap(
        &self,
        old: u64,
        old_length: u64,
        new_length: u64,
        flags: u32,
        target: u64,
        limits: &Limits,
    ) -> Result<u64> {
        let (may_move, fixed, keep) = (
            flags & raw::MREMAP_MAYMOVE != 0,
            flags & raw::MREMAP_FIXED != 0,
            flags & raw::MREMAP_DONTUNMAP != 0,
        );
        let known = raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED | raw::MREMAP_DONTUNMAP;
        if flags & !known != 0 || ((fixed || keep) && !may_move) || !aligned(old) {
            return Err(Errno::EINVAL);
        }
        let old_length = page_up(old_length).ok_or(Errno::EINVAL)?;
        let new_length = page_up(new_length).filter(|length| *length != 0).ok_or(Errno::EINVAL)?;
        if keep && old_length != new_length {
            return Err(Errno::EINVAL);
        }
        let mut call = Move { old, old_length, new_length, flags, target };
        let mut removed = Removed::new();
        let mut inner = self.inner.write();
        let result = inner.remap(&mut call, limits, &mut removed);
        let locked = result.as_ref().is_ok_and(|address| {
            inner.map.find(*address).is_some_and(|(_, area)| area.flags.contains(AreaFlags::LOCKED))
        });
        drop(inner);
        drop(removed);
        let address = result?;
        if locked && new_length > old_length {
            super::lock_calls::lock_on_host(address + old_length, new_length - old_length);
        }
        Ok(address)
    }
}

impl Inner {
    fn remap(&mut self, call: &mut Move, limits: &Limits, removed: &mut Removed) -> Result<u64> {
        let old = call.old;
        let elsewhere = call.flags & (raw::MREMAP_FIXED | raw::MREMAP_DONTUNMAP) != 0;
        if elsewhere {
            self.check_target(call)?;
        }
        if self.map.find(old).is_none() {
            return Err(Errno::EFAULT);
        }
        let old_end = old.checked_add(call.old_length).filter(|end| *end <= USER_END).ok_or(Errno::EINVAL)?;
        if !elsewhere && call.old_length >= call.new_length {
            if call.old_length > call.new_length {
                removed.append(&mut self.unmap(old + call.new_length, old_end)?);
            }
            return Ok(old);
        }
        if elsewhere {
            // Refused before the target is unmapped.
            let kept = Move { old_length: call.old_length.min(call.new_length), ..*call };
            self.source(&kept, limits)?;
            if call.flags & raw::MREMAP_FIXED != 0 {
                removed.append(&mut self.unmap(call.target, call.target + call.new_length)?);
            }
            if call.old_length > call.new_length {
                removed.append(&mut self.unmap(old + call.new_length, old_end)?);
                call.old_length = call.new_length;
            }
        }
        let area = self.source(call, limits)?;
        if !elsewhere && area.end == old + call.old_length && self.grow(call, &area)? {
            return Ok(old);
        }
        if call.flags & raw::MREMAP_MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        let target = if call.flags & raw::MREMAP_FIXED != 0 {
            call.target
        } else {
            let request = MapRequest {
                address: if elsewhere { call.target } else { 0 },
                length: call.new_length,
                prot: 0,
                flags: 0,
                file: None,
                offset: 0,
            };
            self.choose(&request, call.new_length, &area)?
        };
        self.relocate(call, &area, target, removed)?;
        Ok(target)
    }

    fn check_target(&self, call: &Move) -> Result<()> {
        let Move { old, old_length, new_length, target, .. } = *call;
        if !aligned(target) || new_length > USER_END || target > USER_END - new_length {
            return Err(Errno::EINVAL);
        }
        // MREMAP_DONTUNMAP takes the address as a hint only, but has the same checks.
        let overlap = old.saturating_add(old_length) > target && target.saturating_add(new_length) > old;
        if overlap {
            return Err(Errno::EINVAL);
        }
        if self.map.count() + 2 >= MAX_AREAS - 3 {
            return Err(Errno::ENOMEM);
        }
        if call.flags & raw::MREMAP_FIXED != 0 {
            if target < lowest() {
                return Err(Errno::EPERM);
            }
            host_map::check(target, new_length)?;
        }
        Ok(())
    }

    /// The area to move or grow, from the old address on, with the rules of Linux's `vma_to_resize`.
    fn source(&self, call: &Move, limits: &Limits) -> Result<Area> {
        let Some((start, area)) = self.map.find(call.old) else { return Err(Errno::EFAULT) };
        if call.old_length == 0 && !area.shared() {
            return Err(Errno::EINVAL);
        }
        let special = matches!(area.content, Content::Special(_));
        if special && call.flags & raw::MREMAP_DONTUNMAP != 0 {
            return Err(Errno::EINVAL);
        }
        if call.old_length > area.end - call.old {
            return Err(Errno::EFAULT);
        }
        let tail = area.tail(start, call.old);
        let keep = call.flags & raw::MREMAP_DONTUNMAP != 0;
        let more = if keep { call.new_length } else { call.new_length - call.old_length };
        if more == 0 {
            return Ok(tail);
        }
        if special {
            return Err(Errno::EFAULT);
        }
        if let Content::File(_, offset) = &tail.content
            && offset.checked_add(call.new_length).is_none()
        {
            return Err(Errno::EINVAL);
        }
        if area.flags.intersects(AreaFlags::ANY_LOCK) && !self.may_lock(limits, more) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(limits, area.is_data(), more) {
            return Err(Errno::ENOMEM);
        }
        Ok(tail)
    }

    /// Grows in place if there is room behind; `area` is what is there from the old address on.
    fn grow(&mut self, call: &Move, area: &Area) -> Result<bool> {
        let (from, end) = (area.end, call.old.saturating_add(call.new_length));
        let fits = end <= USER_END && end > from && self.map.is_free_guarded(from, end);
        if !fits || host_map::check(from, end - from).is_err() {
            return Ok(false);
        }
        let more = Area { end, ..area.tail(call.old, from) };
        let (_, result) = self.place(from, more, |start, area| host_map::area(start, area, 0));
        result?;
        if self.map.find(from).is_some_and(|(start, _)| start == from) {
            self.map.weld(from);
        }
        Ok(true)
    }

    fn relocate(&mut self, call: &Move, area: &Area, target: u64, removed: &mut Removed) -> Result<()> {
        let Move { old, old_length, new_length, flags, .. } = *call;
        let keep = flags & raw::MREMAP_DONTUNMAP;
        let mut moved = Area { end: target + new_length, ..area.clone() };
        let anonymous = matches!(area.content, Content::Anonymous);
        host_map::check(old, old_length)?;
        host_map::check(target, new_length)?;
        self.restore_calls(old, old + old_length);
        self.close_code(old, old + old_length)?;

        // Memory without a file is moved and grown by one host call, where the host has it as one area.
        let at_once = anonymous && new_length > old_length && {
            match host::mremap_fixed(old, old_length, new_length, keep, target) {
                Ok(_) => true,
                Err(Errno::EFAULT) => false,
                Err(error) => return Err(error),
            }
        };
        if !at_once {
            if old_length > 0 {
                host_map::relocate(old, old_length, target, keep)?;
            }
            if new_length > old_length {
                let from = target + old_length;
                let more = Area { end: moved.end, ..moved.tail(target, from) };
                match host_map::area(from, &more, 0) {
                    Ok(beyond) => {
                        self.beyond.remove(from, more.end);
                        beyond.into_iter().for_each(|(start, end)| self.beyond.insert(start, end));
                    }
                    Err(error) => {
                        if old_length > 0 {
                            let _ = host_map::relocate(target, old_length, old, 0);
                        }
                        return Err(error);
                    }
                }
            }
        }
        if old_length > 0 {
            if keep == 0 {
                removed.append(&mut self.map.remove(old, old + old_length));
                self.beyond.shift(old, old_length, target);
                self.screen.shift(old, old_length, target);
            } else {
                // The old place stays mapped, empty and no longer locked.
                self.map.update(old, old + old_length, |area| area.flags.remove(AreaFlags::ANY_LOCK));
                self.screen.share(old, old_length, target);
                self.drop_code(old, old + old_length)?;
            }
        }
        // Moving takes the locks along.
        moved.flags = area.flags;
        self.map.insert(target, moved);
        Ok(())
    }
}
