//! Overlays with both layers in real directories.

extern crate std;

use crate::attributes::AttributeChange;
use crate::host::tests::{Scratch, names};
use crate::inode::{Inode, NewKind, NewNode};
use crate::{Errno, Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

fn new(what: NewKind<'_>) -> NewNode<'_> {
    NewNode { what, mode: 0o755, uid: u32::MAX, gid: u32::MAX }
}

fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    for directory in ["lower/d/sub", "lower/empty", "upper"] {
        fs::create_dir_all(scratch.0.join(directory)).expect("mkdir");
    }
    for file in ["f", "d/one", "d/two"] {
        fs::write(scratch.0.join("lower").join(file), file).expect("write");
    }
    scratch
}

/// The overlay, as a sandbox that is just started has it.
fn mount(scratch: &Scratch) -> Result<Arc<dyn Inode>> {
    let tree = scratch.tree();
    super::mount(tree.mount(b"lower", false, true)?, tree.mount(b"upper", false, false)?)
}

fn sorted(directory: Arc<dyn Inode>) -> Result<Vec<String>> {
    let mut names: Vec<String> =
        names(directory)?.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

fn upper_names(scratch: &Scratch, directory: &str) -> Vec<String> {
    let entries = fs::read_dir(scratch.0.join("upper").join(directory)).expect("the upper");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_was_changed_is_in_the_upper_and_found_there_by_the_next_sandbox() -> Result<()> {
    let scratch = scratch("on-host-again");
    let root = mount(&scratch)?;
    let d = root.lookup(b"d")?;
    d.unlink(b"one")?;
    d.create(b"new", &new(NewKind::Symlink(b"text")))?;
    root.rmdir(b"empty")?;
    assert_eq!(upper_names(&scratch, ""), [".wh.empty", "d"]);
    assert_eq!(upper_names(&scratch, "d"), [".wh.one", "new"]);
    drop((d, root));
    let root = mount(&scratch)?;
    assert_eq!(sorted(root.clone())?, ["d", "f"]);
    assert_eq!(sorted(root.lookup(b"d")?)?, ["new", "sub", "two"]);
    assert_eq!(root.lookup(b".wh.empty").err(), Some(Errno::ENOENT));
    assert_eq!(root.create(b".wh.x", &new(NewKind::Regular)).err(), Some(Errno::EPERM));
    assert_eq!(fs::read(scratch.0.join("lower/d/one")).expect("read"), b"d/one");
    Ok(())
}

#[test]
fn a_directory_made_where_one_was_removed_is_opaque() -> Result<()> {
    let scratch = scratch("on-host-opaque");
    let root = mount(&scratch)?;
    let d = root.lookup(b"d")?;
    assert_eq!(root.rmdir(b"d").err(), Some(Errno::ENOTEMPTY));
    d.unlink(b"one")?;
    d.unlink(b"two")?;
    d.rmdir(b"sub")?;
    root.rmdir(b"d")?;
    assert_eq!(d.create(b"x", &new(NewKind::Regular)).err(), Some(Errno::ENOENT));
    root.create(b"d", &new(NewKind::Directory))?;
    drop((d, root));
    let root = mount(&scratch)?;
    let d = root.lookup(b"d")?;
    assert!(sorted(d.clone())?.is_empty());
    assert_eq!(d.lookup(b"one").err(), Some(Errno::ENOENT));
    assert_eq!(upper_names(&scratch, "d"), [".wh..wh..opq"]);
    d.create(b"one", &new(NewKind::Directory))?;
    assert_eq!(root.rmdir(b"d").err(), Some(Errno::ENOTEMPTY));
    d.rmdir(b"one")?;
    root.rmdir(b"d")?;
    assert_eq!(upper_names(&scratch, ""), [".wh.d"]);
    Ok(())
}

#[test]
fn copying_up_keeps_times_permissions_and_holes_and_the_number_stays() -> Result<()> {
    let scratch = scratch("on-host-copy");
    let path = scratch.0.join("lower/d/sparse");
    let file = fs::File::create(&path).expect("create");
    file.write_at(b"end", 8 << 20).expect("write");
    file.set_permissions(fs::Permissions::from_mode(0o4751)).expect("mode");
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(77, 5)).expect("times");
    drop(file);
    let root = mount(&scratch)?;
    let sparse = root.lookup(b"d")?.lookup(b"sparse")?;
    let before = sparse.attributes()?;
    sparse.set_attributes(&AttributeChange { uid: Some(before.uid), ..AttributeChange::default() })?;
    let after = sparse.attributes()?;
    assert_eq!(
        (after.dev, after.ino, after.mode, after.size),
        (before.dev, before.ino, before.mode & !0o6000, before.size)
    );
    drop(sparse);
    assert_eq!(root.lookup(b"d")?.lookup(b"sparse")?.attributes()?.ino, before.ino);
    let copy = fs::metadata(scratch.0.join("upper/d/sparse")).expect("copied");
    assert_eq!((copy.mode() & 0o7777, copy.mtime(), copy.mtime_nsec()), (0o751, 77, 5));
    assert!(copy.blocks() < 1024, "{} blocks", copy.blocks());
    let mut end = [0; 3];
    let copy = fs::File::open(scratch.0.join("upper/d/sparse")).expect("opens");
    copy.read_exact_at(&mut end, 8 << 20).expect("reads");
    assert_eq!((&end, upper_names(&scratch, "d")), (b"end", [String::from("sparse")].into()));
    Ok(())
}

#[test]
fn files_move_between_layers_and_directories_of_the_lower_do_not() -> Result<()> {
    let scratch = scratch("on-host-rename");
    let root = mount(&scratch)?;
    let d = root.lookup(b"d")?;
    root.rename(b"f", &d, b"one", 0)?;
    assert_eq!(fs::read(scratch.0.join("upper/d/one")).expect("read"), b"f");
    assert_eq!(sorted(root.clone())?, ["d", "empty"]);
    assert_eq!(root.rename(b"d", &root, b"e", 0).err(), Some(Errno::EXDEV));
    root.create(b"n", &new(NewKind::Directory))?.create(b"x", &new(NewKind::Regular))?;
    assert_eq!(root.rename(b"n", &root, b"d", 0).err(), Some(Errno::ENOTEMPTY));
    root.rename(b"n", &root, b"empty", 0)?;
    assert_eq!(sorted(root.lookup(b"empty")?)?, ["x"]);
    assert_eq!(upper_names(&scratch, "empty"), [".wh..wh..opq", "x"]);
    assert_eq!(d.rename(b"two", &d, b"one", raw::RENAME_NOREPLACE).err(), Some(Errno::EEXIST));
    d.rename(b"two", &d, b"one", raw::RENAME_EXCHANGE)?;
    assert_eq!(fs::read(scratch.0.join("upper/d/two")).expect("read"), b"f");
    assert_eq!(sorted(d)?, ["one", "sub", "two"]);
    drop(root);
    assert_eq!(sorted(mount(&scratch)?)?, ["d", "empty"]);
    Ok(())
}

#[test]
fn hard_links_of_the_upper_are_one_file() -> Result<()> {
    let scratch = scratch("on-host-links");
    let root = mount(&scratch)?;
    let f = root.lookup(b"f")?;
    root.link(b"g", &f)?;
    let (f, g) = (f.attributes()?, root.lookup(b"g")?.attributes()?);
    assert_eq!((f.ino, f.nlink, g.ino, g.nlink), (g.ino, 2, f.ino, 2));
    root.unlink(b"f")?;
    assert_eq!(root.lookup(b"g")?.attributes()?.nlink, 1);
    assert_eq!(upper_names(&scratch, ""), [".wh.f", "g"]);
    root.link(b"f", &root.lookup(b"g")?)?;
    assert_eq!(upper_names(&scratch, ""), ["f", "g"]);
    Ok(())
}
