//! From the launcher's jump to the first instruction of the program, and what happens when the kernel cannot go on.

use crate::dispatch::TrapboxKernel;
use crate::thread::{self, Memory};
use crate::{process, start, warden};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use boundary::layout::USER_END;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::task::ThreadGroup;
use kernel::{boot, frames, heap, hostpoll, log, task};
use trap_handler::block::ThreadState;
use trap_handler::entry::Bug;
use trap_handler::{entry, gates, handler, host, keys, region, stack, xstate};

static KERNEL: TrapboxKernel = TrapboxKernel;

/// Exit status of the warden when it cannot even read its configuration.
const BAD_BOOT: i32 = 133;

/// Called by the image's entry on the launcher's stack: sets up what a kernel stack needs and goes there.
pub fn start(base: u64) -> ! {
    region::set_base(base);
    heap::init();
    if !boot::load() {
        host::exit_group(BAD_BOOT);
    }
    let Some(config) = boot::config() else { host::exit_group(BAD_BOOT) };
    log::init(config);
    if config.host.token != 0 {
        keys::turn_on(config.host.token);
    }
    xstate::detect();
    stack::set_fsgsbase(config.host.hwcap2 & 2 != 0);
    // The boot thread's words live as long as the sandbox: the warden goes on with them.
    let state = Box::leak(Box::new(ThreadState::default()));
    // SAFETY: slot 0 is unused, and the launcher's stack is left for good.
    unsafe {
        if stack::prepare(0, false, state).is_err() || stack::adopt(0).is_err() {
            log::fatal("the kernel stack could not be mapped");
        }
        // From here on, as it leaves the launcher's stack, which the host's frames are not put on.
        if keys::on() {
            let _ = host::set_signal_mask(0);
            if handler::install().and_then(|()| gates::learn_frames()).is_err() {
                log::fatal("where the host puts signal frames could not be learned");
            }
        }
        stack::switch_to(0, on_kernel_stack, 0)
    }
}

unsafe extern "C" fn on_kernel_stack(_argument: u64) -> ! {
    if let Err(what) = set_up() {
        log::fatal(&what);
    }
    start::first();
    warden::run()
}

/// Leaves nothing of the launcher behind, installs handler and filter, and makes the kernel's shared objects.
fn set_up() -> Result<(), String> {
    let config = boot::config().ok_or_else(|| String::from("no configuration"))?;
    let said = |what: &'static str| move |errno| format!("{what}: {errno}");
    let _ = stack::set_fs_base(0);
    host::set_signal_mask(0).map_err(said("signal mask"))?;
    handler::install().map_err(said("signal handler"))?;
    entry::set_kernel(&KERNEL);

    task::set_cpus(config.host.cpus.len());
    frames::init();
    if config.options.patch_calls {
        kernel::mm::learned::init();
    }
    thread::init_directory();
    vfs::anonymous::init();
    vfs::epoll::init();
    vfs::shm::init();
    vfs::mqueue::init();
    vfs::notify::init();
    kernel::ipc::init();
    vfs::tty::init();
    netstack::init();
    kernel::mm::set_make_writable(|address, length| {
        // SAFETY: this thread; what comes from it lives for this statement.
        kernel::task::current_if_any().is_some()
            && unsafe { thread::current().own_memory() }.space.make_writable(address, length)
    });
    kernel::mm::set_shared_memory(vfs::page_file::shared_memory);
    task::init_table(ThreadGroup::sandbox(config.options.container), config.options.pids_limit as usize);
    crate::system::init(&config.hostname, &config.domainname);
    crate::time::timers::init();
    crate::stats::init();
    kernel::time::init();
    task::calls::set_on_look(|task| {
        crate::time::timers::look_from_thread(task);
        crate::system::tell_if_due(task);
        process::look_at_loan(task);
    });
    let event = host::eventfd().map_err(said("eventfd"))?;
    hostpoll::init(event);
    warden::init(event);
    process::init_zygote();
    start::init()?;
    crate::filter::install(&config.filter)?;
    // Not before: the courier runs in that memory.
    unmap_launcher()
}

