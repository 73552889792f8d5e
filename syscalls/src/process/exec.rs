//! execve(2), execveat(2).

use super::exec_image::{self, ExecImage, Loaded};
use super::zygote;
use crate::args::Args;
use crate::ptrace::{self, stops};
use crate::strace::flags::AT_FLAGS;
use crate::table::{Context, Row, Show, full};
use crate::thread::Thread;
use crate::{Errno, Result, futex};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::{PAGE_SIZE, USER_END};
use core::sync::atomic::Ordering;
use kernel::cred::Cred;
use kernel::mm::{AddressSpace, FileToMap, Limits, MapRequest, ProgramRanges};
use kernel::signal::{self, AltStack};
use kernel::task::{Exit, Pid, Task, lock_table, work};
use kernel::{boot, uaccess, wait};
use linux_raw_sys::general as raw;
use loader::stack::{self, AuxValues, InitialStack, StackInput};
use loader::{Kind, Plan, Step};
use trap_handler::regs::{FLAGS_FIXED, Regs};
use trap_handler::{copy, region, xstate};
use vfs::namespace::{self, Lookup};

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_execve, "execve", sys_execve, &[Show::Path, Show::Strings, Show::Address]),
    full(
        raw::__NR_execveat,
        "execveat",
        sys_execveat,
        &[Show::Fd, Show::Path, Show::Strings, Show::Address, Show::Flags(AT_FLAGS)],
    ),
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
        path: args.path(0)?.into_vec(),
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
        path: args.path(1)?.into_vec(),
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
        let string = uaccess::read_string(pointer, stack::MAX_ARG_STRLEN, Errno::E2BIG)?;
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
    let execution = prepare(context, request)?;
    end_other_threads(thread)?;
    leave_old_program(&thread.task);
    if thread.memory().users().are_several() {
        // A vfork parent, or another process, lives in this memory: the program gets an address space of its own. Nothing else may
        // be left here to be dropped.
        return zygote::hand_over(thread, execution);
    }
    execution.run(context.regs, thread);
    Ok(0)
}

/// Finds the program and sees that it can be executed.
fn prepare(context: &Context<'_>, request: ExecRequest) -> Result<Execution> {
    let thread = context.thread;
    let fs = thread.fs();
    let cred = thread.task.cred();
    let lookup = Lookup { fs: &fs, files: context.files(), cred: &cred };
    let path = namespace::executable_name(request.base, &request.path);
    let file = namespace::open_executable_at(&lookup, request.base, &request.path, request.flags)?;
    // The size of the arguments is checked while the caller can still be told.
    let stack_limit = thread.task.rlimit(raw::RLIMIT_STACK);
    stack::check_limits(&request.argv, &request.envp, &path, stack_limit).map_err(errno_of)?;
    let image = match exec_image::prepare(&lookup, file, &path, request.argv) {
        Ok(image) => image,
        Err(refusal) if refusal.fatal => super::exit_group(thread, signal::SIGSEGV),
        Err(refusal) => return Err(refusal.errno),
    };
    Ok(Execution { image, envp: request.envp, cred, old_id: thread.task.tid() })
}

/// What is done in the old address space when nothing can go wrong any more (`exec_mm_release`).
fn leave_old_program(task: &Task) {
    futex::exit_robust_list(task);
    futex::clear_child_tid(task);
    task.robust_list.store(0, Ordering::Relaxed);
}

/// A program that has been found good and is to take over a thread's process.
pub struct Execution {
    image: ExecImage,
    envp: Vec<Vec<u8>>,
    cred: Arc<Cred>,
    /// Id of the thread before it became the main one.
    old_id: Pid,
}

impl Execution {
    /// Shows whoever looks at the process what it is about to run.
    pub fn announce(&self, thread: &Thread) {
        *thread.task.comm.lock() = comm_of(&self.image.name);
        thread.memory().set_strings((joined(&self.image.argv), joined(&self.envp)));
        thread.set_executable(self.image.program.file.clone());
    }

