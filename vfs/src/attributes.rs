//! What stat(2) tells of an inode, and what can be changed.

use linux_raw_sys::general as raw;

/// The kind of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kinds of inode(7)")]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Socket,
}

impl Kind {
    /// The `S_IFMT` bits.
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::Regular => raw::S_IFREG,
            Kind::Directory => raw::S_IFDIR,
            Kind::Symlink => raw::S_IFLNK,
            Kind::Fifo => raw::S_IFIFO,
            Kind::CharDevice => raw::S_IFCHR,
            Kind::BlockDevice => raw::S_IFBLK,
            Kind::Socket => raw::S_IFSOCK,
        }
    }

    /// From `S_IFMT` bits; `None` for a value that is no kind.
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Some(match mode & raw::S_IFMT {
            raw::S_IFREG => Kind::Regular,
            raw::S_IFDIR => Kind::Directory,
            raw::S_IFLNK => Kind::Symlink,
            raw::S_IFIFO => Kind::Fifo,
            raw::S_IFCHR => Kind::CharDevice,
            raw::S_IFBLK => Kind::BlockDevice,
            raw::S_IFSOCK => Kind::Socket,
            _ => return None,
        })
    }

    /// The `d_type` of getdents64(2).
    pub fn directory_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// What stat(2) and statx(2) report. Ids are virtual.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names are inode(7)'s")]
pub struct Attributes {
    /// Device number, as `st_dev` encodes it.
    pub dev: u64,
    pub ino: u64,
    /// Kind and permission bits.
    pub mode: u32,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: raw::timespec,
    pub mtime: raw::timespec,
    pub ctime: raw::timespec,
    /// Creation time, where it is known.
    pub btime: Option<raw::timespec>,
}

impl Attributes {
    /// The kind.
    pub fn kind(&self) -> Kind {
        Kind::from_mode(self.mode).unwrap_or(Kind::Regular)
    }
}

/// What permission checks look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "as Attributes")]
pub struct Owner {
    /// Kind and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// There is an access control list, too, or there may be one.
    pub acl: bool,
}

/// Without an access control list.
impl From<&Attributes> for Owner {
    fn from(attributes: &Attributes) -> Owner {
        Owner { mode: attributes.mode, uid: attributes.uid, gid: attributes.gid, acl: false }
    }
}

/// What to change; `None` leaves as it is. The change time is set in any case.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs, reason = "as Attributes")]
pub struct AttributeChange {
    /// Permission bits only (07777).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<raw::timespec>,
    pub mtime: Option<raw::timespec>,
}

/// Encodes a device number as `st_dev` has it.
pub const fn device(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}
