//! Contents of files in real page frames, against a plain vector. A process of its own: it maps a kernel region.

use boundary::boot::{BOOT_MAGIC, BootConfig, BootFds, BootHeader, BootOptions, HostFacts, HostIds};
use boundary::layout::{FRAMES_OFFSET, HEAP_BOOT_BYTES, HEAP_OFFSET};
use boundary::process::Process;
use kernel::mm::Backing;
use kernel::uaccess::{Sink, Source};
use kernel::{boot, frames};
use linux_raw_sys::general as raw;
use std::sync::Once;
use trap_handler::{host, region};
use vfs::Errno;
use vfs::page_file::{PageFile, Quota, SIZE_MAX};

const BASE: u64 = 0x2000_0000_0000;
const FRAMES: u64 = 256 << 20;

/// Maps a heap with a boot page and some frames, and fills the frames with what must not be seen.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        region::set_base(BASE);
        host::map_anonymous_fixed(BASE + HEAP_OFFSET, HEAP_BOOT_BYTES, 3).expect("a boot page");
        host::map_anonymous_fixed(BASE + FRAMES_OFFSET, FRAMES, 3).expect("frames");
        let config = BootConfig {
            first: Process::default(),
            host_ids: HostIds::default(),
            hostname: String::new(),
            domainname: String::new(),
            mounts: vec![],
            filter: vec![],
            fds: BootFds {
                stdio: [-1; 3],
                root: -1,
                control: -1,
                log: -1,
                strace: -1,
                stats: -1,
                broker: -1,
                packet: -1,
                changes: -1,
                terminal: -1,
                heap: -1,
                frames: -1,
            },
            options: BootOptions {
                log_level: 0,
                memory_limit: FRAMES / 2,
                pids_limit: 1,
                container: false,
                held: false,
                sysctls: vec![],
                changes_with_data: false,
                host_xattrs: false,
                kernel_guard: false,
                patch_calls: false,
                terminal_size: [24, 80, 0, 0],
                host_loopback: false,
                host_pids: false,
            },
            interface: None,
            host: HostFacts {
                release: String::new(),
                version: String::new(),
                special_maps: vec![],
                vdso: 0,
                hwcap: 0,
                hwcap2: 0,
                minsigstksz: 0,
                cpus: vec![],
                cpuinfo: vec![],
                boottime_ns: 0,
                seed: [0; 32],
                gadget: (0, 0),
                text: (0, 0),
                token: 0,
                mmap_min_addr: 0,
            },
        };
        let bytes = postcard::to_allocvec(&config).expect("it encodes");
        let start = (BASE + HEAP_OFFSET) as *mut u8;
        let header = BootHeader { magic: BOOT_MAGIC, config_len: bytes.len() as u64, listener: 0 };
        // SAFETY: the boot page was just mapped, and only this thread knows of it.
        unsafe {
            start.cast::<BootHeader>().write(header);
            start.add(size_of::<BootHeader>()).copy_from(bytes.as_ptr(), bytes.len());
        }
        assert!(boot::load());
        frames::init();
        // Dirty frames of every order: whoever forgets to clear them is found out.
        for order in 0..=frames::MAX_ORDER {
            let runs: Vec<_> = (0..8).map(|_| frames::allocate_dirty(order).expect("room")).collect();
            for run in runs {
                let bytes = (run.pages() * 4096) as usize;
                // SAFETY: the run is ours.
                unsafe { (frames::address(run.first) as *mut u8).write_bytes(0xee, bytes) };
                frames::free(run);
            }
        }
    });
}

fn read(file: &PageFile, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xaa; length];
    let done = file.read(offset, &mut Sink::kernel(&mut bytes)).expect("it reads");
    bytes.truncate(done);
    bytes
}

