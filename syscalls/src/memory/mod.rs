//! Calls on memory: mmap(2) and its family. The record of areas and what changes it are `kernel::mm`'s.

mod cut;

pub use cut::tell_of_cut_file;

use crate::args::Args;
use crate::file;
use crate::strace::flags::{MAP, PROT};
use crate::table::{Context, Row, Show, full, partial, refused};
use crate::{Errno, Result};
use kernel::mm::{FileToMap, Limits, MapRequest};
use linux_raw_sys::general as raw;
use trap_handler::host;

const A: Show = Show::Address;
const N: Show = Show::Unsigned;

/// The rows of this family.
pub const ROWS: &[Row] = &[
    full(raw::__NR_mmap, "mmap", sys_mmap, &[A, N, Show::Flags(PROT), Show::Flags(MAP), Show::Fd, A]),
    full(raw::__NR_munmap, "munmap", sys_munmap, &[A, N]),
    full(raw::__NR_mprotect, "mprotect", sys_mprotect, &[A, N, Show::Flags(PROT)]),
    full(raw::__NR_mremap, "mremap", sys_mremap, &[A, N, N, Show::Unsigned, A]),
    full(raw::__NR_madvise, "madvise", sys_madvise, &[A, N, Show::Int]),
    full(raw::__NR_mincore, "mincore", sys_mincore, &[A, N, A]),
    full(raw::__NR_msync, "msync", sys_msync, &[A, N, Show::Int]),
    full(raw::__NR_mlock, "mlock", sys_mlock, &[A, N]),
    full(raw::__NR_mlock2, "mlock2", sys_mlock2, &[A, N, Show::Unsigned]),
    full(raw::__NR_munlock, "munlock", sys_munlock, &[A, N]),
    full(raw::__NR_mlockall, "mlockall", sys_mlockall, &[Show::Unsigned]),
    full(raw::__NR_munlockall, "munlockall", sys_munlockall, &[]),
    full(raw::__NR_brk, "brk", sys_brk, &[A]),
    partial(
        raw::__NR_membarrier,
        "membarrier",
        sys_membarrier,
        &[Show::Int, Show::Unsigned, Show::Int],
        "between processes of the sandbox the global commands rely on the host's registration of each",
    ),
    refused(
        raw::__NR_pkey_alloc,
        "pkey_alloc",
        |_, _| Err(Errno::ENOSPC),
        &[A, A],
        "as on a processor without protection keys",
    ),
    refused(
        raw::__NR_pkey_free,
        "pkey_free",
        |_, _| Err(Errno::EINVAL),
        &[A],
        "as on a processor without protection keys",
    ),
    full(raw::__NR_pkey_mprotect, "pkey_mprotect", sys_pkey_mprotect, &[A, N, Show::Flags(PROT), Show::Int]),
    refused(
        raw::__NR_get_mempolicy,
        "get_mempolicy",
        |_, _| Err(Errno::ENOSYS),
        &[A, A, A, A, A],
        "as a kernel without NUMA",
    ),
    refused(
        raw::__NR_set_mempolicy,
        "set_mempolicy",
        |_, _| Err(Errno::ENOSYS),
        &[A, A, A],
        "as a kernel without NUMA",
    ),
    refused(
        raw::__NR_mbind,
        "mbind",
        |_, _| Err(Errno::ENOSYS),
        &[A, A, A, A, A, A],
        "as a kernel without NUMA",
    ),
];

fn sys_mmap(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(3);
    let file = if flags & raw::MAP_ANONYMOUS != 0 {
        None
    } else {
        let file = file::file(context, args.i32(4))?;
        if !file.readable() {
            return Err(Errno::EACCES);
        }
        let executable = file
            .path
            .as_ref()
            .is_none_or(|path| !path.mount.flags().contains(vfs::namespace::MountFlags::NO_EXEC));
        let sealed = vfs::memfd::is_write_sealed(&file);
        if sealed && flags & raw::MAP_TYPE != raw::MAP_PRIVATE && args.u32(2) & raw::PROT_WRITE != 0 {
            return Err(Errno::EPERM);
        }
        Some(FileToMap {
            file: file.mappable()?,
            readable: true,
            // A shared mapping of a sealed memfd cannot become writable later, either.
            writable: file.writable() && !sealed,
            executable,
        })
    };
    let request = MapRequest {
        address: args.u64(0),
        length: args.u64(1),
        prot: args.u32(2),
        flags,
        file,
        offset: args.u64(5),
    };
    context.space().mmap(&request, &Limits::current())
}

fn sys_munmap(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().munmap(args.u64(0), args.u64(1)).map(|()| 0)
}

fn sys_mprotect(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().mprotect(args.u64(0), args.u64(1), args.u32(2), &Limits::current()).map(|()| 0)
}

fn sys_pkey_mprotect(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(3) != -1 {
        return Err(Errno::EINVAL);
    }
    sys_mprotect(context, args)
}

fn sys_mremap(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let space = context.space();
    space.mremap(args.u64(0), args.u64(1), args.u64(2), args.u32(3), args.u64(4), &Limits::current())
}

fn sys_madvise(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().madvise(args.u64(0), args.u64(1), args.u32(2)).map(|()| 0)
}

fn sys_mincore(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().mincore(args.u64(0), args.u64(1), args.u64(2)).map(|()| 0)
}

fn sys_msync(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().msync(args.u64(0), args.u64(1), args.u32(2)).map(|()| 0)
}

fn sys_mlock(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().mlock(args.u64(0), args.u64(1), 0, &Limits::current()).map(|()| 0)
}

fn sys_mlock2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().mlock(args.u64(0), args.u64(1), args.u32(2), &Limits::current()).map(|()| 0)
}

fn sys_munlock(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().munlock(args.u64(0), args.u64(1)).map(|()| 0)
}

fn sys_mlockall(context: &mut Context<'_>, args: Args) -> Result<u64> {
    context.space().mlockall(args.u32(0), &Limits::current()).map(|()| 0)
}

fn sys_munlockall(context: &mut Context<'_>, _args: Args) -> Result<u64> {
    context.space().munlockall().map(|()| 0)
}

fn sys_brk(context: &mut Context<'_>, args: Args) -> Result<u64> {
    Ok(context.space().brk(args.u64(0), &Limits::current()))
}

fn sys_membarrier(_context: &mut Context<'_>, args: Args) -> Result<u64> {
    const KNOWN_FLAGS: u32 = 1;
    if args.u32(1) & !KNOWN_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    host::membarrier(args.i32(0), args.u32(1))
}
