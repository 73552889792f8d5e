//! hosts(5) of the host, completed by the sandbox's own name: a program that asks for the address of the machine that it runs on gets
//! one, as from a container's.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;
use kernel::uaccess::{Sink, Source};
use linux_raw_sys::general as raw;
use vfs::attributes::Kind;
use vfs::file::OpenFile;
use vfs::inode::{Inode, NewKind, NewNode};
use vfs::namespace::{self, Lookup, Resolve};
use vfs::{Errno, tmpfs};

/// A longer file (there are lists of names to be blocked) is left as it is: all of the sandbox would pay for a second one.
const LONGEST: u64 = 1 << 20;

/// The file at `path` with a line for `name` behind it. `None` if it has the name already, cannot be read, or is too long.
pub fn completed(
    lookup: &Lookup<'_>,
    path: &[u8],
    name: &str,
    addresses: &[IpAddr],
) -> Result<Option<Arc<dyn Inode>>, Errno> {
    let Ok(text) = read(lookup, path) else { return Ok(None) };
    let Some(text) = with_name(text, name, addresses) else { return Ok(None) };
    let node = NewNode { what: NewKind::Regular, mode: 0o644, uid: 0, gid: 0 };
    // Room for the file and for the directory that it is in, which nobody sees.
    let filesystem = tmpfs::mount(LONGEST * 2, 0o755, (0, 0))?;
    let inode = filesystem.create(b"hosts", &node)?;
    let ops = inode.clone().open(raw::O_WRONLY)?;
    let file = OpenFile::new(ops, None, raw::O_WRONLY);
    let mut source = Source::kernel(&text);
    while source.left() > 0 {
        let offset = (text.len() - source.left()) as u64;
        if file.ops.write_at(&file, offset, &mut source)? == 0 {
            return Err(Errno::ENOSPC);
        }
    }
    Ok(Some(inode))
}

fn read(lookup: &Lookup<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let flags = raw::O_RDONLY | raw::O_NONBLOCK;
    let file = namespace::open(lookup, raw::AT_FDCWD, path, flags, 0, Resolve::empty())?;
    let attributes = file.ops.attributes()?;
    if attributes.kind() != Kind::Regular || attributes.size > LONGEST {
        return Err(Errno::EINVAL);
    }
    // It may have shrunk since.
    let mut text = vec![0; attributes.size as usize];
    let mut sink = Sink::kernel(&mut text);
    while sink.left() > 0 {
        let offset = attributes.size - sink.left() as u64;
        if file.ops.read_at(&file, offset, &mut sink)? == 0 {
            break;
        }
    }
    let missing = sink.left();
    text.truncate(text.len() - missing);
    Ok(text)
}

/// The text with lines for `name`, unless one has it.
fn with_name(mut text: Vec<u8>, name: &str, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    if text.split(|byte| *byte == b'\n').any(|line| names(line, name)) {
        return None;
    }
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    let lines: String = addresses.iter().map(|ip| format!("{ip}\t{name}\n")).collect();
    text.extend_from_slice(lines.as_bytes());
    Some(text)
}

/// Whether a line gives `name` an address.
fn names(line: &[u8], name: &str) -> bool {
    let line = line.split(|byte| *byte == b'#').next().unwrap_or(line);
    let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.skip(1).any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn completed(text: &str) -> Option<String> {
        let text = with_name(text.into(), "Box", &[Ipv4Addr::LOCALHOST.into()])?;
        Some(String::from_utf8(text).expect("text"))
    }

    #[test]
    fn a_name_that_has_no_line_gets_one() {
        assert_eq!(completed("").as_deref(), Some("127.0.0.1\tBox\n"));
        assert_eq!(completed("::1 ip6").as_deref(), Some("::1 ip6\n127.0.0.1\tBox\n"));
        for others in ["127.0.0.1 boxes box.example\n", "# 127.0.0.1 box\n", "10.0.0.1 a #box\n", "box\n"] {
            assert_eq!(completed(others), Some(format!("{others}127.0.0.1\tBox\n")));
        }
    }

    #[test]
    fn a_name_that_has_a_line_keeps_it() {
        for text in ["127.0.1.1 box\n", "10.0.0.1\ta\tBOX", "::1 a\n\n  10.0.0.1  b box # c\n"] {
            assert_eq!(completed(text), None, "{text}");
        }
    }
}
