//! What a run has changed in its overlays: a stream of records from the warden to the supervisor, at the end of the sandbox.
//!
//! A record is its length (`u32`, little-endian, at most [`MAX_RECORD`]) and the `postcard` encoding of a [`Change`].
//! [`Change::Data`] is followed by as many bytes as it says. The last record is [`Change::End`]; a stream without it is not whole.
//!
//! Paths are relative to the sandbox's root, without a leading slash, `.` or `..`. A directory comes before what is in it. As
//! everything from inside, the stream is hostile: the supervisor checks each record.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Longest encoded record: extended attributes of one file take at most 128 KiB.
pub const MAX_RECORD: usize = 256 << 10;
/// Most bytes behind one [`Change::Data`].
pub const MAX_DATA: u32 = 64 << 10;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A name of the lower is gone.
    Whiteout {
        /// Which.
        path: Vec<u8>,
    },
    /// A directory, which was just told of, shows nothing of the lower.
    Opaque {
        /// Which.
        path: Vec<u8>,
    },
    /// A file or directory was made or changed, and is now like this.
    Node(Node),
    /// Another name of a file that was told of.
    Link {
        /// The name.
        path: Vec<u8>,
        /// The path that was told.
        to: Vec<u8>,
        /// As [`Node::fresh`].
        fresh: bool,
    },
    /// Bytes of the regular file told of last, in the order of their offsets; what is left out reads as zero.
    Data {
        /// Where in the file.
        offset: u64,
        /// How many follow.
        length: u32,
    },
    /// That was all.
    End,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub kind: NodeKind,
    /// The lower has nothing of this name.
    pub fresh: bool,
    /// Links to it may follow.
    pub linked: bool,
    /// Permission bits.
    pub mode: u32,
    /// Owner, as seen inside.
    pub uid: u32,
    /// Group, as seen inside.
    pub gid: u32,
    /// Time of the last modification: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What kind of file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// A regular file of so many bytes.
    Regular(u64),
    /// A directory.
    Directory,
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A device node.
    Device,
}
