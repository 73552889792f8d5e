//! Typed copies to and from the program, strings, and the two ends of file transfers.

use crate::mm::make_writable;
use crate::{Errno, Result, Short};
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use smallvec::SmallVec;
pub use trap_handler::host::Span;
use trap_handler::{copy, keys};

/// Types that are plain bytes of the ABI.
///
/// # Safety
/// Every bit pattern is a value, and the type has no pointer that the kernel would follow.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => { $(
        // SAFETY: integers and C structures of integers.
        unsafe impl Plain for $type {}
    )* };
}

plain!(
    u8,
    u16,
    u32,
    u64,
    i8,
    i16,
    i32,
    i64,
    usize,
    raw::timespec,
    raw::timeval,
    raw::itimerspec,
    raw::itimerval,
    raw::timezone,
    raw::stat,
    raw::statx,
    raw::statfs,
    raw::rusage,
    raw::rlimit,
    raw::rlimit64,
    raw::sigaltstack,
    raw::iovec,
    raw::pollfd,
    raw::epoll_event,
    raw::flock,
    raw::f_owner_ex,
    raw::termios,
    raw::termios2,
    raw::winsize,
    raw::clone_args,
    raw::robust_list_head,
    raw::futex_waitv,
    raw::open_how,
    raw::siginfo_t,
    raw::__user_cap_header_struct,
    raw::__user_cap_data_struct,
    linux_raw_sys::net::msghdr,
    linux_raw_sys::net::mmsghdr,
    linux_raw_sys::net::cmsghdr,
);
// SAFETY: an array of plain values.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Copies to the program; once more where memory is executable now that may be written, too.
fn to_user_partial(address: u64, bytes: &[u8]) -> usize {
    let done = copy::to_user_partial(address, bytes);
    if done < bytes.len() && make_writable(address, bytes.len() as u64) {
        return copy::to_user_partial(address, bytes);
    }
    done
}

fn to_user(address: u64, bytes: &[u8]) -> Result<()> {
    if to_user_partial(address, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Writes a 32-bit word of the program.
pub fn store_u32(address: u64, value: u32) -> Result<()> {
    copy::store_u32_user(address, value).or_else(|error| {
        if make_writable(address, 4) { copy::store_u32_user(address, value) } else { Err(error) }
    })
}

/// Compares a 32-bit word of the program with `expected` and, if equal, replaces it by `new`, in one step; what was there.
pub fn compare_exchange_u32(address: u64, expected: u32, new: u32) -> Result<u32> {
    copy::compare_exchange_u32_user(address, expected, new).or_else(|error| {
        if make_writable(address, 4) {
            copy::compare_exchange_u32_user(address, expected, new)
        } else {
            Err(error)
        }
    })
}

/// Reads a value of the program; made once, then checked.
pub fn read<T: Plain>(address: u64) -> Result<T> {
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the bytes of `value`; zeroed, so initialised.
    let bytes = unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    copy::from_user(bytes, address)?;
    // SAFETY: every bit pattern is a value of a Plain type.
    Ok(unsafe { value.assume_init() })
}

/// Reads a value unless the address is null.
pub fn read_optional<T: Plain>(address: u64) -> Result<Option<T>> {
    if address == 0 { Ok(None) } else { read(address).map(Some) }
}

/// Writes a value to the program. Types with padding must have been zeroed first.
pub fn write<T: Plain>(address: u64, value: &T) -> Result<()> {
    // SAFETY: reads the bytes of a plain value.
    let bytes = unsafe { core::slice::from_raw_parts((value as *const T).cast::<u8>(), size_of::<T>()) };
    to_user(address, bytes)
}

/// Writes a value unless the address is null.
pub fn write_optional<T: Plain>(address: u64, value: &T) -> Result<()> {
    if address == 0 { Ok(()) } else { write(address, value) }
}

/// Reads `count` values, which are not checked yet, in one copy.
pub fn read_array<T: Plain>(address: u64, count: usize) -> Result<Short<T>> {
    let length = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
    if !trap_handler::region::is_user(address, length as u64) {
        return Err(Errno::EFAULT);
    }
    let mut values = Short::<T>::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: there is room for `count` values, and every bit pattern is one of a Plain type.
    let bytes = unsafe {
        core::ptr::write_bytes(values.as_mut_ptr(), 0, count);
        values.set_len(count);
        core::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<u8>(), length)
    };
    copy::from_user(bytes, address)?;
    Ok(values)
}

/// Reads bytes.
pub fn read_bytes(address: u64, length: usize) -> Result<Vec<u8>> {
    if !trap_handler::region::is_user(address, length as u64) {
        return Err(Errno::EFAULT);
    }
    let mut bytes = vec![0; length];
    copy::from_user(&mut bytes, address)?;
    Ok(bytes)
}

/// Writes bytes.
pub fn write_bytes(address: u64, bytes: &[u8]) -> Result<()> {
    to_user(address, bytes)
}

/// Reads a NUL-terminated string of at most `max` bytes with its NUL; `too_long` if there is no NUL within.
pub fn read_string(address: u64, max: usize, too_long: Errno) -> Result<Vec<u8>> {
    read_text(address, max, too_long).map(Text::into_vec)
}

/// A string of the program that is mostly short.
pub type Text = SmallVec<[u8; TEXT_CHUNK]>;

/// So many bytes of a string are read at once, and need no memory of the heap.
const TEXT_CHUNK: usize = 128;

fn read_text(address: u64, max: usize, too_long: Errno) -> Result<Text> {
    let mut text = Text::new();
    while text.len() < max {
        let (start, at) = (text.len(), address.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?);
        // Never past the page: what follows may not be mapped.
        let in_page = 4096 - (at % 4096) as usize;
        text.resize(start + in_page.min(TEXT_CHUNK).min(max - start), 0);
        let part = text.get_mut(start..).unwrap_or(&mut []);
        copy::from_user(part, at)?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            text.truncate(start + end);
            return Ok(text);
        }
    }
    Err(too_long)
}

