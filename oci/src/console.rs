//! The host's terminal of a container (or of an exec): a pseudo-terminal whose master goes to the caller over `--console-socket`, and
//! whose slave this process has as its own, as `sandbox-exec --tty` has its user's. What is typed and shown passes between it and the
//! terminal inside.

use anyhow::Context;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use oci_spec::runtime::Box as Size;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Connects to `--console-socket`, which must be there before anything else is done.
pub fn connect_to(path: &Path) -> anyhow::Result<OwnedFd> {
    let connection = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let address = UnixAddr::new(path).with_context(|| format!("--console-socket {}", path.display()))?;
    connect(connection.as_raw_fd(), &address)
        .with_context(|| format!("--console-socket {}", path.display()))?;
    Ok(connection)
}

/// Makes the terminal, sends its master, and makes its slave this process's standard descriptors and controlling terminal. The process
/// leads a session of its own.
pub fn take(console: &OwnedFd, size: Option<Size>) -> anyhow::Result<()> {
    let OpenptyResult { master, slave } = openpty(None, None).context("a pseudo-terminal")?;
    if let Some(size) = size {
        let clamp = |length: u64| u16::try_from(length).unwrap_or(u16::MAX);
        let size = libc::winsize {
            ws_row: clamp(size.height()),
            ws_col: clamp(size.width()),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: a structure of the right type.
        let result = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        anyhow::ensure!(result == 0, "process.consoleSize: {}", std::io::Error::last_os_error());
    }
    let name = nix::unistd::ttyname(&slave).context("a pseudo-terminal")?;
    let descriptors = [master.as_raw_fd()];
    let payload = name.as_os_str().as_encoded_bytes();
    sendmsg::<()>(
        console.as_raw_fd(),
        &[IoSlice::new(payload)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .context("sending the terminal over --console-socket")?;
    // SAFETY: a terminal of ours; this process leads a session without one.
    let result = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    anyhow::ensure!(result == 0, "a controlling terminal: {}", std::io::Error::last_os_error());
    for fd in 0..3 {
        // SAFETY: only numbers; what the standard descriptors were is not used any more.
        let result = unsafe { libc::dup2(slave.as_raw_fd(), fd) };
        anyhow::ensure!(result == fd, "standard descriptors: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
