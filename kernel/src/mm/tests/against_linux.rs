//! The same calls to an [`AddressSpace`] in one window of this process and to the host kernel in another: results, the
//! record and what the host has mapped must agree.

extern crate std;

use super::HostFile;
use crate::Errno;
use crate::mm::{AddressSpace, Area, AreaFlags, AreaMap, FileToMap, Limits, MapRequest, Prot};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::PAGE_SIZE;
use linux_raw_sys::general as raw;
use proptest::prelude::*;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

const WINDOW: u64 = 48;
const OURS: u64 = 0x1000_0000_0000;
const LINUX: u64 = 0x1100_0000_0000;

/// Windows are the same for all tests here.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Debug, Clone)]
enum Call {
    Map { page: u64, length: u64, prot: u32, how: u32, file: u8, offset: u64 },
    Unmap { page: u64, length: u64 },
    Protect { page: u64, length: u64, prot: u32 },
    Remap { page: u64, length: u64, new_length: u64, how: u32, target: u64 },
    Advise { page: u64, length: u64, advice: u32 },
    Sync { page: u64, length: u64 },
    Touch { page: u64 },
}

fn call() -> impl Strategy<Value = Call> {
    let range = (0..WINDOW - 8, 1..7 * PAGE_SIZE);
    let how = prop_oneof![Just(raw::MAP_FIXED), Just(raw::MAP_FIXED_NOREPLACE)];
    let remap = prop_oneof![
        Just(0),
        Just(raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED),
        Just(raw::MREMAP_MAYMOVE | raw::MREMAP_FIXED | raw::MREMAP_DONTUNMAP),
        Just(raw::MREMAP_FIXED),
    ];
    let advice = prop_oneof![
        Just(raw::MADV_DONTNEED),
        Just(raw::MADV_FREE),
        Just(raw::MADV_DONTFORK),
        Just(raw::MADV_DOFORK),
        Just(raw::MADV_WIPEONFORK),
        Just(raw::MADV_KEEPONFORK),
        Just(raw::MADV_POPULATE_READ),
        Just(raw::MADV_POPULATE_WRITE),
        Just(raw::MADV_WILLNEED),
        Just(999),
    ];
    let prot = prop_oneof![Just(0), Just(1), Just(3), Just(5), Just(7)];
    prop_oneof![
        4 => (range.clone(), prot.clone(), how, 0..5u8, 0..4u64).prop_map(
            |((page, length), prot, how, file, offset)| Call::Map {
                page, length, prot, how, file, offset: offset * PAGE_SIZE
            }
        ),
        2 => range.clone().prop_map(|(page, length)| Call::Unmap { page, length }),
        3 => (range.clone(), prot).prop_map(|((page, length), prot)| Call::Protect { page, length, prot }),
        3 => (range.clone(), 0..7 * PAGE_SIZE, remap, 0..WINDOW - 8).prop_map(
            |((page, length), new_length, how, target)| Call::Remap { page, length, new_length, how, target }
        ),
        2 => (range.clone(), advice).prop_map(|((page, length), advice)| Call::Advise { page, length, advice }),
        1 => range.clone().prop_map(|(page, length)| Call::Sync { page, length }),
        2 => (0..WINDOW).prop_map(|page| Call::Touch { page }),
    ]
}

fn host(number: u32, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the calls made here change this test's windows only.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") i64::from(number) => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
            in("r9") args[5], lateout("rcx") _, lateout("r11") _);
    }
    result
}

fn as_result(result: crate::Result<u64>) -> i64 {
    result.map_or_else(Errno::as_result, |value| value as i64)
}

/// `start end prot sharing offset` of what the host has mapped in a window, with neighbours of a kind together.
fn host_areas(window: u64) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let end = window + WINDOW * PAGE_SIZE;
    let mut areas = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, access, offset) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (number(from), number(to));
        if from >= window && to <= end {
            let file = words.nth(1) != Some("0");
            areas.push((from - window, to - window, access.to_string(), file.then(|| number(offset))));
        }
    }
    together(areas)
}

type Piece = (u64, u64, String, Option<u64>);

fn together(areas: Vec<Piece>) -> Vec<String> {
    let mut joined: Vec<Piece> = Vec::new();
    for area in areas {
        if let Some(last) = joined.last_mut()
            && last.1 == area.0
            && last.2 == area.2
            && last.3.map(|offset| offset + last.1 - last.0) == area.3
        {
            last.1 = area.1;
            continue;
        }
        joined.push(area);
    }
    joined.iter().map(|area| format!("{area:x?}")).collect()
}

fn recorded_areas(space: &AddressSpace) -> Vec<String> {
    let areas =
        space.areas().into_iter().filter(|area| area.start < OURS + WINDOW * PAGE_SIZE && area.start >= OURS);
    together(
        areas
            .map(|area| {
                let access = String::from_utf8_lossy(&area.access()).to_string();
                let file = !area.name.is_empty();
                (area.start - OURS, area.end - OURS, access, file.then_some(area.offset))
            })
            .collect(),
    )
}

struct Pair {
    space: AddressSpace,
    files: Vec<std::fs::File>,
    file: [Arc<HostFile>; 2],
}