    /// Replaces whatever the calling host process has mapped by the program; `regs` are the ones it starts with. The process
    /// dies if that fails.
    pub fn run(&self, regs: &mut Regs, thread: &Thread) {
        if let Err(errno) = replace(regs, thread, &self.image, &self.envp, &self.cred) {
            kernel::info!("execve failed after the old program was gone: {errno}");
            super::exit_group(thread, signal::SIGSEGV);
        }
        if thread.task.trace.is_traced() {
            // The tracer sees the call as it was made.
            regs.orig_rax = u64::from(raw::__NR_execve);
            regs.rax = Errno::ENOSYS.as_result() as u64;
            thread.task.trace.clear_debug_registers();
            stops::executed(thread, regs, self.old_id);
            regs.rax = 0;
        }
    }
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
    if group.alive.load(Ordering::SeqCst) != 1 {
        // Killed meanwhile, like the others: nobody's place is to be taken.
        return Err(Errno::ERESTARTSYS);
    }
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
        let mut table = lock_table()?;
        table.rename_to_leader(task);
        ptrace::leader_replaced(&table, task);
        group.signals.lock().remains.retain(|tid| *tid != group.tgid);
        drop(table);
        crate::thread::unregister(old);
        if let Some(running) = running {
            crate::thread::register(&running);
        }
    }
    Ok(())
}

fn replace(regs: &mut Regs, thread: &Thread, image: &ExecImage, envp: &[Vec<u8>], cred: &Cred) -> Result<()> {
    const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;
    let task = &thread.task;
    let space = thread.space();
    space.clear_for_exec()?;
    thread.memory().note_exec();
    if let Some(vfork) = thread.vfork.lock().take() {
        vfork.finish();
    }
    // SAFETY: the calling thread, which uses files by references of its own here.
    unsafe {
        thread.unshare_files();
        thread.own_files().unused().close_on_exec();
    }
    {
        let mut signals = task.group.signals.lock();
        signals.reset_handlers();
        task.signals.lock().altstack = AltStack::default();
    }
    let plain = cred.euid == cred.uid && cred.egid == cred.gid;
    task.group.dumpable.store(i32::from(plain), Ordering::Relaxed);
    crate::time::timers::executed(task.group.tgid);
    task.group.family.lock().executed = true;
    let comm = comm_of(&image.name);
    *task.comm.lock() = comm;
    if boot::config().is_some_and(|config| config.options.container) {
        // For those who look at the container from outside.
        let _ = trap_handler::host::set_name(&comm);
    }
    // SAFETY: the calling thread; `cred` is counted.
    unsafe { task.set_cred(Arc::new(cred.executed())) };

    let randomize = task.group.personality.load(Ordering::Relaxed) & ADDR_NO_RANDOMIZE == 0;
    let limits = Limits::current();
    let program = &image.program.program;
    let (stack_low, stack_top) = space.set_up_stack(&limits, program.stack_exec, randomize)?;
    let place = loader::Limits {
        start: boot::config().map_or(0, |config| config.host.mmap_min_addr),
        end: USER_END,
        reserved: region::base()..region::end(),
    };
    let bias = match program.kind {
        Kind::Exec => 0,
        Kind::Dyn if image.interpreter.is_some() => {
            let window = loader::Window {
                random_span: if randomize { loader::Window::PIE.random_span } else { 0 },
                ..loader::Window::PIE
            };
            let random = kernel::mm::random_pages(40)?;
            loader::choose_bias(program, random, window, &place).map_err(errno_of)?
        }
        // Without an interpreter it is the loader itself, or static-pie: it goes among the mappings.
        Kind::Dyn => free_place(&space, &image.program)?,
    };
    let plan = map_program(&space, &image.program, bias, &place, &limits)?;
    let (mut entry, mut base) = (plan.entry, 0);
    if let Some(interpreter) = &image.interpreter {
        let bias = match interpreter.program.kind {
            Kind::Exec => 0,
            Kind::Dyn => free_place(&space, interpreter)?,
        };
        let plan = map_program(&space, interpreter, bias, &place, &limits)?;
        // It maps what the program needs, with dozens of calls.
        space.rewrite_new(plan.code.start, plan.code.end);
        (entry, base) = (plan.entry, plan.bias);
    }
    let random = if randomize { Some(kernel::mm::random_pages(40)?) } else { None };
    space.set_up_brk(loader::choose_brk(program, &plan, random, &place));

    let host = &boot::config().ok_or(Errno::ENOSYS)?.host;
    let mut random = [0u8; 16];
    trap_handler::host::getrandom(&mut random, 0)?;
    let aux = AuxValues {
        sysinfo_ehdr: if space.has_vdso() { host.vdso } else { 0 },
        minsigstksz: host.minsigstksz,
        hwcap: host.hwcap,
        // FSGSBASE is hidden: GS is the kernel's (bit 1).
        hwcap2: host.hwcap2 & !2,
        phdr: plan.phdr,
        phent: u64::from(program.phent),
        phnum: u64::from(program.phnum),
        base,
        flags: 0,
        entry: plan.entry,
        uid: cred.uid,
        euid: cred.euid,
        gid: cred.gid,
        egid: cred.egid,
        secure: false,
    };
    let built = stack::build(&StackInput {
        top: stack_top,
        argv: &image.argv,
        envp,
        execfn: &image.name,
        stack_limit: u64::MAX,
        random,
        shift: if randomize { kernel::mm::random_pages(20)? / 4096 } else { 0 },
        aux,
    })
    .map_err(errno_of)?;
    if built.sp <= stack_low {
        return Err(Errno::E2BIG);
    }
    copy::to_user(built.sp, &built.bytes)?;
    note_ranges(&space, &plan, &built);
    thread.memory().set_strings((joined(&image.argv), joined(envp)));
    thread.set_executable(image.program.file.clone());

    *regs =
        Regs { rip: entry, rsp: built.sp, rflags: FLAGS_FIXED, orig_rax: Regs::NO_CALL, ..Regs::default() };
    trap_handler::stack::set_fs_base(0)?;
    xstate::reset();
    task.update_signal_work();
    Ok(())
}

