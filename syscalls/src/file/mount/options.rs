//! Options of tmpfs(5), as text.

use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What was asked for; `None` is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    size: Option<Size>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Bytes(u64),
    /// Of all memory.
    Percent(u64),
}

impl TmpfsOptions {
    /// `EINVAL` for what tmpfs does not know, or this one does not do.
    pub fn parse(text: &[u8]) -> Result<TmpfsOptions> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut options = TmpfsOptions::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => options.size = Some(size(value)?),
                "nr_blocks" => options.size = Some(Size::Bytes(bytes(value)?.saturating_mul(4096))),
                "mode" => options.mode = Some(number(value, 8)? & 0o7777),
                "uid" => options.uid = Some(number(value, 10)?),
                "gid" => options.gid = Some(number(value, 10)?),
                // How it is told of is not changed by these.
                "inode64" | "noswap" if value.is_empty() => {}
                _ => {
                    kernel::warn!("mount: tmpfs option {option} is not there: EINVAL");
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(options)
    }

    /// The limit, given the default one; 0 in the option is no limit but all memory.
    pub fn bytes(&self, default: u64) -> u64 {
        match self.size {
            None => default,
            Some(Size::Bytes(0)) => default.saturating_mul(2),
            Some(Size::Bytes(bytes)) => bytes,
            Some(Size::Percent(percent)) => (default / 50).saturating_mul(percent),
        }
    }

    /// As `/proc/mounts` shows them (`shmem_show_options`).
    pub fn shown(&self) -> Vec<u8> {
        let mut parts: Vec<String> = Vec::new();
        if self.size.is_some() {
            parts.push(format!("size={}k", self.bytes(0) / 1024));
        }
        if let Some(mode) = self.mode.filter(|&mode| mode != 0o1777) {
            parts.push(format!("mode={mode:03o}"));
        }
        for (name, id) in [("uid", self.uid), ("gid", self.gid)] {
            if let Some(id) = id.filter(|&id| id != 0) {
                parts.push(format!("{name}={id}"));
            }
        }
        parts.join(",").into_bytes()
    }
}

fn number(text: &str, radix: u32) -> Result<u32> {
    u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL)
}

/// A number with K, M, G (memparse).
fn bytes(text: &str) -> Result<u64> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (text.get(..text.len() - 1), 10),
        Some(b'm' | b'M') => (text.get(..text.len() - 1), 20),
        Some(b'g' | b'G') => (text.get(..text.len() - 1), 30),
        _ => (Some(text), 0),
    };
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

fn size(text: &str) -> Result<Size> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(Size::Percent).map_err(|_| Errno::EINVAL),
        None => bytes(text).map(|bytes| Size::Bytes(bytes.next_multiple_of(4096))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_pages_and_have_units() {
        let size = |text: &str| TmpfsOptions::parse(text.as_bytes()).map(|options| options.bytes(1 << 30));
        assert_eq!(size("size=1m,mode=755"), Ok(1 << 20));
        assert_eq!(size("size=1"), Ok(4096));
        assert_eq!(size("nr_blocks=2"), Ok(8192));
        assert_eq!(size("size=25%"), Ok((1u64 << 30) / 50 * 25));
        assert_eq!(size(""), Ok(1 << 30));
        for bad in ["size", "size=x", "size=1x", "frobnicate", "mode=9", "uid=-1", "inode64=1"] {
            assert_eq!(size(bad), Err(Errno::EINVAL), "{bad}");
        }
    }

    #[test]
    fn defaults_are_not_shown() {
        let shown = |text: &[u8]| TmpfsOptions::parse(text).map(|options| options.shown());
        assert_eq!(shown(b"mode=1777,uid=0"), Ok(Vec::new()));
        assert_eq!(shown(b"size=2m,mode=700,gid=5").as_deref(), Ok(&b"size=2048k,mode=700,gid=5"[..]));
    }
}
