//! The kernel image: a static position-independent ELF without libc, mapped by the launcher into a fresh process.
//!
//! Built by the commands' build script with the feature `freestanding`; without it (checks of the whole workspace) this is an
//! empty program.

#![cfg_attr(feature = "freestanding", no_std, no_main)]

#[cfg(any(feature = "freestanding", test))]
mod memory;
#[cfg(feature = "freestanding")]
mod start;

#[cfg(not(feature = "freestanding"))]
fn main() {
    eprintln!("the kernel image is built by the commands that embed it; run sandbox-exec");
}
