//! What the launcher handed over, for everyone to read.

use crate::sync::BootCell;
use alloc::boxed::Box;
use boundary::boot::{BOOT_MAGIC, BootConfig, BootHeader};
use boundary::control::{FromSandbox, MAX_MESSAGE};
use boundary::layout::{HEAP_BOOT_BYTES, HEAP_OFFSET};
use boundary::sysctl::Sysctl;
use core::mem::offset_of;
use core::sync::atomic::AtomicU32;
use trap_handler::{host, region};

/// Exit status of a host process that ends because the kernel cannot go on.
pub const FATAL_STATUS: i32 = 134;

static CONFIG: BootCell<Box<BootConfig>> = BootCell::new();

/// Reads the boot page. `false` if it is not what this kernel expects.
pub fn load() -> bool {
    let start = region::base() + HEAP_OFFSET;
    // SAFETY: the launcher maps the heap and writes the boot page before it jumps to the image.
    let header = unsafe { (start as *const BootHeader).read() };
    let room = HEAP_BOOT_BYTES - size_of::<BootHeader>() as u64;
    if header.magic != BOOT_MAGIC || header.config_len > room {
        return false;
    }
    let first = start + size_of::<BootHeader>() as u64;
    // SAFETY: within the boot page, which nothing writes any more.
    let bytes = unsafe { core::slice::from_raw_parts(first as *const u8, header.config_len as usize) };
    match postcard::from_bytes::<BootConfig>(bytes) {
        Ok(config) => {
            CONFIG.set(Box::new(config));
            true
        }
        Err(_) => false,
    }
}

/// A setting of `/proc/sys`: what the sandbox was given, or ours.
pub fn sysctl(setting: &Sysctl) -> &'static str {
    let given = config().and_then(|config| {
        let mut given = config.options.sysctls.iter();
        given.find(|(name, _)| name == setting.name)
    });
    given.map_or(setting.otherwise, |(_, value)| value.as_str())
}

/// One of the numbers of a setting, the first being at `place` 0.
pub fn sysctl_number(setting: &Sysctl, place: usize) -> u64 {
    let number = |text: &str| text.split_ascii_whitespace().nth(place)?.parse().ok();
    number(sysctl(setting)).or_else(|| number(setting.otherwise)).unwrap_or(0)
}

/// The word by which the filter's listener is handed over (see [`boundary::boot::listener`]).
pub fn listener_word() -> &'static AtomicU32 {
    let word = region::base() + HEAP_OFFSET + offset_of!(BootHeader, listener) as u64;
    // SAFETY: in the boot page, which stays mapped; nobody uses the word otherwise.
    unsafe { &*(word as *const AtomicU32) }
}

/// The configuration; `None` only before [`load`].
pub fn config() -> Option<&'static BootConfig> {
    CONFIG.get().map(|config| &**config)
}

/// Sends a message to the supervisor. Any process may: the control socket is shared.
pub fn send(message: &FromSandbox) {
    let Some(config) = config() else { return };
    if let Ok(bytes) = postcard::to_allocvec(message)
        && bytes.len() <= MAX_MESSAGE
    {
        let _ = host::send(config.fds.control, &bytes);
    }
}

/// Sends a last report to the supervisor, without allocating.
pub fn send_fatal(report: &str) {
    let mut buffer = [0; 512];
    if let (Some(config), Ok(bytes)) = (config(), boundary::control::encode_fatal(report, &mut buffer)) {
        let _ = host::send(config.fds.control, bytes);
    }
}
