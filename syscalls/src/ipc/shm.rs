//! shmget(2), shmat(2), shmdt(2), shmctl(2).

use super::{GET, command, structures};
use crate::args::Args;
use crate::strace::flags::Names;
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result};
use alloc::sync::Arc;
use boundary::layout::PAGE_SIZE;
use kernel::cred::cap;
use kernel::ipc::{Object, seconds};
use kernel::mm::{FileToMap, Limits, MapRequest};
use kernel::uaccess;
use linux_raw_sys::general as raw;
use vfs::shm::{self, Segment, mode};

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    partial(
        raw::__NR_shmget,
        "shmget",
        sys_shmget,
        &[Show::Int, Show::Unsigned, Show::Flags(GET)],
        "no huge pages: ENOMEM, as with an empty pool",
    ),
    full(raw::__NR_shmat, "shmat", sys_shmat, &[Show::Int, A, Show::Flags(ATTACH)]),
    full(raw::__NR_shmdt, "shmdt", sys_shmdt, &[A]),
    full(raw::__NR_shmctl, "shmctl", sys_shmctl, &[Show::Int, Show::OneOf(CONTROL), A]),
];

const ATTACH: Names = &[
    (RDONLY as u64, "SHM_RDONLY"),
    (RND as u64, "SHM_RND"),
    (REMAP as u64, "SHM_REMAP"),
    (EXEC as u64, "SHM_EXEC"),
];
const CONTROL: Names = &[
    (0, "IPC_RMID"),
    (1, "IPC_SET"),
    (2, "IPC_STAT"),
    (3, "IPC_INFO"),
    (11, "SHM_LOCK"),
    (12, "SHM_UNLOCK"),
    (13, "SHM_STAT"),
    (14, "SHM_INFO"),
    (15, "SHM_STAT_ANY"),
];

const RDONLY: u32 = 0o10000;
const RND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const EXEC: u32 = 0o100000;
const HUGETLB: u32 = 0o4000;

fn sys_shmget(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(2);
    let key = args.i32(0);
    let exists = || shm::get(key, 0, 0).is_ok();
    if flags & HUGETLB != 0 && (key == 0 || !exists()) {
        // As a machine whose pool of huge pages is empty; sizes other than the two that x86-64 has are unknown.
        let size = flags >> raw::MAP_HUGE_SHIFT & 0x3f;
        return Err(if matches!(size, 0 | 21 | 30) { Errno::ENOMEM } else { Errno::EINVAL });
    }
    shm::get(key, args.u64(1), flags).map(|id| id as u64)
}

fn sys_shmat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, mut address, flags) = (args.i32(0), args.u64(1), args.u32(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let mut map_flags = raw::MAP_SHARED;
    if address != 0 {
        if address % PAGE_SIZE != 0 {
            if flags & RND == 0 {
                return Err(Errno::EINVAL);
            }
            address -= address % PAGE_SIZE;
            if address == 0 && flags & REMAP != 0 {
                return Err(Errno::EINVAL);
            }
        }
        map_flags |= if flags & REMAP != 0 { raw::MAP_FIXED } else { raw::MAP_FIXED_NOREPLACE };
    } else if flags & REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let (mut prot, mut wanted) = (raw::PROT_READ, 0o444);
    if flags & RDONLY == 0 {
        prot |= raw::PROT_WRITE;
        wanted |= 0o222;
    }
    if flags & EXEC != 0 {
        prot |= raw::PROT_EXEC;
        wanted |= 0o111;
    }
    let segment = shm::segments()?.find(id)?;
    let attachment = {
        let state = segment.lock()?;
        state.perm.check(context.cred(), wanted)?;
        state.perm.key
    };
    let attachment = segment.attach(attachment);
    let length = segment.size();
    if address != 0 && flags & REMAP == 0 && address.checked_add(length).is_none() {
        return Err(Errno::EINVAL);
    }
    let file =
        FileToMap { file: attachment, readable: true, writable: flags & RDONLY == 0, executable: true };
    let request = MapRequest { address, length, prot, flags: map_flags, file: Some(file), offset: 0 };
    let mapped = context.space().mmap(&request, &Limits::current());
    mapped.map_err(|errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno })
}

fn sys_shmdt(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().detach_segment(args.u64(0)).map(|()| 0)
}

fn sys_shmctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (id, what, address) = (args.i32(0), args.u32(1), args.u64(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let cred = context.cred();
    let segments = shm::segments()?;
    match what {
        command::IPC_INFO => {
            // shmmax, shmmin, shmmni, shmseg, shmall, and four that are not used.
            let most = segments.max() as u64;
            uaccess::write(address, &[shm::size_max(), 1, most, most, shm::pages_max(), 0, 0, 0, 0])?;
            Ok(segments.usage().1 as u64)
        }
        command::SHM_INFO => {
            let (used, highest) = segments.usage();
            let resident: u64 = segments.all().iter().map(|segment| segment.resident() / PAGE_SIZE).sum();
            uaccess::write(address, &[used as u64, shm::pages(), resident, 0, 0, 0])?;
            Ok(highest as u64)
        }
        command::SHM_STAT | command::SHM_STAT_ANY | command::IPC_STAT => {
            let by_place = what != command::IPC_STAT;
            let segment = if by_place { segments.at(id)? } else { segments.find(id)? };
            if what != command::SHM_STAT_ANY {
                segment.perm().check(cred, 0o444)?;
            }
            write_status(&segment, address)?;
            Ok(if by_place { segment.id() as u64 } else { 0 })
        }
        command::IPC_SET => {
            let (uid, gid, bits) = structures::read_perm(address)?;
            let segment = segments.find(id)?;
            let mut state = segment.lock()?;
            state.perm.check_owner(cred)?;
            state.perm.set(uid, gid, bits);
            state.ctime = seconds();
            Ok(0)
        }
        command::IPC_RMID => segments.find(id)?.remove().map(|()| 0),
        command::SHM_LOCK | command::SHM_UNLOCK => {
            let segment = segments.find(id)?;
            let mut state = segment.lock()?;
            if !cred.has(cap::IPC_LOCK) {
                let owns = cred.euid == state.perm.uid || cred.euid == state.perm.cuid;
                let none = context.thread.task.rlimit(raw::RLIMIT_MEMLOCK) == 0;
                if !owns || what == command::SHM_LOCK && none {
                    return Err(Errno::EPERM);
                }
                if what == command::SHM_LOCK
                    && segment.size() > context.thread.task.rlimit(raw::RLIMIT_MEMLOCK)
                {
                    return Err(Errno::ENOMEM);
                }
            }
            // Frames have no place to be swapped to: to note it is all there is to do.
            if what == command::SHM_LOCK {
                state.perm.mode |= mode::LOCKED;
            } else {
                state.perm.mode &= !mode::LOCKED;
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `struct shmid64_ds`.
fn write_status(segment: &Arc<Segment>, address: u64) -> Result<()> {
    let own = kernel::task::current().group.space;
    let state = segment.lock()?;
    let perm = structures::perm_words(&state.perm, segment.id());
    let rest = [
        segment.size(),
        state.atime as u64,
        state.dtime as u64,
        state.ctime as u64,
        structures::pids(own.shown(state.cpid), own.shown(state.lpid)),
        state.nattch,
        0,
        0,
    ];
    drop(state);
    structures::write(address, perm, rest)
}
