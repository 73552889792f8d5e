//! How the supervisor learns which host call a sandbox tried that its filter does not allow: the filter tells its listener
//! (seccomp_unotify(2)), a descriptor that the host gives to whoever installs the filter. That is the kernel image, which can pass no
//! descriptor on from then on. So the launcher leaves a process behind that shares its descriptors and memory and is not under the
//! filter: it waits for the listener's number, passes it on, and ends. The image unmaps what it runs in, and starts a program, only
//! when it has ended.

use super::LaunchError;
use super::helper::{self, Stack, futex_wait, futex_wake};
use boundary::boot::listener;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Seconds that the supervisor waits.
const PATIENCE: i64 = 10;

/// What the courier works with. It stays until the image unmaps it.
struct Errand {
    word: &'static AtomicU32,
    to: RawFd,
}

/// Starts it. `word` lies in memory that the image shares; `to` leads to the supervisor. Gives the number of `to`, which it closes in
/// the end for all who share the descriptors.
pub fn start(word: &'static AtomicU32, to: OwnedFd) -> Result<RawFd, LaunchError> {
    let to = to.into_raw_fd();
    let errand: &'static mut Errand = Box::leak(Box::new(Errand { word, to }));
    let stack: &'static mut Stack = Box::leak(Box::new(Stack::new()));
    let argument = std::ptr::from_mut(errand).cast();
    // SAFETY: stack and argument are never given back. The courier allocates once it has the listener's number, which the image has
    // written: no code of the launcher runs any more.
    unsafe { helper::share_memory(libc::CLONE_FILES | libc::SIGCHLD, stack, deliver, argument) }
        .map_err(|source| LaunchError::Host { what: "a process for the filter's listener", source })?;
    Ok(to)
}

extern "C" fn deliver(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` gave this process an errand of its own.
    let &Errand { word, to } = unsafe { &*argument.cast::<Errand>() };
    let number = loop {
        match word.load(Ordering::SeqCst) {
            listener::NOT_YET => futex_wait(word, listener::NOT_YET),
            number => break number,
        }
    };
    if number != listener::NONE {
        let fds = [number as RawFd];
        let message = [IoSlice::new(b"l")];
        let _ = sendmsg::<()>(to, &message, &[ControlMessage::ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL, None);
        // SAFETY: nothing else uses the number: the sandbox must not hold the listener.
        unsafe { libc::close(number as RawFd) };
    }
    // SAFETY: only this process uses it.
    unsafe { libc::close(to) };
    word.store(listener::DELIVERED, Ordering::SeqCst);
    futex_wake(word);
    0
}

/// Takes the listener, in the supervisor. `None` where the host gives none: another filter around this process has one already, or
/// the host is older than Linux 5.0. A call that is not allowed kills its process then, without a number. So it is where a kernel
/// hangs at its start: the supervisor goes on to where signals end it.
pub fn receive(from: &OwnedFd) -> Option<OwnedFd> {
    let _ = setsockopt(from, ReceiveTimeout, &TimeVal::seconds(PATIENCE));
    let mut byte = [0u8; 1];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut vectors, Some(&mut room), flags).ok()?;
    message.cmsgs().ok()?.find_map(|part| match part {
        // SAFETY: descriptors that the call has just made.
        ControlMessageOwned::ScmRights(fds) => fds.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => None,
    })
}
