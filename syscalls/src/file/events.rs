//! Calls that make descriptors without names: pipe(2), eventfd(2), epoll(7), memfd_create(2), timerfd_create(2), signalfd(2).

use super::{descriptor_limit, file};
use crate::args::Args;
use crate::signal::{check_size, end_temporary_mask, set_temporary_mask};
use crate::strace::flags::{Names, OPEN};
use crate::table::{Context, Row, Show, full, partial};
use crate::{Errno, Result, thread};
use alloc::sync::Arc;
use kernel::signal::{SigSet, UNBLOCKABLE};
use kernel::wait::WaitQueue;
use kernel::{time, uaccess};
use linux_raw_sys::general as raw;
use trap_handler::host;
use vfs::epoll::{Epoll, Event};
use vfs::eventfd::EventFd;
use vfs::file::{FileOps, FileRef, OpenFile};
use vfs::memfd::Memfd;
use vfs::signalfd::{SignalFd, SignalSource};
use vfs::timerfd::TimerFd;

const A: Show = Show::Address;

/// The rows of this file.
pub const ROWS: &[Row] = &[
    full(raw::__NR_pipe, "pipe", |context, args| make_pipe(context, args.u64(0), 0), &[A]),
    full(
        raw::__NR_pipe2,
        "pipe2",
        |context, args| make_pipe(context, args.u64(0), args.u32(1)),
        &[A, Show::Flags(OPEN)],
    ),
    full(
        raw::__NR_eventfd,
        "eventfd",
        |context, args| make_eventfd(context, args.u32(0), 0),
        &[Show::Unsigned],
    ),
    full(
        raw::__NR_eventfd2,
        "eventfd2",
        |context, args| make_eventfd(context, args.u32(0), args.u32(1)),
        &[Show::Unsigned, Show::Flags(OPEN)],
    ),
    full(raw::__NR_epoll_create, "epoll_create", sys_epoll_create, &[Show::Int]),
    full(raw::__NR_epoll_create1, "epoll_create1", sys_epoll_create1, &[Show::Flags(OPEN)]),
    full(raw::__NR_epoll_ctl, "epoll_ctl", sys_epoll_ctl, &[Show::Fd, Show::Int, Show::Fd, A]),
    full(raw::__NR_epoll_wait, "epoll_wait", sys_epoll_wait, &[Show::Fd, A, Show::Int, Show::Int]),
    full(
        raw::__NR_epoll_pwait,
        "epoll_pwait",
        sys_epoll_pwait,
        &[Show::Fd, A, Show::Int, Show::Int, A, Show::Unsigned],
    ),
    full(
        raw::__NR_epoll_pwait2,
        "epoll_pwait2",
        sys_epoll_pwait2,
        &[Show::Fd, A, Show::Int, A, A, Show::Unsigned],
    ),
    partial(
        raw::__NR_memfd_create,
        "memfd_create",
        sys_memfd_create,
        &[Show::Path, Show::Flags(MEMFD)],
        "no huge pages: ENODEV, as for a size that there is not",
    ),
    full(raw::__NR_timerfd_create, "timerfd_create", sys_timerfd_create, &[Show::Int, Show::Flags(OPEN)]),
    full(raw::__NR_timerfd_settime, "timerfd_settime", sys_timerfd_settime, &[Show::Fd, Show::Int, A, A]),
    full(raw::__NR_timerfd_gettime, "timerfd_gettime", sys_timerfd_gettime, &[Show::Fd, A]),
    full(
        raw::__NR_signalfd,
        "signalfd",
        |context, args| signalfd(context, args, 0),
        &[Show::Fd, A, Show::Unsigned],
    ),
    full(
        raw::__NR_signalfd4,
        "signalfd4",
        |context, args| signalfd(context, args, args.u32(3)),
        &[Show::Fd, A, Show::Unsigned, Show::Flags(OPEN)],
    ),
];

const MEMFD: Names = &[
    (raw::MFD_CLOEXEC as u64, "MFD_CLOEXEC"),
    (raw::MFD_ALLOW_SEALING as u64, "MFD_ALLOW_SEALING"),
    (raw::MFD_HUGETLB as u64, "MFD_HUGETLB"),
    (raw::MFD_NOEXEC_SEAL as u64, "MFD_NOEXEC_SEAL"),
    (raw::MFD_EXEC as u64, "MFD_EXEC"),
];

/// Gives an object without a name a descriptor.
fn install(context: &Context<'_>, ops: Arc<dyn FileOps>, flags: u32) -> Result<u64> {
    let status = raw::O_RDWR | (flags & raw::O_NONBLOCK);
    let file = OpenFile::new(ops, None, status);
    let cloexec = flags & raw::O_CLOEXEC != 0;
    context.files().insert(file, cloexec, descriptor_limit(context)).map(|fd| fd as u64)
}

fn make_pipe(context: &mut Context<'_>, address: u64, flags: u32) -> Result<u64> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK | raw::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let ends = vfs::pipe::pipe(flags);
    install_pair(context, ends, flags, address)
}

