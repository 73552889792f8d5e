//! An archive in the form of an OCI image layer (image-spec, `layer.md`): ustar with pax records where ustar is too small.

use anyhow::{Context, ensure};
use boundary::changes::{Node, NodeKind};
use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};
use tempfile::TempPath;

/// Largest file, holes included.
const SIZE_MAX: u64 = 8 << 40;
/// What all files may have together, holes included.
const TOTAL_MAX: u64 = 16 << 40;
/// Bytes of a name in ustar's own fields.
const NAME_FIELD: usize = 100;
/// Bytes of names that later links may name, with what is remembered of each.
const NAMES_MAX: usize = 256 << 20;

/// An archive that is being written.
pub struct Archive {
    builder: Builder<BufWriter<Sparse>>,
    path: PathBuf,
    /// What it is called until it is whole; `None` where it is written in place (a pipe, a device).
    temporary: Option<TempPath>,
    /// Files that links may name.
    files: HashMap<Vec<u8>, Shown>,
    names: usize,
    total: u64,
}

impl Archive {
    /// An archive that will be at `path`.
    pub fn new(path: &Path) -> anyhow::Result<Archive> {
        let named = || format!("--export-changes {}: cannot be written; name another file", path.display());
        let in_place = path.metadata().is_ok_and(|metadata| !metadata.is_file());
        let (file, temporary) = if in_place {
            (File::options().write(true).open(path).with_context(named)?, None)
        } else {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let made = tempfile::Builder::new()
                .prefix(".changes-")
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(directory.unwrap_or(Path::new(".")));
            let (file, temporary) = made.with_context(named)?.into_parts();
            (file, Some(temporary))
        };
        let output = Sparse { file, seekable: temporary.is_some(), end: 0 };
        Ok(Archive {
            builder: Builder::new(BufWriter::with_capacity(64 << 10, output)),
            path: path.into(),
            temporary,
            files: HashMap::new(),
            names: 0,
            total: 0,
        })
    }

    /// A name of the lower is gone.
    pub fn whiteout(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (directory, name) = path.split_at(at);
        self.marker(&[directory, b".wh.", name].concat())
    }

    /// A directory hides the lower's.
    pub fn opaque(&mut self, path: &[u8]) -> anyhow::Result<()> {
        self.marker(&[path, b"/.wh..wh..opq"].concat())
    }

    fn marker(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let header = Shown { mode: 0o644, owner: (0, 0), mtime: 0 }.header(EntryType::Regular);
        self.append(header, path, b"", Vec::new(), io::empty())
    }

    /// A regular file.
    pub fn file(&mut self, node: &Node, size: u64, contents: impl Read) -> anyhow::Result<()> {
        self.total = self.total.saturating_add(size);
        ensure!(
            size <= SIZE_MAX && self.total <= TOTAL_MAX,
            "files of more than 8 TiB, or of 16 TiB together, are not packed"
        );
        self.remember(node)?;
        let mut header = Shown::of(node).header(EntryType::Regular);
        header.set_size(size);
        self.append(header, &node.path, b"", records_of(node), contents)
    }

    /// A directory, a symbolic link or a named pipe.
    pub fn node(&mut self, node: &Node) -> anyhow::Result<()> {
        let (entry, path, target) = match &node.kind {
            NodeKind::Directory => (EntryType::Directory, [&node.path[..], b"/"].concat(), &b""[..]),
            NodeKind::Symlink(text) => (EntryType::Symlink, node.path.clone(), &text[..]),
            _ => (EntryType::Fifo, node.path.clone(), &b""[..]),
        };
        ensure!(!target.contains(&0) && target.len() <= 1 << 16, "the text of a link is not valid");
        if entry != EntryType::Directory {
            self.remember(node)?;
        }
        self.append(Shown::of(node).header(entry), &path, target, records_of(node), io::empty())
    }

