//! Host calls on the packet socket of the sandbox's network stack (packet(7)). No call here has an address: frames go to the
//! interface that the socket is bound to.

use super::{call, raw};
use crate::Errno;
use linux_raw_sys::net;

/// Frames that one call receives at most.
pub const FRAMES_AT_ONCE: usize = 16;

/// Receives frames that wait, without waiting for any, each into `room` bytes of `buffer`, one behind the other. Their lengths, of
/// which those above `room` are of frames that were cut; how many there are.
pub fn receive_frames(
    fd: i32,
    buffer: &mut [u8],
    room: usize,
    lengths: &mut [usize; FRAMES_AT_ONCE],
) -> Result<usize, Errno> {
    // SAFETY: these structures are plain data, for which zero is a value.
    let (mut iovecs, mut messages): ([raw::iovec; FRAMES_AT_ONCE], [net::mmsghdr; FRAMES_AT_ONCE]) =
        unsafe { (core::mem::zeroed(), core::mem::zeroed()) };
    let mut count = 0;
    for ((slot, iovec), message) in buffer.chunks_exact_mut(room.max(1)).zip(&mut iovecs).zip(&mut messages) {
        iovec.iov_base = slot.as_mut_ptr().cast();
        iovec.iov_len = slot.len() as raw::__kernel_size_t;
        message.msg_hdr.msg_iov = (&raw mut *iovec).cast();
        message.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    let flags = u64::from(net::MSG_DONTWAIT);
    // SAFETY: all that the messages point to is valid for the call, and there are `count` of them.
    let received =
        unsafe { call(raw::__NR_recvmmsg, [fd as u64, messages.as_mut_ptr() as u64, count, flags, 0, 0]) }?
            as usize;
    for (length, message) in lengths.iter_mut().zip(messages.iter().take(received)) {
        let cut = message.msg_hdr.msg_flags & net::MSG_TRUNC != 0;
        *length = if cut { usize::MAX } else { message.msg_len as usize };
    }
    Ok(received.min(FRAMES_AT_ONCE))
}

/// Sends a frame, without waiting for room.
pub fn send_frame(fd: i32, frame: &[u8]) -> Result<(), Errno> {
    let flags = u64::from(net::MSG_DONTWAIT);
    // SAFETY: the frame is ours.
    unsafe { call(raw::__NR_sendto, [fd as u64, frame.as_ptr() as u64, frame.len() as u64, flags, 0, 0]) }
        .map(drop)
}