fn write(file: &PageFile, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
    file.write(offset, &mut Source::kernel(bytes))
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn agree(file: &PageFile, model: &[u8], what: &str) {
    assert_eq!(file.size(), model.len() as u64, "{what}");
    let bytes = read(file, 0, model.len() + 100);
    if bytes != model {
        let at = bytes.iter().zip(model).position(|(one, other)| one != other);
        panic!("{what}: {} bytes, not {}; the first that differs is {at:?}", bytes.len(), model.len());
    }
}

fn change_at_random(seed: u64, largest: u64, mapped: bool, rounds: u64) {
    set_up();
    let quota = Quota::new(1 << 20);
    let file = PageFile::new(Some(quota.clone()));
    let mapping = mapped.then(|| file.mappable((0, 0, vec![])));
    let mut random = Random(seed);
    let mut model: Vec<u8> = Vec::new();
    for round in 0..rounds {
        let offset = random.below(largest);
        let longest = if random.below(8) == 0 { largest / 4 } else { 6000 };
        let length = 1 + random.below(longest);
        let end = (offset + length) as usize;
        let what = format!("seed {seed} round {round} at {offset} for {length}");
        match random.below(8) {
            0..=3 => {
                let bytes = vec![round as u8 | 1; length as usize];
                assert_eq!(write(&file, offset, &bytes), Ok(bytes.len()), "{what}");
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].copy_from_slice(&bytes);
            }
            4 => {
                file.truncate(offset).expect("it fits");
                model.resize(offset as usize, 0);
            }
            5 | 6 => {
                let punch = raw::FALLOC_FL_PUNCH_HOLE | raw::FALLOC_FL_KEEP_SIZE;
                let mode = if round % 2 == 0 { punch } else { raw::FALLOC_FL_ZERO_RANGE };
                file.allocate(mode, offset, length).expect("it fits");
                if mode != punch {
                    model.resize(model.len().max(end), 0);
                }
                let end = end.min(model.len());
                model[(offset as usize).min(end)..end].fill(0);
            }
            _ => {
                file.allocate(0, offset, length).expect("it fits");
                model.resize(model.len().max(end), 0);
            }
        }
        agree(&file, &model, &what);
        assert_eq!(file.size_and_blocks().1 / 8, quota.pages().1, "{what}");
    }
    drop(mapping);
    agree(&file, &model, "unmapped");
    drop(file);
    assert_eq!(quota.pages().1, 0);
}

#[test]
fn small_files_hold_what_was_written() {
    (1..6).for_each(|seed| change_at_random(seed, 40_000, false, 600));
}

#[test]
fn large_files_hold_what_was_written() {
    (6..8).for_each(|seed| change_at_random(seed, 12 << 20, false, 150));
}

#[test]
fn mapped_files_hold_what_was_written() {
    (8..10).for_each(|seed| change_at_random(seed, 1 << 20, true, 200));
}

#[test]
fn holes_are_found_and_read_as_zero() {
    set_up();
    let file = PageFile::new(None);
    write(&file, 1 << 30, b"end").expect("room");
    assert_eq!(read(&file, 12345, 10), [0; 10]);
    assert_eq!(file.seek(0, false), Ok(1 << 30));
    assert_eq!(file.seek(0, true), Ok(0));
    assert_eq!(file.seek(1 << 30, true), Ok((1 << 30) + 3));
    assert_eq!(file.seek((1 << 30) + 3, false), Err(Errno::ENXIO));
    assert_eq!(file.size_and_blocks().1, 8);
    assert_eq!(write(&file, SIZE_MAX, b"x"), Err(Errno::EFBIG));
    assert_eq!(file.truncate(SIZE_MAX + 1), Err(Errno::EFBIG));
}

#[test]
fn a_full_filesystem_takes_what_fits() {
    set_up();
    let quota = Quota::new(3);
    let file = PageFile::new(Some(quota.clone()));
    let done = write(&file, 0, &[7; 5 * 4096]).expect("a part");
    assert!(done == 3 * 4096 && file.size() == done as u64);
    assert_eq!(file.allocate(0, 0, 10 * 4096), Err(Errno::ENOSPC));
    file.truncate(0).expect("smaller");
    assert_eq!(quota.pages().1, 0);
    assert_eq!(write(&file, 0, b"again"), Ok(5));
}

#[test]
fn a_mapping_gets_frames_for_all_of_the_file_and_keeps_them() {
    set_up();
    let file = PageFile::new(None);
    write(&file, 0, &[1; 4096]).expect("room");
    file.truncate(100 * 4096 + 1).expect("room");
    let mapping = file.mappable((0, 0, vec![]));
    let mut page = 0;
    let mut first = None;
    while page < 101 {
        let piece = mapping.backing(page * 4096, (200 - page) * 4096, true, true).expect("frames");
        let Backing::Host { offset, length, .. } = piece else { panic!("{piece:?}") };
        first.get_or_insert(offset);
        page += length / 4096;
    }
    assert_eq!(page, 101);
    let beyond = mapping.backing(101 * 4096, 99 * 4096, true, true);
    assert_eq!(beyond, Ok(Backing::BeyondEnd { length: 99 * 4096 }));
    // Cut off and grown again: the same frames, and zero.
    file.truncate(0).expect("smaller");
    file.truncate(4096).expect("room");
    let again = mapping.backing(0, 4096, true, true);
    assert!(matches!(again, Ok(Backing::Host { offset, .. }) if Some(offset) == first));
    assert_eq!(read(&file, 0, 4096), [0; 4096]);
}