/// Reads a path (at most `PATH_MAX` bytes with its NUL): `ENAMETOOLONG`, `EFAULT`.
pub fn read_path(address: u64) -> Result<Text> {
    read_text(address, 4096, Errno::ENAMETOOLONG)
}

/// Reads an iovec array and checks it as Linux does (readv(2)): at most 1024 entries, a total that fits `ssize_t` (cut to
/// `MAX_RW_COUNT`), addresses that may be the program's.
pub fn read_iovec(address: u64, count: u64) -> Result<Vec<Span>> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let mut total = 0u64;
    let mut spans = Vec::new();
    for entry in read_array::<raw::iovec>(address, count as usize)? {
        let length = entry.iov_len;
        if length as i64 <= -1 {
            return Err(Errno::EINVAL);
        }
        let span = Span::user(entry.iov_base as u64, length)?;
        let length = length.min(MAX_TRANSFER - total);
        total += length;
        spans.push(Span { address: span.address, length });
    }
    Ok(spans)
}

/// Longest transfer of one call (`MAX_RW_COUNT`).
pub const MAX_TRANSFER: u64 = 0x7fff_f000;

/// Where the bytes of a read go: program memory (one or more spans) or a kernel buffer.
pub struct Sink<'a>(End<'a>);
/// Where the bytes of a write come from.
pub struct Source<'a>(End<'a>);

enum End<'a> {
    User { spans: &'a [Span], at: u64, left: u64, done: u64 },
    Into { bytes: &'a mut [u8], done: usize },
    From { bytes: &'a [u8], done: usize },
}

impl End<'_> {
    fn left(&self) -> usize {
        match self {
            End::User { left, .. } => *left as usize,
            End::Into { bytes, done } => bytes.len() - done,
            End::From { bytes, done } => bytes.len() - done,
        }
    }

    fn done(&self) -> usize {
        match self {
            End::User { done, .. } => *done as usize,
            End::Into { done, .. } | End::From { done, .. } => *done,
        }
    }

    /// The next contiguous piece.
    fn span(&mut self) -> Option<Span> {
        match self {
            End::User { spans, at, left, .. } => loop {
                let first = spans.first()?;
                let length = first.length.saturating_sub(*at).min(*left);
                if length > 0 {
                    return Some(Span { address: first.address + *at, length });
                }
                if *left == 0 {
                    return None;
                }
                *spans = spans.get(1..)?;
                *at = 0;
            },
            End::Into { bytes, done } => {
                bytes.get_mut(*done..).filter(|rest| !rest.is_empty()).map(Span::from)
            }
            End::From { bytes, done } => bytes.get(*done..).filter(|rest| !rest.is_empty()).map(Span::from),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            End::User { at, left, done, .. } => {
                *at += count as u64;
                *done += count as u64;
                *left = left.saturating_sub(count as u64);
            }
            End::Into { bytes, done } => *done = bytes.len().min(*done + count),
            End::From { bytes, done } => *done = bytes.len().min(*done + count),
        }
    }
}

fn user_end<'a>(spans: &'a [Span]) -> End<'a> {
    let left = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.length)).min(MAX_TRANSFER);
    End::User { spans, at: 0, left, done: 0 }
}

