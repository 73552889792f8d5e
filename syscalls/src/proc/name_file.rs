//! `/proc/sys/kernel/hostname` and `domainname`: the sandbox's names, which user 0 may change (`proc_do_uts_string`).

use super::nodes::{Entry, PROC};
use crate::system::{self, Name};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;
use vfs::file::{FileOps, OpenFile};
use vfs::generated::Special;
use vfs::inode::Inode;
use vfs::{Errno, Result};

/// The entry of one of them.
pub fn entry(file: &'static str, name: Name) -> Entry {
    let open = move |flags| -> Result<Arc<dyn FileOps>> {
        // The owner alone, whatever capabilities others have (`test_perm` of sysctls).
        if flags & raw::O_ACCMODE != raw::O_RDONLY && kernel::task::current().cred().euid != 0 {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(NameFile(name)))
    };
    let node = move || -> Arc<dyn Inode> {
        let common = PROC.node(&[b"sys", b"kernel", file.as_bytes()], 0o644, (0, 0));
        Arc::new(Special { common, open: Box::new(open) })
    };
    Entry { name: file, kind: Kind::Regular, make: Box::new(node) }
}

struct NameFile(Name);

/// What a write at `offset` makes of a name: what is there up to that place, and then what is written, to the end of its first line and
/// within the longest name. `None` behind the end, where a write has no effect (`sysctl_writes_strict`).
fn written(old: &[u8], offset: u64, bytes: &[u8]) -> Option<Vec<u8>> {
    let kept = old.get(..usize::try_from(offset).ok()?)?;
    let line = bytes.split(|byte| matches!(byte, 0 | b'\n')).next().unwrap_or(&[]);
    Some(kept.iter().chain(line).copied().take(system::NAME_MAX).collect())
}

impl FileOps for NameFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seekable(&self) -> bool {
        true
    }

    fn read_at(&self, _file: &OpenFile, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let text = [&system::name(self.0)[..], b"\n"].concat();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        sink.put(text.get(from..).unwrap_or(&[]))
    }

    fn write_at(&self, _file: &OpenFile, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        /// More than any name has.
        const MAX: usize = 4096;
        let mut bytes = vec![0; source.left().min(MAX)];
        let count = source.take(&mut bytes)?;
        let bytes = bytes.get(..count).unwrap_or(&[]);
        system::change_name(self.0, |old| written(old, offset, bytes));
        Ok(count)
    }

    fn append(&self, file: &OpenFile, source: &mut Source<'_>) -> Result<(usize, u64)> {
        self.write_at(file, 0, source).map(|count| (count, count as u64))
    }

    fn seek(&self, position: u64, offset: i64, whence: u32) -> Result<u64> {
        vfs::generated::seek_within(position, offset, whence, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_with_its_line_and_is_as_long_as_names_are() {
        let written = |old: &str, offset, bytes: &str| written(old.as_bytes(), offset, bytes.as_bytes());
        assert_eq!(written("old", 0, "new\nmore").as_deref(), Some(&b"new"[..]));
        assert_eq!(written("old", 0, "\n").as_deref(), Some(&b""[..]));
        assert_eq!(written("old", 2, "x\0y").as_deref(), Some(&b"olx"[..]));
        assert_eq!(written("old", 4, "x"), None);
        assert_eq!(written("", 0, &"n".repeat(80)).map(|name| name.len()), Some(64));
    }
}