impl Pair {
    fn new() -> Pair {
        let path = std::env::temp_dir().join(format!("mm-test-{}", std::process::id()));
        let mut written =
            std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
        written.write_all(&[7; 12 * 4096]).unwrap();
        let read = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for window in [OURS, LINUX] {
            host(raw::__NR_munmap, [window, WINDOW * PAGE_SIZE, 0, 0, 0, 0]);
        }
        // Areas around the window, so that nothing is ever placed outside or grows out of it.
        let mut map = AreaMap::new((0, 1 << 39), OURS + WINDOW * PAGE_SIZE);
        map.insert(OURS - PAGE_SIZE, Area::anonymous(OURS, Prot::empty(), AreaFlags::DONT_DUMP));
        let end = OURS + WINDOW * PAGE_SIZE;
        map.insert(end, Area::anonymous(end + PAGE_SIZE, Prot::empty(), AreaFlags::DONT_DUMP));
        let file = [Arc::new(HostFile(written.as_raw_fd())), Arc::new(HostFile(read.as_raw_fd()))];
        Pair { space: AddressSpace::with(map), files: Vec::from([written, read]), file }
    }

    /// Makes the call in both windows; both results, as offsets in the window where they are addresses.
    fn make(&self, call: &Call) -> (i64, i64) {
        let limits = Limits::NONE;
        let ours = |page: u64| OURS + page * PAGE_SIZE;
        let linux = |page: u64| LINUX + page * PAGE_SIZE;
        let shift = |result: i64, window: u64| if result > 0 { result - window as i64 } else { result };
        match *call {
            Call::Map { page, length, prot, how, file, offset } => {
                let sharing = if file < 3 { raw::MAP_PRIVATE } else { raw::MAP_SHARED };
                let which = usize::from(file == 1 || file == 4);
                let (kind, fd) =
                    if file == 0 { (raw::MAP_ANONYMOUS, -1) } else { (0, self.files[which].as_raw_fd()) };
                let flags = sharing | kind | how;
                let mapped = (file != 0).then(|| FileToMap {
                    file: self.file[which].clone(),
                    readable: true,
                    writable: which == 0,
                    executable: true,
                });
                let request = MapRequest { address: ours(page), length, prot, flags, file: mapped, offset };
                let mine = self.space.mmap(&request, &limits);
                let args = [linux(page), length, prot.into(), flags.into(), fd as i64 as u64, offset];
                (shift(as_result(mine), OURS), shift(host(raw::__NR_mmap, args), LINUX))
            }
            Call::Unmap { page, length } => (
                as_result(self.space.munmap(ours(page), length).map(|()| 0)),
                host(raw::__NR_munmap, [linux(page), length, 0, 0, 0, 0]),
            ),
            Call::Protect { page, length, prot } => (
                as_result(self.space.mprotect(ours(page), length, prot, &limits).map(|()| 0)),
                host(raw::__NR_mprotect, [linux(page), length, prot.into(), 0, 0, 0]),
            ),
            Call::Remap { page, length, new_length, how, target } => {
                let mine = self.space.mremap(ours(page), length, new_length, how, ours(target), &limits);
                let args = [linux(page), length, new_length, how.into(), linux(target), 0];
                (shift(as_result(mine), OURS), shift(host(raw::__NR_mremap, args), LINUX))
            }
            Call::Advise { page, length, advice } => (
                as_result(self.space.madvise(ours(page), length, advice).map(|()| 0)),
                host(raw::__NR_madvise, [linux(page), length, advice.into(), 0, 0, 0]),
            ),
            Call::Sync { page, length } => (
                as_result(self.space.msync(ours(page), length, raw::MS_SYNC).map(|()| 0)),
                host(raw::__NR_msync, [linux(page), length, raw::MS_SYNC.into(), 0, 0, 0]),
            ),
            Call::Touch { page } => {
                // Through the host, which says EFAULT where the page is not there.
                let file = self.files[0].as_raw_fd() as u64;
                let read = |to| host(raw::__NR_pread64, [file, to, 64, page, 0, 0]);
                (read(ours(page)), read(linux(page)))
            }
        }
    }
}

/// Where Linux sees several areas (memory copied at different times does not merge) that our record has as one, it
/// refuses what we can do. The other way round, Linux since 6.17 moves several areas at once, which our kernel refuses as older
/// ones do.
fn linux_has_more_areas(call: &Call, mine: i64, linux: i64) -> bool {
    let efault = Errno::EFAULT.as_result();
    matches!(call, Call::Remap { .. }) && mine != linux && (linux == efault || mine == efault)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn calls_do_what_linux_does(calls in proptest::collection::vec(call(), 1..40)) {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let pair = Pair::new();
        for (index, call) in calls.iter().enumerate() {
            let (mine, linux) = pair.make(call);
            if linux_has_more_areas(call, mine, linux) {
                return Ok(());
            }
            prop_assert_eq!(mine, linux, "call {} {:?}", index, call);
            let expected = host_areas(LINUX);
            prop_assert_eq!(&host_areas(OURS), &expected, "host after call {} {:?}", index, call);
            prop_assert_eq!(&recorded_areas(&pair.space), &expected, "record after call {} {:?}", index, call);
        }
    }
}