/// Gives two files descriptors, whose numbers the program finds at `address`.
pub fn install_pair(
    context: &mut Context<'_>,
    files: (FileRef, FileRef),
    flags: u32,
    address: u64,
) -> Result<u64> {
    let limit = descriptor_limit(context);
    let (first, second) = context.files().insert_pair(files, flags & raw::O_CLOEXEC != 0, limit)?;
    if let Err(errno) = uaccess::write(address, &[first, second]) {
        let mut files = context.unused_files();
        let _ = files.close(first);
        let _ = files.close(second);
        return Err(errno);
    }
    Ok(0)
}

fn make_eventfd(context: &Context<'_>, value: u32, flags: u32) -> Result<u64> {
    const SEMAPHORE: u32 = 1;
    if flags & !(SEMAPHORE | raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    install(context, EventFd::new(u64::from(value), flags & SEMAPHORE != 0), flags)
}

fn sys_epoll_create(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.i32(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    install(context, Epoll::new(), 0)
}

fn sys_epoll_create1(context: &mut Context<'_>, args: Args) -> Result<u64> {
    if args.u32(0) & !raw::O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    install(context, Epoll::new(), args.u32(0))
}

fn sys_epoll_ctl(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const ADD: i32 = 1;
    const DEL: i32 = 2;
    const MOD: i32 = 3;
    let (operation, fd) = (args.i32(1), args.i32(2));
    let event = if operation == DEL {
        Event { events: 0, data: 0 }
    } else {
        let bytes: [u8; 12] = uaccess::read(args.u64(3))?;
        let [a, b, c, d, data @ ..] = bytes;
        Event { events: u32::from_le_bytes([a, b, c, d]), data: u64::from_le_bytes(data) }
    };
    let epoll_file = file(context, args.i32(0))?;
    let target = file(context, fd)?;
    if !target.ops.pollable() {
        return Err(Errno::EPERM);
    }
    let epoll = epoll_file.ops.as_any().downcast_ref::<Epoll>().ok_or(Errno::EINVAL)?;
    match operation {
        ADD => epoll.add(fd, &target, event)?,
        DEL => epoll.delete(fd, &target)?,
        MOD => epoll.modify(fd, &target, event)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn epoll_wait(context: &Context<'_>, args: Args, deadline: Option<u64>) -> Result<u64> {
    const MAX_EVENTS: i32 = i32::MAX / 12;
    let max = args.i32(2);
    if max <= 0 || max > MAX_EVENTS {
        return Err(Errno::EINVAL);
    }
    let epoll_file = file(context, args.i32(0))?;
    let epoll = epoll_file.ops.as_any().downcast_ref::<Epoll>().ok_or(Errno::EINVAL)?;
    let events = epoll.wait(max as usize, deadline)?;
    for (index, event) in events.iter().enumerate() {
        let mut bytes = [0u8; 12];
        let (first, second) = bytes.split_at_mut(4);
        first.copy_from_slice(&event.events.to_le_bytes());
        second.copy_from_slice(&event.data.to_le_bytes());
        uaccess::write_bytes(args.u64(1).wrapping_add(index as u64 * 12), &bytes)?;
    }
    Ok(events.len() as u64)
}

/// A deadline from milliseconds: negative waits for ever.
pub fn deadline_from_ms(timeout: i32) -> Option<u64> {
    match timeout {
        0 => Some(0),
        timeout if timeout < 0 => None,
        timeout => Some(time::monotonic().saturating_add(timeout as u64 * 1_000_000)),
    }
}

/// A deadline from a timespec; `None` waits for ever.
pub fn deadline_from_timespec(timeout: Option<&raw::timespec>) -> Result<Option<u64>> {
    let Some(timeout) = timeout else { return Ok(None) };
    match time::from_timespec(timeout)? {
        0 => Ok(Some(0)),
        ns => Ok(Some(time::monotonic().saturating_add(ns))),
    }
}

fn sys_epoll_wait(context: &mut Context<'_>, args: Args) -> Result<u64> {
    epoll_wait(context, args, deadline_from_ms(args.i32(3)))
}

/// Runs `action` with the signal mask at `address` (0 for none) in force.
pub fn with_mask(
    context: &mut Context<'_>,
    address: u64,
    size: u64,
    action: impl FnOnce(&mut Context<'_>) -> Result<u64>,
) -> Result<u64> {
    if address == 0 {
        return action(context);
    }
    check_size(size)?;
    let mask: SigSet = uaccess::read(address)?;
    set_temporary_mask(context, mask);
    let outcome = action(context);
    // With EINTR the mask stays until the signal was delivered.
    if !matches!(outcome, Err(Errno::EINTR | Errno::ERESTARTNOHAND | Errno::ERESTARTSYS)) {
        end_temporary_mask(context);
    }
    outcome
}

fn sys_epoll_pwait(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let deadline = deadline_from_ms(args.i32(3));
    with_mask(context, args.u64(4), args.u64(5), |context| epoll_wait(context, args, deadline))
}

fn sys_epoll_pwait2(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timeout: Option<raw::timespec> = uaccess::read_optional(args.u64(3))?;
    let deadline = deadline_from_timespec(timeout.as_ref())?;
    with_mask(context, args.u64(4), args.u64(5), |context| epoll_wait(context, args, deadline))
}

fn sys_memfd_create(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const CLOEXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    const NOEXEC_SEAL: u32 = 8;
    const EXEC: u32 = 16;
    const HUGE_SIZE: u32 = raw::MFD_HUGE_MASK << raw::MFD_HUGE_SHIFT;
    let mut flags = args.u32(1);
    let huge = flags & raw::MFD_HUGETLB != 0;
    if huge {
        flags &= !(raw::MFD_HUGETLB | HUGE_SIZE);
    }
    if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0
        || flags & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC
    {
        return Err(Errno::EINVAL);
    }
    let name = uaccess::read_string(args.u64(0), 250, Errno::EINVAL)?;
    if huge {
        return Err(Errno::ENODEV);
    }
    let memfd = Memfd::new(&name, flags & (ALLOW_SEALING | NOEXEC_SEAL) != 0, flags & NOEXEC_SEAL == 0);
    let opened = OpenFile::new(memfd, None, raw::O_RDWR | raw::O_LARGEFILE);
    let limit = descriptor_limit(context);
    context.files().insert(opened, flags & CLOEXEC != 0, limit).map(|fd| fd as u64)
}

fn sys_timerfd_create(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let (clock, flags) = (args.u32(0), args.u32(1));
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    match clock {
        raw::CLOCK_REALTIME | raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME => {}
        raw::CLOCK_REALTIME_ALARM | raw::CLOCK_BOOTTIME_ALARM => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    }
    install(context, TimerFd::new(clock), flags)
}

fn setting((left, interval): (u64, u64)) -> raw::itimerspec {
    raw::itimerspec { it_interval: time::timespec(interval), it_value: time::timespec(left) }
}

fn sys_timerfd_settime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    const ABSTIME: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    let new: raw::itimerspec = uaccess::read(args.u64(2))?;
    let (value, interval) = (time::from_timespec(&new.it_value)?, time::from_timespec(&new.it_interval)?);
    if args.u32(1) & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let timer_file = file(context, args.i32(0))?;
    let timer = timer_file.ops.as_any().downcast_ref::<TimerFd>().ok_or(Errno::EINVAL)?;
    let now = time::monotonic();
    let first = if value == 0 {
        None
    } else if args.u32(1) & ABSTIME != 0 {
        let clock_now = host::clock_ns(timer.clock)?;
        Some(now.saturating_add(value).saturating_sub(clock_now))
    } else {
        Some(now.saturating_add(value))
    };
    let old = timer.set(first, interval);
    uaccess::write_optional(args.u64(3), &setting(old))?;
    Ok(0)
}

fn sys_timerfd_gettime(context: &mut Context<'_>, args: Args) -> Result<u64> {
    let timer_file = file(context, args.i32(0))?;
    let timer = timer_file.ops.as_any().downcast_ref::<TimerFd>().ok_or(Errno::EINVAL)?;
    uaccess::write(args.u64(1), &setting(timer.get()))?;
    Ok(0)
}

/// Signals of whoever reads.
struct RunningThread;

impl SignalSource for RunningThread {
    fn take(&self, mask: u64) -> Option<[u8; 128]> {
        let task = &thread::current().task;
        let mut signals = task.group.signals.lock();
        let own = task.signals.lock().pending.take(mask);
        let info = own.or_else(|| signals.pending.take(mask))?;
        drop(signals);
        task.update_signal_work();
        let mut bytes = [0u8; 128];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(slot) = bytes.get_mut(at..at + value.len()) {
                slot.copy_from_slice(value);
            }
        };
        put(0, &info.signal.to_le_bytes());
        put(4, &info.errno.to_le_bytes());
        put(8, &info.code.to_le_bytes());
        put(12, &info.pid().to_le_bytes());
        put(16, &info.uid().to_le_bytes());
        put(40, &(info.fields[1] as u32).to_le_bytes());
        put(44, &(info.fields[1] as u32).to_le_bytes());
        put(48, &info.fields[1].to_le_bytes());
        put(56, &info.fields[2].to_le_bytes());
        put(64, &info.fields[3].to_le_bytes());
        put(72, &info.fields[0].to_le_bytes());
        Some(bytes)
    }

    fn pending(&self, mask: u64) -> bool {
        let task = &thread::current().task;
        let shared = task.group.signals.lock().pending.set();
        (shared | task.signals.lock().pending.set()) & mask != 0
    }

    fn queue(&self) -> WaitQueue {
        thread::current().task.group.signal_queue.clone()
    }
}

fn signalfd(context: &mut Context<'_>, args: Args, flags: u32) -> Result<u64> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    check_size(args.u64(2))?;
    let mask = uaccess::read::<SigSet>(args.u64(1))? & !UNBLOCKABLE;
    if args.i32(0) == -1 {
        return install(context, SignalFd::new(mask, Arc::new(RunningThread)), flags);
    }
    let file = file(context, args.i32(0))?;
    let signalfd = file.ops.as_any().downcast_ref::<SignalFd>().ok_or(Errno::EINVAL)?;
    signalfd.set_mask(mask);
    Ok(args.i32(0) as u64)
}