fn errno_of(error: loader::LoadError) -> Errno {
    Errno(error.errno.0)
}

fn note_ranges(space: &AddressSpace, plan: &Plan, built: &InitialStack) {
    space.set_program(ProgramRanges {
        start_code: plan.code.start,
        end_code: plan.code.end,
        start_data: plan.data.start,
        end_data: plan.data.end,
        start_stack: built.sp,
        arg_start: built.arg_start,
        arg_end: built.arg_end,
        env_start: built.env_start,
        env_end: built.env_end,
        auxv: built.auxv.clone(),
    });
}

fn joined(strings: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend_from_slice(string);
        bytes.push(0);
    }
    bytes
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

/// A bias that puts a relocatable file where mmap(2) would put a mapping of its size. Nobody else maps anything here meanwhile: the
/// thread is the only one.
fn free_place(space: &AddressSpace, loaded: &Loaded) -> Result<u64> {
    let alignment = loaded.program.align.max(PAGE_SIZE);
    let length = loaded.program.span_len().saturating_add(alignment - PAGE_SIZE);
    let place = space.free_place(length.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?)?;
    let aligned = place.saturating_add(alignment - 1) & !(alignment - 1);
    Ok(aligned.wrapping_sub(loaded.program.span.start))
}

/// Maps a file's segments at `bias`.
fn map_program(
    space: &AddressSpace,
    loaded: &Loaded,
    bias: u64,
    place: &loader::Limits,
    limits: &Limits,
) -> Result<Plan> {
    let plan = loader::plan::plan(&loaded.program, bias, place).map_err(errno_of)?;
    let mappable = loaded.file.mappable()?;
    let fixed = raw::MAP_PRIVATE | raw::MAP_FIXED;
    for step in &plan.steps {
        let request = match *step {
            Step::MapFile { addr, len, offset, prot } => {
                let file =
                    FileToMap { file: mappable.clone(), readable: true, writable: false, executable: true };
                MapRequest {
                    address: addr,
                    length: len,
                    prot: prot.bits(),
                    flags: fixed,
                    file: Some(file),
                    offset,
                }
            }
            Step::MapAnonymous { addr, len, prot } => MapRequest {
                address: addr,
                length: len,
                prot: prot.bits(),
                flags: fixed | raw::MAP_ANONYMOUS,
                file: None,
                offset: 0,
            },
            Step::ZeroTail { addr, len } => {
                copy::zero_user(addr, len)?;
                continue;
            }
        };
        space.mmap(&request, limits)?;
    }
    Ok(plan)
}
