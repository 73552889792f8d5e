//! The tree as a whole, on filesystems in memory.

use super::*;
use crate::attributes::Kind;
use crate::file::FileRef;
use crate::table::TableUse;
use crate::tmpfs;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;

const HERE: i32 = raw::AT_FDCWD;

struct World {
    fs: Arc<FsContext>,
    files: TableUse,
    cred: Cred,
}

impl World {
    fn new() -> World {
        let root = tmpfs::mount(1 << 20, 0o755, (0, 0)).expect("a filesystem");
        let namespace = Namespace::new(root, MountOptions::default());
        let root = namespace.root().expect("a root");
        let fs = FsContext::new(namespace, root.clone(), root, 0o022);
        World { fs, files: TableUse::default(), cred: Cred::new(0, 0, Vec::new()) }
    }

    fn as_user(&self, uid: u32) -> World {
        World { fs: self.fs.clone(), files: TableUse::default(), cred: Cred::new(uid, uid, Vec::new()) }
    }

    fn lookup(&self) -> Lookup<'_> {
        // SAFETY: the test is its thread, and closes nothing.
        let files = unsafe { self.files.own() };
        Lookup { fs: &self.fs, files, cred: &self.cred }
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        make_directory(&self.lookup(), HERE, path.as_bytes(), 0o777)
    }

    fn open(&self, path: &str, flags: u32) -> Result<FileRef> {
        open(&self.lookup(), HERE, path.as_bytes(), flags, 0o666, Resolve::empty())
    }

    fn touch(&self, path: &str) -> Result<()> {
        self.open(path, raw::O_CREAT | raw::O_WRONLY).map(drop)
    }

    fn symlink(&self, text: &str, path: &str) -> Result<()> {
        symlink(&self.lookup(), text.as_bytes(), HERE, path.as_bytes())
    }

    fn rename(&self, from: &str, to: &str, flags: u32) -> Result<()> {
        rename(&self.lookup(), HERE, from.as_bytes(), HERE, to.as_bytes(), flags)
    }

    fn unlink(&self, path: &str) -> Result<()> {
        unlink(&self.lookup(), HERE, path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        remove_directory(&self.lookup(), HERE, path.as_bytes())
    }

    fn walk(&self, path: &str, flags: WalkFlags, how: Resolve) -> Result<Path> {
        resolve(&self.lookup(), HERE, path.as_bytes(), flags, how)
    }

    fn find(&self, path: &str) -> Result<Path> {
        self.walk(path, WalkFlags::FOLLOW, Resolve::empty())
    }

    fn text(&self, path: &str) -> Result<String> {
        let text = self.find(path)?.text(&self.fs.root());
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn mount(&self, at: &str, flags: MountFlags) -> Result<Arc<Mount>> {
        let root = tmpfs::mount(1 << 20, 0o755, (0, 0))?;
        let options = MountOptions { flags, ..MountOptions::default() };
        self.fs.namespace().mount(root, &self.find(at)?, options)
    }
}

#[test]
fn paths_lead_where_linux_leads_them() {
    let world = World::new();
    world.mkdir("/a").expect("new");
    world.mkdir("/a/b/").expect("a slash is fine for a directory");
    world.touch("/a/b/f").expect("new");
    for (path, text) in [
        ("/", "/"),
        ("//a/.//b/", "/a/b"),
        ("a/b/../b/f", "/a/b/f"),
        ("/../../a", "/a"),
        ("/a/b/.", "/a/b"),
        ("..", "/"),
    ] {
        assert_eq!(world.text(path).as_deref(), Ok(text), "{path}");
    }
    for (path, errno) in [
        ("", Errno::ENOENT),
        ("/a/c", Errno::ENOENT),
        ("/a/c/", Errno::ENOENT),
        ("/a/b/f/", Errno::ENOTDIR),
        ("/a/b/f/x", Errno::ENOTDIR),
        ("/a/b/f/..", Errno::ENOTDIR),
    ] {
        assert_eq!(world.text(path), Err(errno), "{path}");
    }
    assert_eq!(world.text(&"x".repeat(255)), Err(Errno::ENOENT));
    assert_eq!(world.text(&"x".repeat(256)), Err(Errno::ENAMETOOLONG));
    assert_eq!(world.text(&"/".repeat(4096)), Err(Errno::ENAMETOOLONG));
    assert_eq!(world.text(&"/".repeat(4095)).as_deref(), Ok("/"));
}

#[test]
fn symbolic_links_are_followed_forty_times() {
    let world = World::new();
    world.mkdir("/d").expect("new");
    world.touch("/d/f").expect("new");
    world.symlink("d/", "/dir").expect("new");
    world.symlink("/d/f", "/file").expect("new");
    world.symlink("loop", "/loop").expect("new");
    assert_eq!(world.text("/dir/f").as_deref(), Ok("/d/f"));
    assert_eq!(world.text("/dir/../dir/.").as_deref(), Ok("/d"));
    assert_eq!(world.text("/file/"), Err(Errno::ENOTDIR));
    assert_eq!(world.text("/loop"), Err(Errno::ELOOP));
    let last = world.walk("/dir", WalkFlags::empty(), Resolve::empty()).map(|path| path.dentry.kind());
    assert_eq!(last, Ok(Kind::Symlink));
    let slash = world.walk("/dir/", WalkFlags::empty(), Resolve::empty()).map(|path| path.dentry.kind());
    assert_eq!(slash, Ok(Kind::Directory));
    world.symlink("d", "/l0").expect("new");
    for index in 1..=40 {
        world.symlink(&format!("l{}", index - 1), &format!("/l{index}")).expect("new");
    }
    assert_eq!(world.text("/l39").as_deref(), Ok("/d"));
    assert_eq!(world.text("/l40"), Err(Errno::ELOOP));
    // A link whose text ends in a slash asks for a directory, a dangling one is where O_CREAT makes the file.
    world.symlink("d/f/", "/bad").expect("new");
    assert_eq!(world.text("/bad"), Err(Errno::ENOTDIR));
    world.symlink("d/new", "/dangling").expect("new");
    assert!(world.touch("/dangling").is_ok());
    assert_eq!(world.text("/dangling").as_deref(), Ok("/d/new"));
    let exclusive = world.open("/dangling", raw::O_CREAT | raw::O_EXCL | raw::O_RDWR);
    assert_eq!(exclusive.err(), Some(Errno::EEXIST));
    assert_eq!(world.open("/file", raw::O_NOFOLLOW).err(), Some(Errno::ELOOP));
    assert!(world.open("/file", raw::O_NOFOLLOW | raw::O_PATH).is_ok());
}

#[test]
fn openat2_keeps_walks_where_they_are_told_to_stay() {
    let world = World::new();
    for directory in ["/base", "/base/in", "/out"] {
        world.mkdir(directory).expect("new");
    }
    world.symlink("/out", "/base/abs").expect("new");
    world.symlink("..", "/base/up").expect("new");
    world.mkdir("/base/out").expect("new");
    world.fs.set_cwd(world.find("/base").expect("made"));
    let walk = |path, how| world.walk(path, WalkFlags::FOLLOW, how).map(|path| path.text(&world.fs.root()));
    assert_eq!(walk("..", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(walk("abs", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(walk("/base", Resolve::BENEATH), Err(Errno::EXDEV));
    assert_eq!(walk("in/../in", Resolve::BENEATH), Ok(b"/base/in".to_vec()));
    assert_eq!(walk("abs", Resolve::IN_ROOT), Ok(b"/base/out".to_vec()));
    assert_eq!(walk("up/up/..", Resolve::IN_ROOT), Ok(b"/base".to_vec()));
    assert_eq!(walk("abs", Resolve::NO_SYMLINKS), Err(Errno::ELOOP));
    world.mount("/base/in", MountFlags::empty()).expect("mounted");
    assert_eq!(walk("in", Resolve::NO_XDEV), Err(Errno::EXDEV));
    assert_eq!(walk("never-seen", Resolve::CACHED), Err(Errno::EAGAIN));
    assert!(walk("out", Resolve::CACHED).is_ok());
}

#[test]
fn mounts_cover_what_they_are_on_and_dot_dot_leads_out() {
    let world = World::new();
    world.mkdir("/m").expect("new");
    world.touch("/m/below").expect("new");
    world.mount("/m", MountFlags::empty()).expect("mounted");
    assert_eq!(world.text("/m/below"), Err(Errno::ENOENT));
    world.mkdir("/m/inner").expect("new");
    assert_eq!(world.text("/m/inner/../..").as_deref(), Ok("/"));
    assert_eq!(world.text("/m/inner").as_deref(), Ok("/m/inner"));
    assert_eq!(world.rmdir("/m"), Err(Errno::EBUSY));
    assert_eq!(world.rename("/m/inner", "/moved", 0), Err(Errno::EXDEV));
    // Another one over it.
    world.mount("/m", MountFlags::READ_ONLY).expect("mounted");
    assert_eq!(world.mkdir("/m/x"), Err(Errno::EROFS));
    assert_eq!(world.text("/m/..").as_deref(), Ok("/"));
    let umount = |detach| world.fs.namespace().umount(world.find("/m").expect("there"), detach);
    assert_eq!(umount(false), Ok(()));
    assert_eq!(world.text("/m/inner").as_deref(), Ok("/m/inner"));
    let held = world.find("/m/inner").expect("there");
    assert_eq!(umount(false), Err(Errno::EBUSY));
    assert_eq!(umount(true), Ok(()));
    assert_eq!(held.cwd_text(&world.fs.root()).as_deref(), Some(&b"(unreachable)/inner"[..]));
    assert_eq!(world.text("/m/below").as_deref(), Ok("/m/below"));
    assert_eq!(world.fs.namespace().list(&world.fs.root()).len(), 1);
}

#[test]
fn bind_mounts_show_the_same_files_elsewhere() {
    let world = World::new();
    for directory in ["/src", "/src/sub", "/dst"] {
        world.mkdir(directory).expect("new");
    }
    let (from, to) = (world.find("/src").expect("made"), world.find("/dst").expect("made"));
    world.fs.namespace().bind(&from, &to, false).expect("mounted");
    world.touch("/dst/sub/f").expect("new");
    assert_eq!(world.text("/src/sub/f").as_deref(), Ok("/src/sub/f"));
    assert_eq!(world.text("/dst/sub/f").as_deref(), Ok("/dst/sub/f"));
    assert_eq!(world.text("/dst/sub/../..").as_deref(), Ok("/"));
    let list = world.fs.namespace().list(&world.fs.root());
    let bound = list.iter().find(|info| info.target == b"/dst").expect("listed");
    assert_eq!((bound.root.as_slice(), bound.parent_id), (&b"/src"[..], 1));
}

#[test]
fn a_renamed_directory_takes_its_names_along() {
    let world = World::new();
    for directory in ["/a", "/a/b", "/a/b/c", "/z"] {
        world.mkdir(directory).expect("new");
    }
    let inside = world.find("/a/b/c").expect("made");
    assert_eq!(world.rename("/a/b", "/a/b/c/d", 0), Err(Errno::EINVAL));
    assert_eq!(world.rename("/a/b/c", "/a", 0), Err(Errno::ENOTEMPTY));
    world.rename("/a/b", "/z/b", 0).expect("moved");
    assert_eq!(inside.text(&world.fs.root()), b"/z/b/c");
    assert_eq!(world.text("/z/b/c/../..").as_deref(), Ok("/z"));
    assert_eq!(world.text("/a/b"), Err(Errno::ENOENT));
    world.touch("/a/f").expect("new");
    world.rename("/a/f", "/z", raw::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!(inside.text(&world.fs.root()), b"/a/f/b/c");
    assert_eq!(world.find("/z").map(|path| path.dentry.kind()), Ok(Kind::Regular));
    assert_eq!(world.rename("/z", "/a", 0), Err(Errno::EISDIR));
    assert_eq!(world.rename("/a", "/z", 0), Err(Errno::ENOTDIR));
    assert_eq!(world.rename("/z", "/a", raw::RENAME_NOREPLACE), Err(Errno::EEXIST));
    let nlink = |path| world.find(path).and_then(|path| path.inode().attributes()).map(|told| told.nlink);
    assert_eq!((nlink("/"), nlink("/a"), nlink("/a/f/b")), (Ok(3), Ok(3), Ok(3)));
}

#[test]
fn removed_names_are_gone_but_open_files_stay() {
    let world = World::new();
    world.mkdir("/d").expect("new");
    let file = world.open("/d/f", raw::O_CREAT | raw::O_RDWR).expect("new");
    assert_eq!(world.rmdir("/d"), Err(Errno::ENOTEMPTY));
    assert_eq!(world.rmdir("/d/f"), Err(Errno::ENOTDIR));
    assert_eq!(world.unlink("/d/f/"), Err(Errno::ENOTDIR));
    assert_eq!(world.unlink("/d"), Err(Errno::EISDIR));
    world.unlink("/d/f").expect("there");
    let path = file.path.as_ref().expect("it has a place");
    assert_eq!(path.text(&world.fs.root()), b"/d/f (deleted)");
    assert_eq!(path.inode().attributes().map(|told| told.nlink), Ok(0));
    world.fs.set_cwd(world.find("/d").expect("there"));
    assert_eq!(world.rmdir("/d/."), Err(Errno::EINVAL));
    world.rmdir("/d").expect("empty");
    assert_eq!(world.touch("f"), Err(Errno::ENOENT));
    assert_eq!(working_directory(&world.lookup()), Err(Errno::ENOENT));
    assert_eq!(world.text("..").as_deref(), Ok("/"));
}

#[test]
fn permissions_decide_on_the_way_and_at_the_end() {
    let world = World::new();
    world.mkdir("/tmp").expect("new");
    let mode = |path: &str, mode| {
        change_mode(&world.lookup(), &Target::Place(world.find(path).expect("made")), mode).expect("root may")
    };
    mode("/tmp", 0o1777);
    let (one, two) = (world.as_user(1), world.as_user(2));
    assert_eq!(one.mkdir("/home"), Err(Errno::EACCES));
    one.mkdir("/tmp/own").expect("everyone may");
    one.touch("/tmp/own/f").expect("its own");
    assert_eq!(two.unlink("/tmp/own/f"), Err(Errno::EACCES));
    assert_eq!(two.rename("/tmp/own", "/tmp/mine", 0), Err(Errno::EPERM));
    assert_eq!(two.open("/tmp/own/f", raw::O_RDWR).err(), Some(Errno::EACCES));
    assert!(two.open("/tmp/own/f", raw::O_RDONLY).is_ok());
    mode("/tmp/own", 0o700);
    assert_eq!(two.open("/tmp/own/f", raw::O_RDONLY).err(), Some(Errno::EACCES));
    assert_eq!(access(&two.lookup(), HERE, b"/tmp/own", 4, 0), Err(Errno::EACCES));
    assert_eq!(access(&two.lookup(), HERE, b"/tmp/own", 0, 0), Ok(()));
    let own = Target::Place(world.find("/tmp/own").expect("made"));
    assert_eq!(change_owner(&two.lookup(), &own, Some(2), None), Err(Errno::EPERM));
    assert_eq!(change_mode(&two.lookup(), &own, 0o777), Err(Errno::EPERM));
}

#[test]
fn unnamed_files_get_a_name_by_linking() {
    let world = World::new();
    let file = world.open("/", raw::O_TMPFILE | raw::O_RDWR).expect("made");
    let fd = world.lookup().files.insert(file, false, 16).expect("room");
    link(&world.lookup(), fd, b"", HERE, b"/named", raw::AT_EMPTY_PATH).expect("linked");
    assert_eq!(status(&Target::Place(world.find("/named").expect("there"))).map(|told| told.nlink), Ok(1));
    world.unlink("/named").expect("there");
    let kept = world.open("/", raw::O_TMPFILE | raw::O_RDWR | raw::O_EXCL).expect("made");
    let fd = world.lookup().files.insert(kept, false, 16).expect("room");
    let refused = link(&world.lookup(), fd, b"", HERE, b"/named", raw::AT_EMPTY_PATH);
    assert_eq!(refused, Err(Errno::ENOENT));
}

#[test]
fn the_cache_of_names_is_bounded() {
    let world = World::new();
    world.mkdir("/d").expect("new");
    for index in 0..3 * dentry::cached_names() {
        assert_eq!(world.text(&format!("/d/{index}")), Err(Errno::ENOENT));
    }
    let directory = world.find("/d").expect("there").dentry;
    assert!(directory.tree().cache.len() <= dentry::cached_names() + 8);
    assert!(directory.known_names() <= dentry::cached_names() + 8);
    world.touch("/d/5").expect("new");
    assert!(world.find("/d/5").is_ok());
}
