//! Protection keys (pkeys(7)) for the kernel's memory, `--kernel-guard`.

use super::{IMAGE, LaunchError};
use boundary::boot::{CODE_KEY, KERNEL_KEY};
use loader::Prot;
use std::io;

/// The choices of `--kernel-guard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KernelGuard {
    /// Where processor and host have what it takes.
    Auto,
    /// Or fail.
    On,
    /// The kernel's memory is the program's to change.
    Off,
}

impl KernelGuard {
    /// Whether there is to be one.
    pub fn choose(self) -> Result<bool, LaunchError> {
        match self {
            KernelGuard::Off => Ok(false),
            KernelGuard::Auto => Ok(what_lacks().is_none()),
            KernelGuard::On => match what_lacks() {
                None => Ok(true),
                Some((what, way_out)) => Err(LaunchError::Missing {
                    what: "protection keys for --kernel-guard=on".into(),
                    reason: what,
                    way_out: way_out.into(),
                }),
            },
        }
    }
}

/// The first Linux that opens every key to write a signal's frame.
const SIGNALS_ON_CLOSED_STACKS: (u32, u32) = (6, 12);
const WITHOUT: &str = "use --kernel-guard=auto, which does without";

/// Why this machine cannot have a guard, and what to do about it.
fn what_lacks() -> Option<(String, &'static str)> {
    if !processor_has_keys() {
        return Some(("this processor, or its kernel, has none (no ospke in /proc/cpuinfo)".into(), WITHOUT));
    }
    if hwcap2() & 2 == 0 {
        return Some(("the host keeps WRGSBASE from programs (FSGSBASE)".into(), WITHOUT));
    }
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    if version(&release).is_none_or(|version| version < SIGNALS_ON_CLOSED_STACKS) {
        return Some((
            format!("Linux {release} ends a process whose signal stack has a closed key"),
            "use Linux 6.12 or newer",
        ));
    }
    if enabled_state() & APX != 0 {
        let reason = "this processor has APX, in which the instructions that open keys have other bytes, too";
        return Some((reason.into(), WITHOUT));
    }
    let found = openers(IMAGE);
    if found != Openers::EXPECTED {
        return Some((
            format!("the kernel image has other instructions that open keys than its gates ({found:?})"),
            "report this build",
        ));
    }
    None
}

fn hwcap2() -> u64 {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_HWCAP2) }
}

/// CPUID leaf 7, ECX: OSPKE.
#[allow(unused_unsafe, reason = "cpuid is safe to call from some compiler version on")]
fn processor_has_keys() -> bool {
    // SAFETY: every x86-64 processor has CPUID.
    let (most, leaf) =
        unsafe { (core::arch::x86_64::__cpuid(0).eax, core::arch::x86_64::__cpuid_count(7, 0)) };
    most >= 7 && leaf.ecx & 1 << 4 != 0
}

/// Bit of APX in XCR0 (Intel APX architecture specification, 3.1.4): REX2 stands in for the opcode map's byte, which the search goes by.
const APX: u64 = 1 << 19;

/// XCR0: the components of extended state that the host has enabled.
fn enabled_state() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: a processor whose protection keys are enabled has XSAVE enabled, and with it this instruction.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// How often an instruction occurs in code, at any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Openers {
    /// WRPKRU.
    pub wrpkru: usize,
    /// XRSTOR.
    pub xrstor: usize,
    /// WRGSBASE.
    pub wrgsbase: usize,
}

impl Openers {
    /// In the image: three ways in, one way out, the gate of signals; one copy of extended state; one change of GS.
    pub const EXPECTED: Openers = Openers { wrpkru: 5, xrstor: 1, wrgsbase: 1 };
}

/// Those of an ELF file's code.
pub fn openers(image: &[u8]) -> Openers {
    let mut found = Openers::default();
    let segments = loader::parse(image).map(|program| program.segments).unwrap_or_default();
    for segment in segments.iter().filter(|segment| segment.prot.contains(Prot::EXEC)) {
        let range = segment.offset as usize..segment.offset.saturating_add(segment.file_size) as usize;
        let code = image.get(range).unwrap_or_default();
        for window in code.windows(3) {
            match *window {
                [0x0f, 0x01, 0xef] => found.wrpkru += 1,
                [0x0f, 0xae, modrm] if modrm >> 6 != 3 && modrm >> 3 & 7 == 5 => found.xrstor += 1,
                [0x0f, 0xae, 0xd8..=0xdf] => found.wrgsbase += 1,
                _ => {}
            }
        }
    }
    found
}

/// The keys of the launched process, and what its filter asks for.
pub struct Keys {
    /// Not 0.
    pub token: u32,
}

impl Keys {
    /// Takes the keys that the kernel counts on.
    pub fn allocate() -> Result<Keys, LaunchError> {
        for wanted in [KERNEL_KEY, CODE_KEY] {
            // SAFETY: only numbers; the calling thread may use what has the key.
            let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
            if key != i64::from(wanted) {
                return Err(LaunchError::Host {
                    what: "a protection key",
                    source: io::Error::last_os_error(),
                });
            }
        }
        let mut token = [0u8; 4];
        // SAFETY: the buffer is ours.
        if unsafe { libc::getrandom(token.as_mut_ptr().cast(), 4, 0) } != 4 {
            return Err(LaunchError::last("getting random bytes"));
        }
        Ok(Keys { token: u32::from_ne_bytes(token).max(1) })
    }

    /// Gives pages of the kernel's region this protection and the kernel's key.
    pub fn close(&self, address: u64, length: u64, prot: Prot) -> Result<(), LaunchError> {
        // SAFETY: pages of the region, which this process may still use.
        let closed =
            unsafe { libc::syscall(libc::SYS_pkey_mprotect, address, length, prot.bits(), KERNEL_KEY) };
        if closed == 0 { Ok(()) } else { Err(LaunchError::last("closing the kernel's memory")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_opens_keys_in_its_gates_only() {
        assert_eq!(openers(IMAGE), Openers::EXPECTED);
    }

    #[test]
    fn releases_have_two_numbers_at_least() {
        assert_eq!(version("6.12.41+deb13-amd64"), Some((6, 12)));
        assert_eq!(version("7.0-rc1"), Some((7, 0)));
        assert_eq!(version("custom"), None);
    }
}
