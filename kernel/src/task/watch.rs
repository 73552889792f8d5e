//! Debug registers of a tracee. The processor's own cannot be had from user mode, so a thread with an enabled breakpoint or
//! watchpoint runs step by step, and what it watches is looked at after each: slow, but a debugger need not know.
//!
//! Layout: Intel SDM volume 3, 19.2. Watchpoints on reads cannot be done this way and are refused.

use super::trace::{Trace, traced};
use crate::{Errno, Result};
use boundary::layout::USER_END;
use core::sync::atomic::Ordering;
use trap_handler::{copy, region};

/// DR6 when nothing has happened: its reserved bits.
const STATUS_IDLE: u64 = 0xffff_0ff0;
/// DR6: a single step has ended.
const STATUS_STEP: u64 = 0x4000;

/// DR0 to DR3, DR6 and DR7.
#[derive(Debug, Clone)]
pub struct DebugRegisters {
    addresses: [u64; 4],
    status: u64,
    control: u64,
    /// What the watched memory held when it was looked at last.
    seen: [u64; 4],
}

impl Default for DebugRegisters {
    fn default() -> Self {
        DebugRegisters { addresses: [0; 4], status: STATUS_IDLE, control: 0, seen: [0; 4] }
    }
}

/// One enabled register.
struct Point {
    index: usize,
    address: u64,
    /// Bytes that are watched for changes; 0 for a breakpoint on an instruction.
    length: usize,
}

fn point(index: usize, address: u64, control: u64) -> Result<Option<Point>> {
    const INSTRUCTION: u64 = 0;
    const WRITE: u64 = 1;
    if control >> (2 * index) & 3 == 0 {
        return Ok(None);
    }
    let (kind, length) = (control >> (16 + 4 * index) & 3, control >> (18 + 4 * index) & 3);
    let length = match (kind, length) {
        (INSTRUCTION, 0) => 0,
        (WRITE, 0) => 1,
        (WRITE, 1) => 2,
        (WRITE, 3) => 4,
        (WRITE, 2) => 8,
        (2 | 3, _) => {
            crate::warn!("ptrace: watchpoints on reads are not available: EINVAL");
            return Err(Errno::EINVAL);
        }
        _ => return Err(Errno::EINVAL),
    };
    let aligned = length == 0 || address.is_multiple_of(length as u64);
    if !aligned || !region::is_user(address, length as u64) {
        return Err(Errno::EINVAL);
    }
    Ok(Some(Point { index, address, length }))
}

impl DebugRegisters {
    /// The value of DR0 to DR7.
    pub fn get(&self, number: usize) -> u64 {
        match number {
            6 => self.status,
            7 => self.control,
            _ => self.addresses.get(number).copied().unwrap_or(0),
        }
    }

    fn points(&self) -> impl Iterator<Item = Point> + use<> {
        let (addresses, control) = (self.addresses, self.control);
        addresses
            .into_iter()
            .enumerate()
            .filter_map(move |(index, address)| point(index, address, control).ok().flatten())
    }

    /// Sets one: `EINVAL` for what cannot be done, `EIO` for those that are none.
    fn set(&mut self, number: usize, value: u64) -> Result<()> {
        let (mut addresses, mut control) = (self.addresses, self.control);
        match number {
            6 => {
                self.status = value;
                return Ok(());
            }
            7 => control = value,
            0..4 if value >= USER_END => return Err(Errno::EINVAL),
            _ => *addresses.get_mut(number).ok_or(Errno::EIO)? = value,
        }
        for (index, address) in addresses.into_iter().enumerate() {
            point(index, address, control)?;
        }
        (self.addresses, self.control) = (addresses, control);
        Ok(())
    }

    /// Looks at what is watched, with the program at `rip`: a bit for each register that has something to say.
    fn look(&mut self, rip: u64) -> u64 {
        let mut hits = 0;
        for point in self.points() {
            let changed = if point.length == 0 { rip == point.address } else { self.has_changed(&point) };
            hits |= u64::from(changed) << point.index;
        }
        hits
    }

    fn has_changed(&mut self, point: &Point) -> bool {
        let mut bytes = [0u8; 8];
        let Some(part) = bytes.get_mut(..point.length) else { return false };
        if copy::from_user(part, point.address).is_err() {
            return false;
        }
        let value = u64::from_le_bytes(bytes);
        self.seen.get_mut(point.index).is_some_and(|seen| core::mem::replace(seen, value) != value)
    }
}

impl Trace {
    /// Sets DR0 to DR7 of a tracee in a stop.
    pub fn set_debug_register(&self, number: usize, value: u64) -> Result<()> {
        let mut state = self.lock();
        state.debug.set(number, value)?;
        let watches = state.debug.points().next().is_some();
        if watches {
            self.flags.fetch_or(traced::WATCH, Ordering::SeqCst);
        } else {
            self.flags.fetch_and(!traced::WATCH, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Forgets them (execve(2)).
    pub fn clear_debug_registers(&self) {
        self.lock().debug = DebugRegisters::default();
        self.flags.fetch_and(!traced::WATCH, Ordering::SeqCst);
    }

    /// The running tracee is about to go on: from here on changes count.
    pub fn begin_watching(&self) {
        if self.flags() & traced::WATCH != 0 {
            self.lock().debug.look(0);
        }
    }

    /// The running tracee has made a step, to `rip`: whether something that is watched has changed. DR6 says what.
    pub fn look_at_watched(&self, rip: u64) -> bool {
        let flags = self.flags();
        if flags & traced::WATCH == 0 {
            return false;
        }
        let mut state = self.lock();
        let hits = state.debug.look(rip);
        let step = if flags & traced::STEP != 0 { STATUS_STEP } else { 0 };
        state.debug.status = STATUS_IDLE | hits | step;
        hits != 0
    }
}
