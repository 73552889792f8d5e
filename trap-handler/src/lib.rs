//! The machine layer of the kernel: how a thread gets from program code into the kernel and back, how the kernel
//! asks the host for something, and how it touches program memory. It knows nothing of Linux semantics.
//!
//! ```text
//!   program ── syscall ──> host: seccomp ── SIGSYS ──> handler (alternate stack = kernel stack)
//!                                                        │ rewrites the saved RIP, returns
//!                                                        v
//!   program ── patched call site ───────────────────> entry stub ─> dispatch(regs) ─> exit stub ──> program
//! ```
//!
//! The one idea to keep in mind: **the handler never runs the kernel**. It looks at where the thread was and moves the
//! saved instruction pointer (to an entry stub, to a copy's error exit, back to the last look for pending work), so
//! that there is one way in and one way out, and nothing ever blocks on top of a host signal frame.

#![no_std]

pub mod block;
pub mod copy;
pub mod entry;
mod errno;
pub mod gadget;
pub mod handler;
pub mod host;
pub mod keys;
pub mod lend;
pub mod patch;
pub mod region;
pub mod regs;
pub mod stack;
pub mod xstate;

pub use errno::Errno;
