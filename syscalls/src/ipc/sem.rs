//! semget(2), semop(2), semtimedop(2), semctl(2).

use super::{GET, command, structures};
use crate::args::Args;
use crate::strace::flags::Names;
use crate::table::{Context, Row, Show, full};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kernel::ipc::sem::{self, Operation, Set, State, VALUE_MAX};
use kernel::ipc::{Object, seconds};
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_semget, "semget", sys_semget, &[Show::Int, Show::Int, Show::Flags(GET)]),
    full(raw::__NR_semop, "semop", |_, args| operate(args, None), &[Show::Int, A, Show::Unsigned]),
    full(raw::__NR_semtimedop, "semtimedop", sys_semtimedop, &[Show::Int, A, Show::Unsigned, Show::Timespec]),
    full(raw::__NR_semctl, "semctl", sys_semctl, &[Show::Int, Show::Int, Show::OneOf(CONTROL), A]),
];

const CONTROL: Names = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "GETPID"),
    (12, "GETVAL"),
    (13, "GETALL"),
    (14, "GETNCNT"),
    (15, "GETZCNT"),
    (16, "SETVAL"),
    (17, "SETALL"),
    (18, "SEM_STAT"),
    (19, "SEM_INFO"),
    (20, "SEM_STAT_ANY"),
];

fn sys_semget(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    sem::get(args.i32(0), args.i32(1), args.u32(2)).map(|id| id as u64)
}

fn sys_semtimedop(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    operate(args, uaccess::read_optional(args.u64(3))?)
}

fn operate(args: Args, timeout: Option<raw::timespec>) -> Result<u64> {
    let (id, count) = (args.i32(0), args.u32(2) as usize);
    if count > sem::operations() {
        return Err(Errno::E2BIG);
    }
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    let operations: Vec<Operation> = uaccess::read_array::<[u16; 3]>(args.u64(1), count)?
        .into_iter()
        .map(|[number, change, flags]| Operation { number, change: change as i16, flags })
        .collect();
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = match &timeout {
        Some(timeout) => Some(time::monotonic().saturating_add(time::from_timespec(timeout)?)),
        None => None,
    };
    sem::operate(id, operations, deadline).map(|()| 0)
}

fn sys_semctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, number, what, argument) = (args.i32(0), args.i32(1), args.u32(2), args.u64(3));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = context.cred();
    let sets = sem::sets()?;
    match what {
        command::IPC_INFO | command::SEM_INFO => write_limits(what, argument),
        command::IPC_STAT | command::SEM_STAT | command::SEM_STAT_ANY => {
            let by_place = what != command::IPC_STAT;
            let set = if by_place { sets.at(id)? } else { sets.find(id)? };
            if what != command::SEM_STAT_ANY {
                set.perm().check(cred, 0o444)?;
            }
            write_status(&set, argument)?;
            Ok(if by_place { set.id() as u64 } else { 0 })
        }
        command::GETALL => {
            let set = sets.find(id)?;
            let values: Vec<u16> = {
                let state = set.lock()?;
                state.perm.check(cred, 0o444)?;
                state.semaphores.iter().map(|semaphore| semaphore.value).collect()
            };
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            uaccess::write_bytes(argument, &bytes).map(|()| 0)
        }
        command::SETALL => set_all(context, &*sets.find(id)?, argument),
        command::SETVAL => {
            let value = argument as i32;
            if !(0..=VALUE_MAX).contains(&value) {
                return Err(Errno::ERANGE);
            }
            let set = sets.find(id)?;
            let mut state = set.lock()?;
            let place = place_of(&state, number)?;
            state.perm.check(cred, 0o222)?;
            set_value(&mut state, place, value as u16);
            state.serve_sleepers();
            Ok(0)
        }
        command::GETVAL | command::GETPID | command::GETNCNT | command::GETZCNT => {
            let set = sets.find(id)?;
            let state = set.lock()?;
            state.perm.check(cred, 0o444)?;
            let place = place_of(&state, number)?;
            let semaphore = state.semaphores.get(place).copied().unwrap_or_default();
            Ok(match what {
                command::GETVAL => u64::from(semaphore.value),
                command::GETPID => context.shown(semaphore.pid) as u64,
                _ => state.waiting(place, what == command::GETZCNT) as u64,
            })
        }
        command::IPC_SET => {
            let (uid, gid, bits) = structures::read_perm(argument)?;
            let set = sets.find(id)?;
            let mut state = set.lock()?;
            state.perm.check_owner(cred)?;
            state.perm.set(uid, gid, bits);
            state.changed = seconds();
            Ok(0)
        }
        command::IPC_RMID => sets.find(id)?.remove().map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

fn place_of(state: &State, number: i32) -> Result<usize> {
    usize::try_from(number).ok().filter(|&place| place < state.semaphores.len()).ok_or(Errno::EINVAL)
}

fn set_value(state: &mut State, place: usize, value: u16) {
    let pid = kernel::task::current().group.tgid;
    state.forget_adjustment(place);
    if let Some(semaphore) = state.semaphores.get_mut(place) {
        *semaphore = sem::Semaphore { value, pid };
    }
    state.changed = seconds();
}

fn set_all(context: &Context<'_>, set: &Set, address: u64) -> Result<u64> {
    let count = {
        let state = set.lock()?;
        state.perm.check(context.cred(), 0o222)?;
        state.semaphores.len()
    };
    let values = uaccess::read_array::<u16>(address, count)?;
    if values.iter().any(|&value| i32::from(value) > VALUE_MAX) {
        return Err(Errno::ERANGE);
    }
    let mut state = set.lock()?;
    for (place, value) in values.into_iter().enumerate() {
        set_value(&mut state, place, value);
    }
    state.serve_sleepers();
    Ok(0)
}

/// `struct seminfo`.
fn write_limits(what: u32, address: u64) -> Result<u64> {
    /// Values that Linux tells and does not use (`linux/sem.h`).
    const UNDO_BYTES: i32 = 20;
    let sets = sem::sets()?;
    let (used, highest) = sets.usage();
    let all = sem::of_all_sets() as i32;
    let (usz, aem) = if what == command::SEM_INFO {
        let semaphores: usize = sets.all().iter().map(|set| set.count()).sum();
        (used as i32, semaphores as i32)
    } else {
        (UNDO_BYTES, VALUE_MAX)
    };
    // semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx, semaem.
    let operations = sem::operations() as i32;
    let info = [
        all,
        sets.max() as i32,
        all,
        all,
        sem::of_a_set() as i32,
        operations,
        operations,
        usz,
        VALUE_MAX,
        aem,
    ];
    uaccess::write(address, &info)?;
    Ok(highest as u64)
}

/// `struct semid64_ds`.
fn write_status(set: &Arc<Set>, address: u64) -> Result<()> {
    let state = set.lock()?;
    let perm = structures::perm_words(&state.perm, set.id());
    let rest = [state.operated as u64, 0, state.changed as u64, 0, state.semaphores.len() as u64, 0, 0];
    drop(state);
    structures::write(address, perm, rest)
}
