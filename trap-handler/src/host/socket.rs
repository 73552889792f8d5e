//! Host calls on sockets that are connected already: the sandbox makes, binds and connects none. No call here has an address, so
//! that a datagram socket reaches only whom it was connected to.

use super::{Span, call, call_interruptible};
use crate::Errno;
use linux_raw_sys::{general as raw, net};

/// sendto(2) on the control socket, without an address.
pub fn send(fd: i32, message: &[u8]) -> Result<usize, Errno> {
    let no_signal = 0x4000u64; // MSG_NOSIGNAL
    // SAFETY: the message is ours.
    unsafe {
        call(raw::__NR_sendto, [fd as u64, message.as_ptr() as u64, message.len() as u64, no_signal, 0, 0])
    }
    .map(|n| n as usize)
}

/// sendto(2) without an address, on memory that may be the program's; `flags` are `MSG_*`. May block without `MSG_DONTWAIT`.
pub fn send_interruptible(fd: i32, span: Span, flags: u32) -> Result<usize, Errno> {
    let flags = u64::from(flags | net::MSG_NOSIGNAL);
    // SAFETY: a Span is memory that the host may read for this call.
    unsafe { call_interruptible(raw::__NR_sendto, [fd as u64, span.address, span.length, flags, 0, 0]) }
        .map(|n| n as usize)
}

/// recvfrom(2) without an address, likewise.
pub fn receive_interruptible(fd: i32, span: Span, flags: u32) -> Result<usize, Errno> {
    // SAFETY: a Span is memory that the host may write for this call.
    unsafe {
        call_interruptible(raw::__NR_recvfrom, [fd as u64, span.address, span.length, u64::from(flags), 0, 0])
    }
    .map(|n| n as usize)
}

/// One packet of a socket that passes descriptors, without waiting: its length, and the descriptors that came with it, -1 for the
/// rest. More than `N` never come: the room is for so many, and the host closes what does not fit.
pub fn receive_with<const N: usize>(fd: i32, packet: &mut [u8]) -> Result<(usize, [i32; N]), Errno> {
    /// `struct cmsghdr` with its descriptors, padded by its alignment.
    #[repr(C)]
    struct Control<const N: usize> {
        length: usize,
        level: u32,
        kind: u32,
        fds: [i32; N],
    }
    let mut control = Control { length: 0, level: 0, kind: 0, fds: [-1; N] };
    let mut iovec =
        raw::iovec { iov_base: packet.as_mut_ptr().cast(), iov_len: packet.len() as raw::__kernel_size_t };
    // SAFETY: `msghdr` is plain data, for which zero is a value.
    let mut message: net::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = (&raw mut iovec).cast();
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control<N>>() as _;
    let flags = net::MSG_DONTWAIT | net::MSG_CMSG_CLOEXEC;
    // SAFETY: all that the message points to is valid for the call.
    let length =
        unsafe { call(raw::__NR_recvmsg, [fd as u64, &raw mut message as u64, u64::from(flags), 0, 0, 0]) }?;
    let passed = (control.level, control.kind) == (net::SOL_SOCKET, net::SCM_RIGHTS);
    let count = if passed { control.length.saturating_sub(16) / size_of::<i32>() } else { 0 };
    for fd in control.fds.iter_mut().skip(count) {
        *fd = -1;
    }
    Ok((length as usize, control.fds))
}

/// shutdown(2).
pub fn shutdown(fd: i32, how: u32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { call(raw::__NR_shutdown, [fd as u64, u64::from(how), 0, 0, 0, 0]) }.map(|_| ())
}

/// getsockopt(2); the number of bytes.
pub fn getsockopt(fd: i32, level: u32, name: u32, value: &mut [u8]) -> Result<usize, Errno> {
    let mut length = value.len() as u32;
    let (level, name) = (u64::from(level), u64::from(name));
    // SAFETY: both pointers are valid for the call.
    unsafe {
        call(
            raw::__NR_getsockopt,
            [fd as u64, level, name, value.as_mut_ptr() as u64, &raw mut length as u64, 0],
        )
    }?;
    Ok((length as usize).min(value.len()))
}

/// setsockopt(2).
pub fn setsockopt(fd: i32, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
    let (level, name) = (u64::from(level), u64::from(name));
    // SAFETY: the value is ours.
    unsafe {
        call(raw::__NR_setsockopt, [fd as u64, level, name, value.as_ptr() as u64, value.len() as u64, 0])
    }
    .map(|_| ())
}

/// Bytes that wait to be received (`FIONREAD`), on their way (`TIOCOUTQ`), or whether the next is the urgent one
/// (`SIOCATMARK`).
pub fn socket_count(fd: i32, command: u32) -> Result<i32, Errno> {
    let mut count = 0i32;
    // SAFETY: each of these commands writes one int.
    unsafe { super::ioctl(fd, command, &raw mut count as u64) }?;
    Ok(count)
}
