//! execve(2), execveat(2).

use super::exec_image::{self, ExecImage, Loaded};
use crate::args::Args;
use crate::strace::flags::AT_FLAGS;
use crate::table::{Context, Row, Show, full};
use crate::thread::Thread;
use crate::{Errno, Result, futex};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kernel::cred::Cred;
use kernel::mm::{AddressSpace, FileToMap, Limits, MapRequest, ProgramRanges};
use kernel::signal::{self, AltStack};
use kernel::task::{Exit, lock_table, work};
use kernel::{boot, uaccess, wait};
use linux_raw_sys::general as raw;
use loader::elf::{Kind, PF_R, PF_W, PF_X};
use loader::plan::{self, Step};
use loader::stack::{self, Auxiliary};
use trap_handler::regs::{FLAGS_FIXED, Regs};
use trap_handler::{copy, xstate};
use vfs::namespace::{self, Lookup};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_execve, "execve", sys_execve, &[Show::Path, Show::Strings, Show::Address]),
    full(raw::__NR_execveat, "execveat", sys_execveat, &[Show::Fd, Show::Path, Show::Strings, Show::Address, Show::Flags(AT_FLAGS)]),
];

/// What to execute.
pub struct ExecRequest {
    /// Descriptor that a relative path starts from; `AT_FDCWD` for the working directory.
    pub base: i32,
    /// Path of the program.
    pub path: Vec<u8>,
    /// `AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`.
    pub flags: u32,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
}

fn sys_execve(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let request = ExecRequest {
        base: raw::AT_FDCWD,
        path: args.path(0)?,
        flags: 0,
        argv: read_strings(args.u64(1))?,
        envp: read_strings(args.u64(2))?,
    };
    execute(context, request)
}

