//! What a run has changed in its overlays (`--diff`, `--export-changes`): read from the sandbox while it ends, checked, listed
//! and packed as an OCI image layer.
//!
//! The stream is hostile, and the program may write to it at any time. So every path is checked, a record has a greatest length,
//! the bytes of all have a limit, and an archive gets its name only once the last record was seen. Nothing of the stream is
//! used as a path on the host: the archive is a file that the caller named.

mod archive;
mod stream;
#[cfg(test)]
mod tests;

use anyhow::{Context, anyhow, ensure};
use archive::Archive;
use boundary::changes::{Change, Node, NodeKind};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::JoinHandle;
use stream::Stream;

/// Changes at most: what is remembered of each is bounded by this.
const CHANGES_MAX: u64 = 20_000_000;
/// Names told to be left out, at most.
const LEFT_OUT_MAX: usize = 20;

/// Where the changes go.
#[derive(Default)]
pub struct Wanted {
    listing: Option<File>,
    archive: Option<Archive>,
    /// Bytes that the sandbox may send.
    limit: u64,
}

impl Wanted {
    /// A list to `listing`, an archive at `archive`. With a `limit` the sandbox may send only so many bytes; without one it has a
    /// directory of the host to fill anyway.
    pub fn new(
        listing: Option<OwnedFd>,
        archive: Option<&Path>,
        limit: Option<u64>,
    ) -> anyhow::Result<Wanted> {
        let archive = archive.map(Archive::new).transpose()?;
        Ok(Wanted { listing: listing.map(File::from), archive, limit: limit.unwrap_or(u64::MAX) })
    }

    /// Whether anybody wants to know.
    pub fn any(&self) -> bool {
        self.listing.is_some() || self.archive.is_some()
    }

    /// Whether contents of files are wanted.
    pub fn with_data(&self) -> bool {
        self.archive.is_some()
    }

    /// Reads the stream to its end, in a thread of its own: the sandbox waits while nobody reads.
    pub fn collect(self, stream: OwnedFd) -> Collector {
        Collector(std::thread::spawn(move || self.read(BufReader::new(File::from(stream)))))
    }

    fn read(self, input: impl Read) -> anyhow::Result<Vec<String>> {
        let mut reader = Reader {
            stream: Stream::new(input, self.limit),
            listing: self.listing.map(BufWriter::new),
            archive: self.archive,
            directory: Vec::new(),
            left_out: Vec::new(),
        };
        for _ in 0..CHANGES_MAX {
            match reader.stream.next()? {
                Change::End => return reader.finish(),
                change => reader.take(change)?,
            }
        }
        Err(anyhow!("more than {CHANGES_MAX} changes"))
    }
}

/// A thread that reads the changes.
pub struct Collector(JoinHandle<anyhow::Result<Vec<String>>>);

impl Collector {
    /// Waits until all was read, which the end of the sandbox brings about. What had to be left out, for people.
    pub fn finish(self) -> anyhow::Result<Vec<String>> {
        self.0.join().map_err(|_| anyhow!("the changes could not be read"))?
    }
}

struct Reader<R> {
    stream: Stream<R>,
    listing: Option<BufWriter<File>>,
    archive: Option<Archive>,
    /// The directory told of last.
    directory: Vec<u8>,
    left_out: Vec<String>,
}

/// Checks a path of the stream: relative, of plain names.
fn check_path(path: &[u8]) -> anyhow::Result<()> {
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= 255 && !name.contains(&0);
    ensure!(path.len() <= 1 << 20 && path.split(|&byte| byte == b'/').all(plain), "a path is not valid");
    Ok(())
}

/// Whether a layer could hold this name: it has no names that look like whiteouts.
fn looks_like_marker(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|name| name.starts_with(b".wh."))
}

/// A path on one line: nothing in it ends the line or does something to a terminal.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .map(|c| if c.is_control() || c == '\\' { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

impl<R: Read> Reader<R> {
    fn take(&mut self, change: Change) -> anyhow::Result<()> {
        match change {
            Change::Whiteout { path } => {
                check_path(&path)?;
                self.list('D', &path)?;
                match &mut self.archive {
                    Some(archive) if !looks_like_marker(&path) => archive.whiteout(&path),
                    _ => Ok(()),
                }
            }
            Change::Opaque { path } => {
                ensure!(path == self.directory, "an opaque directory that was not told of");
                self.list('O', &path)?;
                self.archive.as_mut().map_or(Ok(()), |archive| archive.opaque(&path))
            }
            Change::Node(node) => self.take_node(&node),
            Change::Link { path, to, fresh } => {
                check_path(&path)?;
                self.list(if fresh { 'A' } else { 'C' }, &path)?;
                match &mut self.archive {
                    _ if looks_like_marker(&path) || looks_like_marker(&to) => {
                        self.leave_out(&path, "its name")
                    }
                    Some(archive) => archive.link(&path, &to),
                    None => Ok(()),
                }
            }
            Change::Data { .. } => Err(anyhow!("data that belong to no file")),
            Change::End => Ok(()),
        }
    }

    fn take_node(&mut self, node: &Node) -> anyhow::Result<()> {
        check_path(&node.path)?;
        self.list(if node.fresh { 'A' } else { 'C' }, &node.path)?;
        if node.kind == NodeKind::Directory {
            self.directory.clone_from(&node.path);
        }
        let Some(archive) = &mut self.archive else { return Ok(()) };
        let why = match node.kind {
            _ if looks_like_marker(&node.path) => "its name",
            NodeKind::Socket => "a socket",
            // Whoever unpacks the archive as root would have a device of the program's choice.
            NodeKind::Device => "a device",
            NodeKind::Regular(size) => {
                return archive.file(node, size, self.stream.contents(size)).context("packing a file");
            }
            _ => return archive.node(node),
        };
        if let NodeKind::Regular(size) = node.kind {
            std::io::copy(&mut self.stream.contents(size), &mut std::io::sink())?;
        }
        self.leave_out(&node.path, why)
    }

    fn leave_out(&mut self, path: &[u8], why: &str) -> anyhow::Result<()> {
        if self.archive.is_some() && self.left_out.len() < LEFT_OUT_MAX {
            self.left_out
                .push(format!("/{}: {why} has no place in an image layer, and was left out", shown(path)));
        }
        Ok(())
    }

    fn list(&mut self, letter: char, path: &[u8]) -> anyhow::Result<()> {
        match &mut self.listing {
            Some(listing) => writeln!(listing, "{letter} /{}", shown(path)).context("the list of changes"),
            None => Ok(()),
        }
    }

    fn finish(self) -> anyhow::Result<Vec<String>> {
        if let Some(mut listing) = self.listing {
            listing.flush().context("the list of changes")?;
        }
        if let Some(archive) = self.archive {
            archive.finish()?;
        }
        Ok(self.left_out)
    }
}