    /// Another name of a file that is in the archive.
    pub fn link(&mut self, path: &[u8], to: &[u8]) -> anyhow::Result<()> {
        // Whoever unpacks it may set mode and owner of the link, which are the file's.
        let file = self.files.get(to).context("a link to a file that was not told of")?;
        let header = file.header(EntryType::Link);
        self.append(header, path, to, Vec::new(), io::empty())
    }

    fn remember(&mut self, node: &Node) -> anyhow::Result<()> {
        if !node.linked {
            return Ok(());
        }
        self.names += node.path.len() + size_of::<Shown>();
        ensure!(self.names <= NAMES_MAX, "the names take too much memory");
        self.files.insert(node.path.clone(), Shown::of(node));
        Ok(())
    }

    fn append(
        &mut self,
        mut header: Header,
        path: &[u8],
        target: &[u8],
        mut records: Vec<(String, Vec<u8>)>,
        contents: impl Read,
    ) -> anyhow::Result<()> {
        let old = header.as_old_mut();
        for (field, text, key) in [(&mut old.name, path, "path"), (&mut old.linkname, target, "linkpath")] {
            if text.len() > NAME_FIELD {
                records.push((key.into(), text.to_vec()));
            }
            let count = text.len().min(NAME_FIELD);
            field[..count].copy_from_slice(&text[..count]);
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder
            .append_pax_extensions(records)
            .and_then(|()| self.builder.append(&header, contents))
            .with_context(|| format!("--export-changes {}", self.path.display()))
    }

    /// The archive is whole.
    pub fn finish(self) -> anyhow::Result<()> {
        let named = || format!("--export-changes {}", self.path.display());
        let output = self
            .builder
            .into_inner()
            .and_then(|output| output.into_inner().map_err(io::IntoInnerError::into_error));
        output.and_then(Sparse::finish).with_context(named)?;
        match self.temporary {
            Some(temporary) => temporary.persist(&self.path).with_context(named),
            None => Ok(()),
        }
    }
}

/// What a header shows of a file.
struct Shown {
    mode: u32,
    owner: (u32, u32),
    mtime: i64,
}

impl Shown {
    fn of(node: &Node) -> Shown {
        Shown { mode: node.mode & 0o7777, owner: (node.uid, node.gid), mtime: node.mtime.0 }
    }

    fn header(&self, entry: EntryType) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(entry);
        // An empty field is no number to strict readers.
        header.set_size(0);
        header.set_mode(self.mode);
        header.set_uid(u64::from(self.owner.0));
        header.set_gid(u64::from(self.owner.1));
        header.set_mtime(u64::try_from(self.mtime).unwrap_or(0));
        header
    }
}

/// What ustar has no field for (pax(1), and Schily's names for extended attributes, as the image-spec has it).
fn records_of(node: &Node) -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    let (seconds, nanoseconds) = (node.mtime.0, node.mtime.1 % 1_000_000_000);
    if seconds < 0 || nanoseconds != 0 {
        records.push(("mtime".into(), pax_time(seconds, nanoseconds).into_bytes()));
    }
    for (name, value) in &node.xattrs {
        // A key ends at its first `=`.
        match std::str::from_utf8(name) {
            Ok(name) if !name.contains('=') && !name.contains(char::is_control) => {
                records.push((format!("SCHILY.xattr.{name}"), value.clone()));
            }
            _ => {}
        }
    }
    records
}

/// Seconds as a decimal number: before 1970, the fraction counts backwards.
fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds)
}

/// A file in which zeros are holes: a layer has no sparse files, but the archive can be one.
struct Sparse {
    file: File,
    seekable: bool,
    /// Where the file is to end, if the last bytes were zeros.
    end: u64,
}

impl Sparse {
    fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        if self.seekable { self.file.set_len(self.end) } else { Ok(()) }
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let zeros = self.seekable && bytes.len() >= 4096 && bytes.iter().all(|&byte| byte == 0);
        let count = if zeros {
            self.file.seek(SeekFrom::Current(bytes.len() as i64))?;
            bytes.len()
        } else {
            self.file.write(bytes)?
        };
        self.end += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
