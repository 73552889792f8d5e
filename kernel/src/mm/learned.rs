//! What the sandbox has learned about the call sites of files: how often they trapped, whether they can be rewritten, and how
//! the code around them looked, so that a later mapping of the same file starts rewritten.
//!
//! A file is known by device and inode number. Should another file have taken its place, the code does not look the same, and
//! nothing is rewritten.

use crate::sync::{BootCell, Mutex};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use hashbrown::HashMap;

/// Traps at a site, in whatever processes, before later mappings start rewritten: each then copies the page.
const THRESHOLD: u64 = 8;
/// Files and sites of one file at most; programs can make as many as they like, so all is forgotten when there are more.
const FILES: usize = 1024;
const SITES: usize = 512;

/// Bytes of code in front of the `syscall` that are looked at.
pub const BEFORE: u64 = 8;
/// Bytes of code from the `syscall` on that are looked at.
pub const AFTER: u64 = 16;
/// The code around a site.
pub type Code = [u8; (BEFORE + AFTER) as usize];

/// Device and inode number; zeros for code that is not a file's.
pub type FileId = (u64, u64);

#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// It has not trapped often enough.
    Open,
    /// It can be rewritten, where the code looks like this and calls this number.
    Rewritable(Code, u64),
    /// It has no shape that could be.
    Refused(&'static str),
}

#[derive(Debug)]
struct Site {
    traps: u64,
    verdict: Verdict,
}

#[derive(Default)]
struct File {
    path: Vec<u8>,
    sites: BTreeMap<u64, Site>,
}

/// A site that is to be rewritten wherever it is mapped.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Offset of its `syscall` in the file.
    pub offset: u64,
    /// The code around it.
    pub code: Code,
    /// The call's number.
    pub number: u64,
}

/// A site that stays a trap, for `--stats`.
#[derive(Debug, Clone)]
pub struct Unpatched {
    /// The file, empty for code that is not a file's.
    pub path: Vec<u8>,
    /// Offset of its `syscall` in the file, or its address.
    pub offset: u64,
    /// How often it trapped.
    pub traps: u64,
    /// Why.
    pub reason: &'static str,
}

#[derive(Default)]
struct Learned {
    /// Innermost lock but for the heap.
    files: Mutex<HashMap<FileId, File>>,
    /// Sites found that can be rewritten.
    found: AtomicU64,
}

static LEARNED: BootCell<Box<Learned>> = BootCell::new();

/// What is to be done about a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Leave,
    /// Look whether the site can be rewritten, and say so ([`found`], [`refused`]).
    Look,
    /// The site can be rewritten.
    Rewrite,
}

/// Sets up. Called once, at boot, unless code is to be left as it is.
pub fn init() {
    LEARNED.set(Box::default());
}

/// Whether code may be rewritten at all.
pub fn enabled() -> bool {
    LEARNED.get().is_some()
}

/// Notes a trap. `path` names the file when it is new.
pub fn trapped(id: FileId, offset: u64, path: &[u8]) -> Advice {
    let Some(learned) = LEARNED.get() else { return Advice::Leave };
    let mut files = learned.files.lock();
    if files.len() >= FILES && !files.contains_key(&id) {
        files.clear();
    }
    let file = files.entry(id).or_insert_with(|| File { path: path.into(), ..File::default() });
    if file.sites.len() >= SITES && !file.sites.contains_key(&offset) {
        file.sites.clear();
    }
    let site = file.sites.entry(offset).or_insert(Site { traps: 0, verdict: Verdict::Open });
    site.traps = site.traps.saturating_add(1);
    match site.verdict {
        Verdict::Open if site.traps.is_multiple_of(THRESHOLD) => Advice::Look,
        // The mapping is older than the verdict.
        Verdict::Rewritable(..) => Advice::Rewrite,
        Verdict::Open | Verdict::Refused(_) => Advice::Leave,
    }
}

fn decide(id: FileId, offset: u64, verdict: Verdict) {
    if let Some(learned) = LEARNED.get()
        && let Some(site) = learned.files.lock().get_mut(&id).and_then(|file| file.sites.get_mut(&offset))
        && matches!(site.verdict, Verdict::Open)
    {
        site.verdict = verdict;
    }
}

/// The site can be rewritten where its code looks like this.
pub fn found(id: FileId, site: Known) {
    decide(id, site.offset, Verdict::Rewritable(site.code, site.number));
    if let Some(learned) = LEARNED.get() {
        learned.found.fetch_add(1, Ordering::Relaxed);
    }
}

/// A number that changes when there is more to be known.
pub fn generation() -> u64 {
    LEARNED.get().map_or(0, |learned| learned.found.load(Ordering::Relaxed))
}

/// The site cannot be rewritten anywhere.
pub fn refused(id: FileId, offset: u64, reason: &'static str) {
    decide(id, offset, Verdict::Refused(reason));
}

/// The sites in `[start, end)` of a file that are to be rewritten.
pub fn known(id: FileId, start: u64, end: u64) -> Vec<Known> {
    let Some(learned) = LEARNED.get() else { return Vec::new() };
    let files = learned.files.lock();
    let Some(file) = files.get(&id) else { return Vec::new() };
    let site = |(&offset, site): (&u64, &Site)| match site.verdict {
        Verdict::Rewritable(code, number) => Some(Known { offset, code, number }),
        _ => None,
    };
    file.sites.range(start..end).filter_map(site).collect()
}

/// The sites that stay traps, those that trapped most first.
pub fn unpatched() -> Vec<Unpatched> {
    let Some(learned) = LEARNED.get() else { return Vec::new() };
    let mut all = Vec::new();
    for file in learned.files.lock().values() {
        for (&offset, site) in &file.sites {
            if let Verdict::Refused(reason) = site.verdict {
                all.push(Unpatched { path: file.path.clone(), offset, traps: site.traps, reason });
            }
        }
    }
    all.sort_by_key(|site| core::cmp::Reverse(site.traps));
    all
}
