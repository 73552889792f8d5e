//! Host trees against real directories: the host calls of ordinary files need nothing of a running sandbox.

extern crate std;

use super::HostRights;
use super::{HostInode, HostTree};
use crate::attributes::{AttributeChange, Kind};
use crate::context::FsContext;
use crate::identity::HostIds;
use crate::inode::{Inode, LinkTarget, NewKind, NewNode};
use crate::namespace::{Lookup, MountOptions, Namespace, Resolve, open};
use crate::table::TableUse;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::boot;
use kernel::cred::Cred;
use linux_raw_sys::general as raw;
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A directory that is removed with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(std::format!("trapbox-vfs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    pub(crate) fn tree(&self) -> Arc<HostTree> {
        let ids = boot::HostIds { overflow_uid: 65534, overflow_gid: 65534, unmapped_shown_as: 0 };
        let root = fs::OpenOptions::new()
            .read(true)
            .custom_flags((raw::O_PATH | raw::O_DIRECTORY) as i32)
            .open(&self.0)
            .expect("the scratch directory opens");
        HostTree::new(
            root.into_raw_fd(),
            HostIds::new(ids),
            HostRights { xattrs: true, set_ids: false },
            None,
        )
    }

    pub(crate) fn mount(&self, shared: bool, read_only: bool) -> Arc<HostInode> {
        self.tree().mount(b"", shared, read_only).expect("the tree mounts")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("a file is written");
}

fn new(what: NewKind<'_>, mode: u32) -> NewNode<'_> {
    let (uid, gid) = (fs::metadata("/proc/self").map(|own| (own.uid(), own.gid()))).expect("own ids");
    NewNode { what, mode, uid, gid }
}

pub(crate) fn names(directory: Arc<dyn Inode>) -> Result<Vec<Vec<u8>>> {
    let listing = directory.open(raw::O_RDONLY)?;
    let mut names = Vec::new();
    listing.read_dir(0, usize::MAX, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })?;
    names.retain(|name| !matches!(&name[..], b"." | b".."));
    names.sort();
    Ok(names)
}

#[test]
fn what_the_host_has_is_shown_and_links_are_not_followed() -> Result<()> {
    let scratch = Scratch::new("shown");
    fs::create_dir(scratch.0.join("d")).expect("mkdir");
    write(&scratch.0.join("d/f"), "hello");
    symlink("/etc", scratch.0.join("l")).expect("symlink");
    let root = scratch.mount(false, true);
    let file = root.child(b"d")?.child(b"f")?;
    assert_eq!(file.attributes()?.size, 5);
    assert_eq!(file.attributes()?.ino, fs::metadata(scratch.0.join("d/f")).expect("stat").ino());
    let link = root.child(b"l")?;
    assert_eq!(link.kind(), Kind::Symlink);
    assert!(matches!(link.read_link()?, LinkTarget::Text(text) if text == b"/etc"));
    assert_eq!(link.child(b"passwd").err(), Some(Errno::ENOTDIR));
    assert_eq!(root.child(b"..").err(), Some(Errno::EINVAL));
    assert_eq!(root.child(b"none").err(), Some(Errno::ENOENT));
    assert_eq!(names(root.clone())?, [&b"d"[..], b"l"]);
    assert_eq!(root.create(b"x", &new(NewKind::Regular, 0o644)).err(), Some(Errno::EROFS));
    Ok(())
}

#[test]
fn a_hard_link_is_the_same_inode_and_outlives_the_name_it_was_found_by() -> Result<()> {
    let scratch = Scratch::new("hard");
    write(&scratch.0.join("a"), "1234");
    fs::hard_link(scratch.0.join("a"), scratch.0.join("b")).expect("link");
    let root = scratch.mount(false, false);
    let (a, b) = (root.child(b"a")?, root.child(b"b")?);
    assert!(Arc::ptr_eq(&a, &b));
    root.unlink(b"b")?;
    assert_eq!(a.attributes()?.nlink, 1);
    assert!(a.open(raw::O_RDWR).is_ok());
    Ok(())
}

#[test]
fn a_file_made_without_write_permission_can_be_written_by_the_open_that_made_it() -> Result<()> {
    let scratch = Scratch::new("made");
    let root = scratch.mount(true, false);
    let file = root.create(b"object", &new(NewKind::Regular, 0o444))?;
    let open = file.clone().open(raw::O_WRONLY | raw::O_TRUNC)?;
    open.allocate(0, 0, 100)?;
    assert_eq!(open.attributes()?.size, 100);
    assert_eq!(fs::metadata(scratch.0.join("object")).expect("stat").permissions().mode() & 0o7777, 0o444);
    root.unlink(b"object")?;
    assert_eq!(file.attributes()?.nlink, 0, "a removed file has attributes while it is open");
    drop(open);
    assert_eq!(
        file.attributes()?.nlink,
        0,
        "and what it was like is remembered (O_PATH descriptors, inotify)"
    );
    Ok(())
}

#[test]
fn renamed_directories_keep_their_contents_reachable() -> Result<()> {
    let scratch = Scratch::new("rename");
    let root = scratch.mount(false, false);
    root.create(b"from", &new(NewKind::Directory, 0o755))?;
    let from = root.child(b"from")?;
    from.create(b"f", &new(NewKind::Regular, 0o600))?;
    let file = from.child(b"f")?;
    let parent: Arc<dyn Inode> = root.clone();
    root.rename(b"from", &parent, b"to", 0)?;
    from.close_kept();
    file.close_kept();
    assert_eq!(from.child(b"f")?.id(), file.id());
    assert!(file.clone().open(raw::O_RDWR).is_ok());
    file.set_attributes(&AttributeChange { mode: Some(0o640), size: Some(7), ..AttributeChange::default() })?;
    let now = fs::metadata(scratch.0.join("to/f")).expect("stat");
    assert_eq!((now.permissions().mode() & 0o7777, now.len()), (0o640, 7));
    assert_eq!(root.rmdir(b"to").err(), Some(Errno::ENOTEMPTY));
    Ok(())
}

#[test]
fn in_a_shared_tree_a_replaced_file_is_noticed() -> Result<()> {
    let scratch = Scratch::new("shared");
    write(&scratch.0.join("f"), "old");
    let root = scratch.mount(true, true);
    let file = root.child(b"f")?;
    assert!(file.revalidate(&*root, b"f", &mut None));
    write(&scratch.0.join("g"), "newer");
    fs::rename(scratch.0.join("g"), scratch.0.join("f")).expect("rename");
    assert!(!file.revalidate(&*root, b"f", &mut None));
    assert_eq!(root.child(b"f")?.attributes()?.size, 5);
    assert_eq!(file.open(raw::O_RDONLY).err(), Some(Errno::ESTALE));
    Ok(())
}

#[test]
fn in_a_shared_tree_a_remembered_file_is_opened_as_it_is_now() -> Result<()> {
    let scratch = Scratch::new("remembered");
    let path = scratch.0.join("f");
    write(&path, "old");
    let root = scratch.mount(true, false);
    let namespace = Namespace::new(root.clone(), MountOptions::default());
    let top = namespace.root().expect("a root");
    let fs = FsContext::new(namespace, top.clone(), top, 0o022);
    let files = TableUse::default();
    let owner = fs::metadata(&path).expect("stat");
    let opened = |uid: u32, flags| {
        let cred = Cred::new(uid, uid, Vec::new());
        // SAFETY: the test is its thread, and closes nothing.
        let files = unsafe { files.own() };
        let lookup = Lookup { fs: &fs, files, cred: &cred };
        let file = open(&lookup, raw::AT_FDCWD, b"/f", flags, 0, Resolve::empty())?;
        let attributes = file.ops.attributes()?;
        Ok((attributes.ino, attributes.size))
    };
    let (me, other) = (owner.uid(), owner.uid() + 1);
    assert_eq!(opened(me, raw::O_RDONLY), Ok((owner.ino(), 3)));
    assert_eq!(opened(other, raw::O_RDONLY), Ok((owner.ino(), 3)));
    // Without a change of the inode the remembered name is opened at once; who may is asked all the same.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(opened(other, raw::O_RDONLY), Err(Errno::EACCES));
    assert_eq!(opened(me, raw::O_RDONLY), Ok((owner.ino(), 3)));
    assert_eq!(opened(me, raw::O_RDONLY | raw::O_DIRECTORY), Err(Errno::ENOTDIR));
    // Another file of the same name, a link, a directory, nothing.
    write(&scratch.0.join("g"), "newer");
    let newer = fs::metadata(scratch.0.join("g")).expect("stat").ino();
    fs::rename(scratch.0.join("g"), &path).expect("rename");
    assert!(root.child(b"f")?.open_named(&*root, b"f", raw::O_RDONLY).is_some());
    assert_eq!(opened(me, raw::O_RDONLY), Ok((newer, 5)));
    fs::rename(&path, scratch.0.join("g")).expect("rename");
    symlink("g", &path).expect("symlink");
    assert_eq!(opened(me, raw::O_RDONLY), Ok((newer, 5)));
    assert_eq!(opened(me, raw::O_RDONLY | raw::O_NOFOLLOW), Err(Errno::ELOOP));
    fs::remove_file(&path).expect("unlink");
    fs::create_dir(&path).expect("mkdir");
    assert_eq!(opened(me, raw::O_WRONLY), Err(Errno::EISDIR));
    fs::remove_dir(&path).expect("rmdir");
    assert_eq!(opened(me, raw::O_RDONLY), Err(Errno::ENOENT));
    Ok(())
}

#[test]
fn an_inode_number_that_the_host_gives_out_again_is_another_inode() -> Result<()> {
    let scratch = Scratch::new("again");
    let path = scratch.0.join("l");
    symlink("old", &path).expect("symlink");
    let root = scratch.mount(true, false);
    let old = root.child(b"l")?;
    let users = (old.clone(), old.clone());
    root.unlink(b"l")?;
    // Most filesystems give it out at once.
    let again = (0..1000).any(|_| {
        symlink("newer", &path).expect("symlink");
        let same = fs::symlink_metadata(&path).expect("stat").ino() == old.id().1;
        if !same {
            fs::remove_file(&path).expect("unlink");
        }
        same
    });
    let text = |inode: &HostInode| match inode.read_link() {
        Ok(LinkTarget::Text(text)) => text,
        _ => Vec::new(),
    };
    assert_eq!(text(&old), b"old");
    if again {
        assert_eq!(text(&*root.child(b"l")?), b"newer");
    }
    drop(users);
    assert_eq!(old.attributes()?.nlink, 0);
    Ok(())
}

#[test]
fn a_listing_is_read_in_pieces_of_any_size() -> Result<()> {
    let scratch = Scratch::new("pieces");
    for number in 0..3000 {
        write(&scratch.0.join(std::format!("a file with a name of some length {number}")), "");
    }
    let root = scratch.mount(true, true);
    for room in [320, 4096, 32 << 10, 40_000, 100_000, usize::MAX] {
        let listing = root.clone().open(raw::O_RDONLY)?;
        for again in 0..2 {
            let (mut position, mut names) = (0, std::collections::BTreeSet::new());
            loop {
                let (before, mut left) = (names.len(), room);
                listing.read_dir(position, room, &mut |entry| {
                    let length = (19 + entry.name.len() + 1).next_multiple_of(8);
                    if length > left {
                        return false;
                    }
                    left -= length;
                    position = entry.next;
                    assert!(names.insert(entry.name.to_vec()), "a name twice, room {room}");
                    true
                })?;
                if names.len() == before {
                    break;
                }
            }
            assert_eq!(names.len(), 3002, "room {room}, time {again}");
        }
    }
    Ok(())
}

#[test]
fn pipes_sockets_and_files_without_a_name_are_made_and_devices_are_not() -> Result<()> {
    let scratch = Scratch::new("special");
    let root = scratch.mount(true, false);
    for (name, what, kind) in
        [(&b"pipe"[..], NewKind::Fifo, Kind::Fifo), (b"socket", NewKind::Socket, Kind::Socket)]
    {
        assert_eq!(root.create(name, &new(what, 0o640))?.kind(), kind);
        assert_eq!(root.lookup(name)?.attributes()?.mode & 0o7777, 0o640);
    }
    assert_eq!(root.lookup(b"socket")?.open(raw::O_RDWR).err(), Some(Errno::ENXIO));
    let device = NewKind::Device(Kind::CharDevice, 0x103);
    assert_eq!(root.create(b"device", &new(device, 0o600)).err(), Some(Errno::EPERM));
    let file = root.create_unnamed(&new(NewKind::Regular, 0o600))?;
    assert_eq!(file.attributes()?.nlink, 0);
    let open = file.clone().open(raw::O_RDWR)?;
    open.allocate(0, 0, 100)?;
    root.link(b"named", &file)?;
    assert_eq!((file.attributes()?.nlink, file.attributes()?.size), (1, 100));
    assert_eq!(root.lookup(b"named")?.attributes()?.ino, file.attributes()?.ino);
    Ok(())
}

#[test]
fn attributes_of_users_are_kept_on_the_host_and_others_are_not() -> Result<()> {
    let scratch = Scratch::new("xattr");
    let root = scratch.mount(true, false);
    let file = root.create(b"f", &new(NewKind::Regular, 0o600))?;
    match file.set_xattr(b"user.a", Some(b"1"), raw::XATTR_REPLACE) {
        // A filesystem without them (tmpfs before Linux 6.6).
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        other => assert_eq!(other.err(), Some(Errno::ENODATA)),
    }
    file.set_xattr(b"user.a", Some(b"1"), raw::XATTR_CREATE)?;
    assert_eq!((file.xattr(b"user.a")?, file.list_xattr()?), (b"1".to_vec(), b"user.a\0".to_vec()));
    root.set_xattr(b"user.b", Some(b""), 0)?;
    assert_eq!(root.list_xattr()?, b"user.b\0");
    for name in [&b"security.capability"[..], b"trusted.x", b"system.x"] {
        assert_eq!(file.set_xattr(name, Some(b"1"), 0).err(), Some(Errno::EOPNOTSUPP));
    }
    file.set_xattr(b"user.a", None, 0)?;
    assert_eq!(file.xattr(b"user.a").err(), Some(Errno::ENODATA));
    Ok(())
}
