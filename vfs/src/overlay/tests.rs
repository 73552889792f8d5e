//! Overlays over real directories. File contents need page frames, which only a sandbox has; names and attributes do not.

extern crate std;

use crate::acl;
use crate::attributes::AttributeChange;
use crate::host::tests::{Scratch, names};
use crate::inode::{AclMode, Inode, NewKind, NewNode};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use linux_raw_sys::general as raw;
use std::fs;

fn new(what: NewKind<'_>) -> NewNode<'_> {
    NewNode { what, mode: 0o755, uid: 5, gid: 6 }
}

fn overlay(scratch: &Scratch) -> Arc<dyn Inode> {
    for directory in ["d/sub", "empty"] {
        fs::create_dir_all(scratch.0.join(directory)).expect("mkdir");
    }
    for file in ["f", "d/one", "d/two"] {
        fs::write(scratch.0.join(file), file).expect("write");
    }
    fs::hard_link(scratch.0.join("f"), scratch.0.join("g")).expect("link");
    super::mount(scratch.mount(false, true)).expect("mounts")
}

#[test]
fn removed_names_are_hidden_and_the_lower_is_untouched() -> Result<()> {
    let scratch = Scratch::new("overlay-remove");
    let root = overlay(&scratch);
    let d = root.lookup(b"d")?;
    assert_eq!(root.rmdir(b"d").err(), Some(Errno::ENOTEMPTY));
    d.unlink(b"one")?;
    d.unlink(b"two")?;
    d.rmdir(b"sub")?;
    assert_eq!(names(d.clone())?, [&b""[..]; 0]);
    root.rmdir(b"d")?;
    assert_eq!(d.create(b"x", &new(NewKind::Regular)).err(), Some(Errno::ENOENT));
    root.create(b"d", &new(NewKind::Directory))?;
    let fresh = root.lookup(b"d")?;
    assert_eq!(fresh.lookup(b"one").err(), Some(Errno::ENOENT), "a directory made anew is opaque");
    assert_eq!(fresh.attributes()?.nlink, 2);
    root.rmdir(b"d")?;
    assert_eq!(root.lookup(b"d").err(), Some(Errno::ENOENT));
    assert!(scratch.0.join("d/one").exists());
    Ok(())
}

#[test]
fn changed_attributes_last_though_nobody_holds_the_inode_and_its_number_stays() -> Result<()> {
    let scratch = Scratch::new("overlay-attributes");
    let root = overlay(&scratch);
    let before = root.lookup(b"d")?.lookup(b"one")?.attributes()?;
    let change = AttributeChange { mode: Some(0o600), uid: Some(77), ..AttributeChange::default() };
    root.lookup(b"d")?.lookup(b"one")?.set_attributes(&change)?;
    let after = root.lookup(b"d")?.lookup(b"one")?.attributes()?;
    assert_eq!((after.mode & 0o7777, after.uid, after.ino, after.size), (0o600, 77, before.ino, 5));
    Ok(())
}

#[test]
fn hard_links_of_the_lower_stay_links() -> Result<()> {
    let scratch = Scratch::new("overlay-links");
    let root = overlay(&scratch);
    let (f, g) = (root.lookup(b"f")?, root.lookup(b"g")?);
    f.set_attributes(&AttributeChange { mode: Some(0o611), ..AttributeChange::default() })?;
    assert_eq!(g.attributes()?.mode & 0o7777, 0o611);
    root.unlink(b"f")?;
    assert_eq!(g.attributes()?.nlink, 1);
    root.link(b"h", &g)?;
    assert_eq!(root.lookup(b"h")?.attributes()?.nlink, 2);
    assert_eq!(root.link(b"g", &g).err(), Some(Errno::EEXIST));
    Ok(())
}

#[test]
fn merged_directories_can_be_renamed_with_what_was_changed_in_them() -> Result<()> {
    let scratch = Scratch::new("overlay-rename");
    let root = overlay(&scratch);
    let d = root.lookup(b"d")?;
    d.unlink(b"two")?;
    d.create(b"three", &new(NewKind::Symlink(b"target")))?;
    assert_eq!(root.rename(b"empty", &root, b"d", 0).err(), Some(Errno::ENOTEMPTY));
    root.rename(b"d", &root, b"empty", 0)?;
    drop(d);
    assert_eq!(root.lookup(b"d").err(), Some(Errno::ENOENT));
    assert_eq!(names(root.lookup(b"empty")?)?, [&b"one"[..], b"sub", b"three"]);
    assert_eq!(names(root.clone())?, [&b"empty"[..], b"f", b"g"]);
    root.rename(b"empty", &root, b"f", raw::RENAME_EXCHANGE)?;
    assert_eq!(root.lookup(b"f")?.lookup(b"sub")?.attributes()?.mode & raw::S_IFMT, raw::S_IFDIR);
    assert_eq!(root.rename(b"g", &root, b"f", raw::RENAME_NOREPLACE).err(), Some(Errno::EEXIST));
    // "g" and what is now "empty" are one file: nothing happens.
    root.rename(b"g", &root, b"empty", 0)?;
    assert_eq!(names(root.clone())?, [&b"empty"[..], b"f", b"g"]);
    Ok(())
}

#[test]
fn truncating_open_copies_nothing_and_old_readers_keep_the_lower() -> Result<()> {
    let scratch = Scratch::new("overlay-truncate");
    let root = overlay(&scratch);
    let reader = root.lookup(b"f")?.open(raw::O_RDONLY)?;
    let writer = root.lookup(b"f")?.open(raw::O_WRONLY | raw::O_TRUNC)?;
    assert_eq!(writer.attributes()?.size, 0);
    assert_eq!(root.lookup(b"g")?.attributes()?.size, 0);
    assert_eq!(reader.seek(0, 0, raw::SEEK_END)?, 1);
    writer.set_attributes(&AttributeChange { size: Some(1 << 30), ..AttributeChange::default() })?;
    assert_eq!(writer.seek(0, 0, raw::SEEK_HOLE)?, 0);
    assert_eq!(writer.seek(0, 0, raw::SEEK_DATA).err(), Some(Errno::ENXIO));
    Ok(())
}

#[test]
fn extended_attributes_are_kept_in_the_upper() -> Result<()> {
    let scratch = Scratch::new("overlay-xattr");
    let root = overlay(&scratch);
    let f = root.lookup(b"f")?;
    assert_eq!(f.xattr(b"user.a").err(), Some(Errno::ENODATA));
    assert_eq!(f.set_xattr(b"user.a", Some(b"1"), raw::XATTR_REPLACE).err(), Some(Errno::ENODATA));
    f.set_xattr(b"user.a", Some(b"1"), 0)?;
    assert_eq!(f.list_xattr()?, b"user.a\0");
    assert_eq!(f.set_xattr(b"system.other", Some(b""), 0).err(), Some(Errno::EOPNOTSUPP));
    Ok(())
}

#[test]
fn access_control_lists_are_kept_in_the_upper_and_follow_the_mode() -> Result<()> {
    let scratch = Scratch::new("overlay-acl");
    let root = overlay(&scratch);
    let f = root.lookup(b"f")?;
    assert!(f.keeps_acls());
    assert_eq!(f.xattr(acl::ACCESS).err(), Some(Errno::ENODATA));
    // Owner rw-, user 7 rwx, group r--, mask r-x, others ---.
    let list = |mask: u8| {
        let entry = |tag: u8, allowed: u8, id: u32| {
            let mut entry = vec![tag, 0, allowed, 0];
            entry.extend(id.to_le_bytes());
            entry
        };
        let none = u32::MAX;
        let entries =
            [entry(1, 6, none), entry(2, 7, 7), entry(4, 4, none), entry(16, mask, none), entry(32, 0, none)];
        [vec![2, 0, 0, 0], entries.concat()].concat()
    };
    f.set_acl(acl::ACCESS, Some(list(5)), &AclMode { permissions: Some(0o650), drop_set_gid: false })?;
    assert_eq!((f.owner()?.mode & 0o777, f.owner()?.acl), (0o650, true));
    assert_eq!(f.list_xattr()?, b"system.posix_acl_access\0");
    f.set_attributes(&AttributeChange { mode: Some(0o620), ..AttributeChange::default() })?;
    assert_eq!(f.xattr(acl::ACCESS)?, list(2));
    f.set_acl(acl::ACCESS, None, &AclMode::default())?;
    assert_eq!((f.owner()?.mode & 0o777, f.owner()?.acl), (0o620, false));
    Ok(())
}
