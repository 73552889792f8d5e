//! The robust list (get_robust_list(2)) and `clear_child_tid`: what a thread leaves behind in program memory.

use crate::args::Args;
use crate::table::Context;
use crate::{Errno, Result};
use core::sync::atomic::Ordering;
use kernel::task::{Task, lock_table};
use kernel::uaccess;
use trap_handler::{copy, host, region};

/// Entries walked at most (`ROBUST_LIST_LIMIT`).
const LIMIT: usize = 2048;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
/// Size of `struct robust_list_head`.
const HEAD_SIZE: u64 = 24;

pub(super) fn sys_set_robust_list(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u64(1) != HEAD_SIZE {
        return Err(Errno::EINVAL);
    }
    context.thread.task.robust_list.store(args.u64(0), Ordering::Relaxed);
    Ok(0)
}

pub(super) fn sys_get_robust_list(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let task = match args.i32(0) {
        0 => context.thread.task.clone(),
        tid => lock_table()?.task(tid).ok_or(Errno::ESRCH)?,
    };
    uaccess::write(args.u64(2), &HEAD_SIZE)?;
    uaccess::write(args.u64(1), &task.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

pub(super) fn sys_set_tid_address(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.thread.task.clear_child_tid.store(args.u64(0), Ordering::Relaxed);
    Ok(context.thread.task.tid() as u64)
}

fn wake_one(address: u64) {
    const WAKE: u64 = 1;
    if region::is_user(address, 4) && address & 3 == 0 {
        // SAFETY: a program address; waking touches no memory.
        let _ = unsafe { host::futex_user([address, WAKE, 1, 0, 0, 0]) };
    }
}

/// Zeroes and wakes the word that pthread_join(3) waits on. For the ending thread itself.
pub fn clear_child_tid(task: &Task) {
    let address = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if address != 0 && copy::store_u32_user(address, 0).is_ok() {
        wake_one(address);
    }
}

/// Marks every lock that the ending thread still holds as left by a dead owner, and wakes a waiter of each.
pub fn exit_robust_list(task: &Task) {
    let head = task.robust_list.swap(0, Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let word = |address: u64| copy::load_u64_user(address);
    let (Ok(mut entry), Ok(offset), Ok(pending)) = (word(head), word(head + 8), word(head + 16)) else {
        return;
    };
    let tid = task.tid() as u32;
    for _ in 0..LIMIT {
        // Bit 0 of an entry says that it is a priority-inheriting lock; the rest is its address.
        if entry & !1 == head {
            break;
        }
        let next = word(entry & !1);
        if entry & !1 != pending & !1 {
            release((entry & !1).wrapping_add(offset), tid);
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => break,
        }
    }
    if pending & !1 != 0 {
        release((pending & !1).wrapping_add(offset), tid);
    }
}

fn release(address: u64, tid: u32) {
    let Ok(mut seen) = copy::load_u32_user(address) else { return };
    while seen & TID_MASK == tid {
        match copy::compare_exchange_u32_user(address, seen, (seen & WAITERS) | OWNER_DIED) {
            Ok(now) if now == seen => {
                if seen & WAITERS != 0 {
                    wake_one(address);
                    super::pi::wake_after_death(address);
                }
                return;
            }
            Ok(now) => seen = now,
            Err(_) => return,
        }
    }
}