macro_rules! common_end {
    ($type:ident, $is_written:literal) => {
        impl $type<'_> {
            /// Bytes that may still be transferred.
            pub fn left(&self) -> usize {
                self.0.left()
            }

            /// Bytes transferred so far.
            pub fn done(&self) -> usize {
                self.0.done()
            }

            /// The next contiguous piece, for a host call that transfers by itself; follow with [`Self::advance`].
            pub fn span(&mut self) -> Option<Span> {
                let span = self.0.span();
                if let (true, End::User { .. }, Some(span)) = ($is_written && keys::on(), &self.0, span) {
                    // The host writes to it by itself, and does not ask again.
                    make_writable(span.address, span.length);
                }
                span
            }

            /// Notes that a host call transferred `count` bytes of the piece.
            pub fn advance(&mut self, count: usize) {
                self.0.advance(count)
            }
        }
    };
}
common_end!(Sink, true);
common_end!(Source, false);

impl<'a> Sink<'a> {
    /// Program memory; spans were checked when they were made.
    pub fn user(spans: &'a [Span]) -> Sink<'a> {
        Sink(user_end(spans))
    }

    /// A kernel buffer.
    pub fn kernel(bytes: &'a mut [u8]) -> Sink<'a> {
        Sink(End::Into { bytes, done: 0 })
    }

    /// Puts as many of `bytes` as there is room for; the number put. `EFAULT` only if none could be put for a fault: a part
    /// that went before counts, as Linux has it.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<usize> {
        let mut count = 0;
        while !bytes.is_empty()
            && let Some(span) = self.0.span()
        {
            let length = bytes.len().min(span.length as usize);
            let part = bytes.get(..length).unwrap_or(bytes);
            let put = match &mut self.0 {
                End::Into { bytes: into, done } => {
                    let Some(into) = into.get_mut(*done..*done + length) else { break };
                    into.copy_from_slice(part);
                    length
                }
                _ => to_user_partial(span.address, part),
            };
            self.0.advance(put);
            count += put;
            if put < length {
                return if count == 0 { Err(Errno::EFAULT) } else { Ok(count) };
            }
            bytes = bytes.get(length..).unwrap_or(&[]);
        }
        Ok(count)
    }

    /// Puts zeros.
    pub fn put_zeros(&mut self, count: usize) -> Result<usize> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut put = 0;
        while put < count && self.left() > 0 {
            let part = self.put(&ZEROS[..ZEROS.len().min(count - put)])?;
            put += part;
            if part == 0 {
                break;
            }
        }
        Ok(put)
    }
}

impl<'a> Source<'a> {
    /// Program memory; spans were checked when they were made.
    pub fn user(spans: &'a [Span]) -> Source<'a> {
        Source(user_end(spans))
    }

    /// Gives no more than `length` bytes from now on.
    pub fn cut(&mut self, length: u64) {
        match &mut self.0 {
            End::User { left, .. } => *left = length.min(*left),
            End::From { bytes, done } => {
                let end = bytes.len().min(done.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)));
                *bytes = bytes.get(..end).unwrap_or(bytes);
            }
            End::Into { .. } => {}
        }
    }

    /// A kernel buffer.
    pub fn kernel(bytes: &'a [u8]) -> Source<'a> {
        Source(End::From { bytes, done: 0 })
    }

    /// Takes bytes to fill `to` as far as there are any; the number taken. `EFAULT` only if none could be taken for a fault.
    pub fn take(&mut self, mut to: &mut [u8]) -> Result<usize> {
        let mut count = 0;
        while !to.is_empty()
            && let Some(span) = self.0.span()
        {
            let length = to.len().min(span.length as usize);
            let (part, rest) = to.split_at_mut(length);
            let taken = match &self.0 {
                End::From { bytes, done } => {
                    let Some(from) = bytes.get(*done..*done + length) else { break };
                    part.copy_from_slice(from);
                    length
                }
                _ => copy::from_user_partial(part, span.address),
            };
            self.0.advance(taken);
            count += taken;
            if taken < length {
                return if count == 0 { Err(Errno::EFAULT) } else { Ok(count) };
            }
            to = rest;
        }
        Ok(count)
    }
}
