//! Streams as the kernel sends them, and as a program that has taken it over might.

use super::*;
use boundary::changes::{MAX_DATA, MAX_RECORD};
use std::collections::BTreeMap;

fn record(change: &Change) -> Vec<u8> {
    let bytes = postcard::to_allocvec(change).expect("encodes");
    [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat()
}

fn node(path: &str, kind: NodeKind) -> Change {
    Change::Node(Node {
        path: path.into(),
        kind,
        fresh: true,
        linked: true,
        mode: 0o4750,
        uid: 3_000_000,
        gid: 7,
        mtime: (-2, 500_000_000),
        xattrs: vec![(b"user.a".to_vec(), b"1\0=".to_vec())],
    })
}

fn data(offset: u64, bytes: &[u8]) -> Vec<u8> {
    [record(&Change::Data { offset, length: bytes.len() as u32 }), bytes.to_vec()].concat()
}

/// What comes of a stream: the archive's file, if it was finished, and the outcome.
fn read(stream: &[u8], limit: u64) -> (tempfile::TempDir, anyhow::Result<Vec<String>>) {
    let directory = tempfile::tempdir().expect("a directory");
    let archive = directory.path().join("layer.tar");
    let listing = File::create(directory.path().join("list")).expect("a file");
    let wanted = Wanted::new(Some(listing.into()), Some(&archive), Some(limit)).expect("wanted");
    let outcome = wanted.read(stream);
    (directory, outcome)
}

#[test]
fn a_stream_becomes_a_layer() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let stream = [
        record(&node("dir", NodeKind::Directory)),
        record(&Change::Opaque { path: b"dir".to_vec() }),
        record(&Change::Whiteout { path: b"dir2/gone".to_vec() }),
        record(&node("dir/file", NodeKind::Regular(200_000))),
        data(100_000, b"middle"),
        data(150_000, b"end"),
        record(&Change::Link { path: b"dir/again".to_vec(), to: b"dir/file".to_vec(), fresh: false }),
        record(&node(&long, NodeKind::Symlink(b"../a//./b/".to_vec()))),
        record(&node("sock", NodeKind::Socket)),
        record(&node("null", NodeKind::Device)),
        record(&node("x/.wh.y", NodeKind::Regular(3))),
        data(0, b"abc"),
        record(&node("pipe", NodeKind::Fifo)),
        record(&Change::End),
    ]
    .concat();
    let (directory, outcome) = read(&stream, 1 << 20);
    assert_eq!(outcome.expect("is read").len(), 3);
    let list = std::fs::read_to_string(directory.path().join("list")).expect("a list");
    assert!(list.starts_with("A /dir\nO /dir\nD /dir2/gone\nA /dir/file\nC /dir/again\n"), "{list}");
    let mut archive = tar::Archive::new(File::open(directory.path().join("layer.tar")).expect("an archive"));
    let mut seen = BTreeMap::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("a path");
        let target = entry.link_name_bytes().map(|name| name.into_owned());
        let pax: Vec<(String, Vec<u8>)> = entry
            .pax_extensions()
            .expect("pax")
            .map(|extensions| {
                let pair = |extension: tar::PaxExtension<'_>| {
                    (extension.key().expect("a key").to_owned(), extension.value_bytes().to_vec())
                };
                extensions.map(|extension| pair(extension.expect("a record"))).collect()
            })
            .unwrap_or_default();
        let header = (entry.header().entry_type(), entry.header().mode().expect("mode"));
        let uid = entry.header().uid().expect("uid");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("contents");
        seen.insert(path, (header, uid, target, pax, bytes));
    }
    let paths: Vec<&str> = seen.keys().map(String::as_str).collect();
    let expected =
        ["dir/", "dir/.wh..wh..opq", "dir/again", "dir/file", "dir2/.wh.gone", "pipe", long.as_str()];
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(paths, expected);
    let (header, uid, _, pax, bytes) = &seen["dir/file"];
    assert_eq!((*header, *uid), ((tar::EntryType::Regular, 0o4750), 3_000_000));
    assert_eq!(pax[0], ("mtime".into(), b"-1.500000000".to_vec()));
    assert_eq!(pax[1], ("SCHILY.xattr.user.a".into(), b"1\0=".to_vec()));
    assert_eq!(bytes.len(), 200_000);
    assert_eq!((&bytes[100_000..100_007], &bytes[150_000..150_004]), (&b"middle\0"[..], &b"end\0"[..]));
    assert_eq!(seen["dir/again"].0, (tar::EntryType::Link, 0o4750));
    assert_eq!(seen["dir/again"].2.as_deref(), Some(&b"dir/file"[..]));
    assert_eq!(seen[&long].2.as_deref(), Some(&b"../a//./b/"[..]));
}

