//! The robust list (get_robust_list(2)) and `clear_child_tid`: what a thread leaves behind in program memory.

use super::wake_shared;
use crate::args::Args;
use crate::table::Context;
use crate::{Errno, Result};
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::task::Task;
use kernel::uaccess;
use trap_handler::copy;

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
        tid => crate::thread::task(context.named(tid)?)?,
    };
    if !may_look_at(context, &task) {
        return Err(Errno::EPERM);
    }
    uaccess::write(args.u64(2), &HEAD_SIZE)?;
    uaccess::write(args.u64(1), &task.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}

/// ptrace(2)'s rule for reading another's state, with real ids.
fn may_look_at(context: &Context<'_>, task: &Task) -> bool {
    if core::ptr::eq(&*context.thread.task.group, &*task.group) {
        return true;
    }
    let (ours, theirs) = (context.cred(), task.cred());
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == ours.uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|id| *id == ours.gid);
    same || ours.has(cap::SYS_PTRACE)
}

pub(super) fn sys_set_tid_address(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.thread.task.clear_child_tid.store(args.u64(0), Ordering::Relaxed);
    Ok(context.thread.task.own_tid() as u64)
}

/// Zeroes and wakes the word that pthread_join(3) waits on. For the ending thread itself.
pub fn clear_child_tid(task: &Task) {
    let address = task.clear_child_tid.swap(0, Ordering::Relaxed);
    if address != 0 && uaccess::store_u32(address, 0).is_ok() {
        wake_shared(address);
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
    let tid = task.own_tid() as u32;
    for _ in 0..LIMIT {
        // Bit 0 of an entry says that it is a priority-inheriting lock; the rest is its address.
        if entry & !1 == head {
            break;
        }
        let next = word(entry & !1);
        if entry & !1 != pending & !1
            && release((entry & !1).wrapping_add(offset), tid, entry & 1 != 0, false).is_err()
        {
            return;
        }
        let Ok(next) = next else { return };
        entry = next;
    }
    if pending & !1 != 0 {
        let _ = release((pending & !1).wrapping_add(offset), tid, pending & 1 != 0, true);
    }
}

/// Leaves one lock. `pending`: the thread was about to take it or had just left it.
fn release(address: u64, tid: u32, inherits: bool, pending: bool) -> Result<()> {
    let mut seen = copy::load_u32_user(address)?;
    if pending && !inherits && seen == 0 {
        // It may have unlocked the word without having woken anybody (Linux: handle_futex_death).
        wake_shared(address);
        return Ok(());
    }
    while seen & TID_MASK == tid {
        let now = uaccess::compare_exchange_u32(address, seen, (seen & WAITERS) | OWNER_DIED)?;
        if now == seen {
            if seen & WAITERS != 0 {
                wake_shared(address);
            }
            break;
        }
        seen = now;
    }
    Ok(())
}