fn sys_execveat(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let flags = args.u32(4);
    if flags & !(raw::AT_EMPTY_PATH | raw::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let request = ExecRequest {
        base: args.i32(0),
        path: args.path(1)?,
        flags,
        argv: read_strings(args.u64(2))?,
        envp: read_strings(args.u64(3))?,
    };
    execute(context, request)
}

/// A null-terminated array of strings; a null pointer is an empty one (as Linux has it).
fn read_strings(address: u64) -> Result<Vec<Vec<u8>>> {
    /// More would not fit the stack's share for arguments.
    const MAX_BYTES: usize = 8 << 20;
    let mut strings = Vec::new();
    let mut total = 0;
    if address == 0 {
        return Ok(strings);
    }
    loop {
        let at = address.checked_add(strings.len() as u64 * 8).ok_or(Errno::EFAULT)?;
        let pointer: u64 = uaccess::read(at)?;
        if pointer == 0 {
            return Ok(strings);
        }
        let string = uaccess::read_string(pointer, stack::MAX_STRING, Errno::E2BIG)?;
        total += string.len() + 9;
        if total > MAX_BYTES {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
    }
}

/// Replaces the program of the running process. Up to the point where the old program is gone every failure is an error of
/// the call; after it the process dies.
pub fn execute(context: &mut Context<'_>, request: ExecRequest) -> Result<u64> {
    let thread = context.thread;
    let fs = thread.fs();
    let files = thread.files();
    let cred = thread.task.cred();
    let lookup = Lookup { fs: &fs, files: &files, cred: &cred };
    let path = namespace::executable_name(request.base, &request.path);
    let file = namespace::open_executable_at(&lookup, request.base, &request.path, request.flags)?;
    let image = exec_image::prepare(&lookup, file, &path, request.argv)?;
    // The size of the arguments is checked while the caller can still be told.
    let limit = stack::limit(thread.task.rlimit(raw::RLIMIT_STACK));
    let auxiliary = Auxiliary::default();
    stack::build(1 << 40, limit, &image.argv, &request.envp, &image.name, &auxiliary)
        .map_err(|error| Errno(error.errno))?;

    end_other_threads(thread)?;
    match replace(context.regs, thread, &image, &request.envp, &cred) {
        Ok(()) => {}
        Err(errno) => {
            kernel::info!("execve failed after the old program was gone: {errno}");
            super::exit_group(thread, signal::SIGKILL);
        }
    }
    Ok(0)
}

/// Waits until the calling thread is the only one of its process, and makes it the main one (`de_thread`).
fn end_other_threads(thread: &Thread) -> Result<()> {
    let task = &thread.task;
    let group = &task.group;
    {
        let mut signals = group.signals.lock();
        if signals.exit.is_some() {
            return Err(Errno::ERESTARTSYS);
        }
        if signals.tasks.len() > 1 {
            signals.exit = Some(Exit::Exec(task.tid()));
            signal::kick_all(&signals, Some(task), work::EXIT);
        }
    }
    wait::killable(&group.exit_queue, || group.alive.load(Ordering::SeqCst) == 1);
    let mut signals = group.signals.lock();
    match signals.exit {
        Some(Exit::Exec(_)) => signals.exit = None,
        Some(Exit::Group(_)) => return Err(Errno::ERESTARTSYS),
        None => {}
    }
    drop(signals);
    if task.tid() != group.tgid {
        let old = task.tid();
        let running = crate::thread::find(old);
        lock_table()?.rename_to_leader(task);
        crate::thread::unregister(old);
        if let Some(running) = running {
            crate::thread::register(&running);
        }
    }
    Ok(())
}

fn replace(
    regs: &mut Regs,
    thread: &Thread,
    image: &ExecImage,
    envp: &[Vec<u8>],
    cred: &Cred,
) -> Result<()> {
    const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
    let task = &thread.task;
    futex::exit_robust_list(task);
    futex::clear_child_tid(task);
    task.robust_list.store(0, Ordering::Relaxed);

    let space = thread.space();
    space.clear_for_exec()?;
    if let Some(vfork) = thread.vfork.lock().take() {
        vfork.finish();
    }
    let files = thread.files().unshared();
    files.close_on_exec();
    thread.set_files(files);
    {
        let mut signals = task.group.signals.lock();
        signals.reset_handlers();
        task.signals.lock().altstack = AltStack::default();
    }
    task.group.family.lock().executed = true;
    *task.comm.lock() = comm_of(&image.name);

    let randomize = task.group.personality.load(Ordering::Relaxed) & ADDR_NO_RANDOMIZE == 0;
    let limits = Limits::current();
    let (stack_low, stack_top) =
        space.set_up_stack(&limits, image.program.program.executable_stack, randomize)?;
    let program_bias = match image.program.program.kind {
        Kind::Fixed => 0,
        Kind::Relocatable if image.interpreter.is_some() => {
            let base = kernel::mm::random_program_base(randomize)?;
            let aligned = base & !(image.program.program.alignment - 1);
            aligned.wrapping_sub(image.program.program.span().0)
        }
        // Without an interpreter it is the loader itself: it goes among the mappings, so that brk has room below.
        Kind::Relocatable => free_place(&space, &image.program, &limits)?,
    };
    let end = map_program(&space, &image.program, program_bias, &limits)?;
    let mut entry = image.program.program.entry.wrapping_add(program_bias);
    let mut base = 0;
    if let Some(interpreter) = &image.interpreter {
        base = match interpreter.program.kind {
            Kind::Fixed => 0,
            Kind::Relocatable => free_place(&space, interpreter, &limits)?,
        };
        map_program(&space, interpreter, base, &limits)?;
        entry = interpreter.program.entry.wrapping_add(base);
        base = base.wrapping_add(interpreter.program.span().0);
    }
    let brk_gap = if randomize { kernel::mm::random_pages(13)? } else { 0 };
    let brk_base = if image.program.program.kind == Kind::Relocatable && image.interpreter.is_none() {
        kernel::mm::random_program_base(randomize)?
    } else {
        end
    };
    space.set_up_brk(brk_base.saturating_add(brk_gap));

    let host = &boot::config().ok_or(Errno::ENOSYS)?.host;
    let mut random = [0u8; 16];
    trap_handler::host::getrandom(&mut random, 0)?;
    let program = &image.program.program;
    let auxiliary = Auxiliary {
        sysinfo_ehdr: if space.has_vdso() { host.vdso } else { 0 },
        minsigstksz: host.minsigstksz,
        hwcap: host.hwcap,
        // FSGSBASE is hidden: GS is the kernel's (bit 1).
        hwcap2: host.hwcap2 & !2,
        phdr: if program.headers_address == 0 { 0 } else { program.headers_address.wrapping_add(program_bias) },
        phent: u64::from(program.header_size),
        phnum: u64::from(program.header_count),
        base,
        entry: program.entry.wrapping_add(program_bias),
        uid: cred.uid,
        euid: cred.euid,
        gid: cred.gid,
        egid: cred.egid,
        secure: false,
        random,
    };
    let built = stack::build(stack_top, u64::MAX, &image.argv, envp, &image.name, &auxiliary)
        .map_err(|error| Errno(error.errno))?;
    if built.pointer <= stack_low {
        return Err(Errno::E2BIG);
    }
    copy::to_user(built.pointer, &built.bytes)?;
    note_ranges(&space, image, program_bias, built.pointer, &built);
    thread.set_executable(image.program.file.clone());

    *regs = Regs { rip: entry, rsp: built.pointer, rflags: FLAGS_FIXED, orig_rax: Regs::NO_CALL, ..Regs::default() };
    trap_handler::stack::set_fs_base(0)?;
    xstate::reset();
    task.update_signal_work();
    Ok(())
}

fn note_ranges(space: &AddressSpace, image: &ExecImage, bias: u64, stack: u64, built: &stack::Stack) {
    let segments = &image.program.program.segments;
    let range = |wanted: u32| {
        let matching = || segments.iter().filter(|segment| segment.flags & (PF_X | PF_W) == wanted);
        let start = matching().map(|segment| segment.address).min().unwrap_or(0);
        let end = matching().map(|segment| segment.address.wrapping_add(segment.file_size)).max().unwrap_or(0);
        (start.wrapping_add(bias), end.wrapping_add(bias))
    };
    let (start_code, end_code) = range(PF_X);
    let (start_data, end_data) = range(PF_W);
    space.set_program(ProgramRanges {
        start_code,
        end_code,
        start_data,
        end_data,
        start_stack: stack,
        arg_start: built.arguments.0,
        arg_end: built.arguments.1,
        env_start: built.environment.0,
        env_end: built.environment.1,
        auxv: built.auxiliary.clone(),
    });
}

/// The last part of a path, cut to 15 bytes (`__set_task_comm`).
fn comm_of(path: &[u8]) -> [u8; 16] {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let mut comm = [0; 16];
    for (slot, byte) in comm.iter_mut().take(15).zip(name) {
        *slot = *byte;
    }
    comm
}

/// A bias that puts a relocatable file where mmap(2) would put a mapping of its size.
fn free_place(space: &AddressSpace, loaded: &Loaded, limits: &Limits) -> Result<u64> {
    let (low, high) = loaded.program.span();
    let alignment = loaded.program.alignment;
    let length = (high - low).saturating_add(alignment - 4096);
    let request = MapRequest {
        address: 0,
        length,
        prot: 0,
        flags: raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_NORESERVE,
        file: None,
        offset: 0,
    };
    let place = space.mmap(&request, limits)?;
    space.munmap(place, length)?;
    let aligned = (place.saturating_add(alignment - 1)) & !(alignment - 1);
    Ok(aligned.wrapping_sub(low))
}

fn protection(flags: u32) -> u32 {
    let mut prot = 0;
    for (flag, bit) in [(PF_R, raw::PROT_READ), (PF_W, raw::PROT_WRITE), (PF_X, raw::PROT_EXEC)] {
        if flags & flag != 0 {
            prot |= bit;
        }
    }
    prot
}

/// Maps a file's segments at `bias`; the end of the program.
fn map_program(space: &AddressSpace, loaded: &Loaded, bias: u64, limits: &Limits) -> Result<u64> {
    let plan = plan::plan(&loaded.program, bias).map_err(|error| Errno(error.errno))?;
    let mappable = loaded.file.ops.mappable(&loaded.file)?;
    for step in &plan.steps {
        match *step {
            Step::MapFile { address, length, offset, flags } => {
                let file =
                    FileToMap { file: mappable.clone(), readable: true, writable: false, executable: true };
                let request = MapRequest {
                    address,
                    length,
                    prot: protection(flags),
                    flags: raw::MAP_PRIVATE | raw::MAP_FIXED,
                    file: Some(file),
                    offset,
                };
                space.mmap(&request, limits)?;
            }
            Step::MapZero { address, length, flags } => {
                let request = MapRequest {
                    address,
                    length,
                    prot: protection(flags),
                    flags: raw::MAP_PRIVATE | raw::MAP_ANONYMOUS | raw::MAP_FIXED,
                    file: None,
                    offset: 0,
                };
                space.mmap(&request, limits)?;
            }
            // As Linux: a page that the file does not reach cannot be cleared, and that is no error.
            Step::ZeroTail { address, length } => {
                let _ = copy::zero_user(address, length);
            }
        }
    }
    Ok(plan.end)
}