#[test]
fn hostile_streams_give_an_error_and_no_archive() {
    let end = record(&Change::End);
    let file = |path: &str| record(&node(path, NodeKind::Regular(10)));
    let whiteout = |path: &[u8]| record(&Change::Whiteout { path: path.to_vec() });
    let link = |to: &str| record(&Change::Link { path: b"l".to_vec(), to: to.into(), fresh: true });
    let hostile: Vec<Vec<u8>> = vec![
        Vec::new(),
        file("f"),
        [file("/etc/passwd"), end.clone()].concat(),
        [file("a/../b"), end.clone()].concat(),
        [file("a//b"), end.clone()].concat(),
        [file(""), end.clone()].concat(),
        [file(&"x".repeat(256)), end.clone()].concat(),
        [whiteout(b".."), end.clone()].concat(),
        [whiteout(b"a\0b"), end.clone()].concat(),
        [record(&Change::Opaque { path: b"d".to_vec() }), end.clone()].concat(),
        [data(0, b"x"), end.clone()].concat(),
        [file("f"), data(8, b"xyz"), end.clone()].concat(),
        [file("f"), data(u64::MAX, b"xyz"), end.clone()].concat(),
        [file("f"), data(4, b"x"), data(2, b"x"), end.clone()].concat(),
        [file("f"), record(&Change::Data { offset: 0, length: MAX_DATA + 1 }), end.clone()].concat(),
        [link("f"), end.clone()].concat(),
        [file("f"), link("../f"), end.clone()].concat(),
        [record(&node("big", NodeKind::Regular(u64::MAX))), end.clone()].concat(),
        [record(&node("l", NodeKind::Symlink(b"a\0".to_vec()))), end.clone()].concat(),
        ((MAX_RECORD + 1) as u32).to_le_bytes().to_vec(),
        [&3u32.to_le_bytes()[..], &[0xff; 3]].concat(),
        [file("f"), data(0, &[1; 10]), vec![1; 4096]].concat(),
    ];
    for (index, stream) in hostile.iter().enumerate() {
        let (directory, outcome) = read(stream, 1 << 20);
        assert!(outcome.is_err(), "stream {index}");
        let left: Vec<_> = std::fs::read_dir(directory.path()).expect("a directory").collect();
        assert_eq!(left.len(), 1, "stream {index}: only the list is there");
    }
}

#[test]
fn what_the_sandbox_sends_is_bounded() {
    let stream =
        [record(&node("f", NodeKind::Regular(60_000))), data(0, &[7; 60_000]), record(&Change::End)].concat();
    assert!(read(&stream, 1 << 20).1.is_ok());
    assert!(read(&stream, 50_000).1.is_err());
}

#[test]
fn random_streams_never_panic() {
    let good = [
        record(&node("d", NodeKind::Directory)),
        record(&Change::Opaque { path: b"d".to_vec() }),
        record(&node("d/f", NodeKind::Regular(9))),
        data(3, b"abc"),
        record(&Change::End),
    ]
    .concat();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        let wanted = Wanted { limit: 1 << 20, ..Wanted::default() };
        let _ = wanted.read(&bytes[..]);
    }
}

#[test]
fn names_stay_on_their_line() {
    assert_eq!(shown(b"a\nb\x1b[31m\\"), "a\\nb\\u{1b}[31m\\\\");
}

#[test]
fn holes_of_a_file_are_holes_of_the_archive() {
    use std::os::unix::fs::MetadataExt;
    let stream = [record(&node("f", NodeKind::Regular(1 << 30))), record(&Change::End)].concat();
    let (directory, outcome) = read(&stream, 1 << 20);
    outcome.expect("is read");
    let metadata = directory.path().join("layer.tar").metadata().expect("an archive");
    assert!(metadata.len() > 1 << 30 && metadata.blocks() < 1000, "{} blocks", metadata.blocks());
}