/// Unmaps everything but the kernel's region and the host's special pages.
fn unmap_launcher() -> Result<(), String> {
    let config = boot::config().ok_or_else(|| String::from("no configuration"))?;
    let mut keep: alloc::vec::Vec<(u64, u64)> =
        config.host.special_maps.iter().map(|(start, end, _)| (*start, *end)).collect();
    keep.push((region::base(), region::end()));
    keep.push((USER_END, USER_END));
    keep.sort_unstable();
    let mut at = 0;
    for (start, end) in keep {
        if start > at {
            host::munmap(at, start - at).map_err(|errno| format!("unmapping the launcher: {errno}"))?;
        }
        at = at.max(end);
    }
    Ok(())
}

/// A report is on its way. Private to the process, which is about to end.
static REPORTING: AtomicBool = AtomicBool::new(false);

/// Sends the first line of a report and ends. What is wrong may be the heap, or the report's own code: nothing is allocated, and a
/// second report ends this process at once.
fn end_with(text: &FixedText) -> ! {
    if !REPORTING.swap(true, Ordering::Relaxed) {
        log::raw(text.bytes());
        let text = core::str::from_utf8(text.bytes()).unwrap_or("the kernel failed");
        let end = text
            .char_indices()
            .take_while(|(at, _)| *at < SENT)
            .last()
            .map_or(0, |(at, c)| at + c.len_utf8());
        boot::send_fatal(text.get(..end).unwrap_or_default());
    }
    host::exit_group(boot::FATAL_STATUS)
}

/// Bytes of a report that reach the supervisor; all of it goes to the log.
const SENT: usize = 400;

/// The report for a kernel that has panicked.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    // No formatting into the heap: its lock may be held.
    let mut text = FixedText::new();
    let _ = core::fmt::write(&mut text, format_args!("kernel panic: {info}\n"));
    end_with(&text)
}

/// A landing pad was reached although panics abort: the image is broken.
pub fn unreachable_unwind() -> ! {
    log::fatal("the kernel tried to unwind")
}

/// The report for kernel code that faulted.
pub fn bug(what: Bug) -> ! {
    let mut text = FixedText::new();
    let offset = what.rip.wrapping_sub(region::base());
    let _ = core::fmt::write(
        &mut text,
        format_args!(
            "kernel fault: signal {} code {} at image+{:#x}, address {:#x}, stack {:#x}\n",
            what.signal, what.code, offset, what.address, what.rsp
        ),
    );
    backtrace(&mut text, what.rsp);
    end_with(&text)
}

/// Return addresses on the kernel stack, as image offsets: what looks like one, newest first.
fn backtrace(text: &mut FixedText, rsp: u64) {
    let top = trap_handler::block::ThreadBlock::current() as *const _ as u64;
    let mut at = rsp & !7;
    let mut shown = 0;
    while at < top && shown < 24 && at >= region::base() {
        // SAFETY: within this thread's mapped kernel stack.
        let value = unsafe { (at as *const u64).read() };
        if value > region::base() && value < region::base() + (16 << 20) {
            let _ = core::fmt::write(text, format_args!("  image+{:#x}\n", value - region::base()));
            shown += 1;
        }
        at += 8;
    }
}

struct FixedText {
    bytes: [u8; 2048],
    length: usize,
}

impl FixedText {
    fn new() -> FixedText {
        FixedText { bytes: [0; 2048], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

impl core::fmt::Write for FixedText {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        for byte in part.bytes() {
            if let Some(slot) = self.bytes.get_mut(self.length) {
                *slot = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// Memory of the boot process, for processes made from it.
pub fn fresh_memory() -> alloc::sync::Arc<Memory> {
    Memory::new(alloc::sync::Arc::new(kernel::mm::AddressSpace::fresh()))
}
