//! Single path components as the host wants them.

use crate::{Errno, Result};
use core::ffi::CStr;

/// Longest component (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// One component with its NUL, on the stack.
///
/// Never empty, `.`, `..` or with a slash: a host call with it cannot leave its directory. Path walking has sorted those
/// names out before; here they are refused once more because confinement rests on it.
pub struct Name {
    bytes: [u8; NAME_MAX + 1],
    length: usize,
}

impl Name {
    /// Checks a component: `ENAMETOOLONG`, `EINVAL`.
    pub fn new(name: &[u8]) -> Result<Name> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; NAME_MAX + 1];
        bytes.get_mut(..name.len()).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(name);
        Ok(Name { bytes, length: name.len() })
    }

    /// For a host call.
    pub fn as_c_str(&self) -> &CStr {
        self.bytes
            .get(..=self.length)
            .and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok())
            .unwrap_or(c"/dev/null/not-a-name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert_eq!(Name::new(bad).err(), Some(Errno::EINVAL));
        }
        assert_eq!(Name::new(&[b'x'; 256]).err(), Some(Errno::ENAMETOOLONG));
    }

    #[test]
    fn a_name_reaches_the_host_unchanged() {
        for good in [&b"a"[..], b"...", b"..a", &[b'x'; 255]] {
            assert_eq!(
                Name::new(good).ok().map(|name| name.as_c_str().to_bytes().to_vec()),
                Some(good.to_vec())
            );
        }
    }
}
