//! The address space of a process: record, limits, layout.

use super::area::{Area, AreaFlags, Content, Prot};
use super::area_map::{AreaMap, STACK_GUARD, Totals};
use super::patch::{Patches, Trapped};
use super::range_set::RangeSet;
use super::screen::{Running, Screen};
use super::{Mappable, host_map};
use crate::cred::cap;
use crate::sync::{BootCell, Mutex, RwLock};
use crate::{Errno, Result, boot, task};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use boundary::layout::{PAGE_SIZE, USER_END};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::{host, keys, patch, region};

/// Areas at most (`vm.max_map_count`).
pub const MAX_AREAS: usize = 65530;
/// The main stack is mapped whole, with at most this many bytes.
pub const MAX_STACK: u64 = 64 << 20;
/// Randomness of stack addresses, in pages (x86-64: 22 bits).
const STACK_RANDOM_BITS: u32 = 22;
/// Randomness of the place of mappings and of programs, in pages (`vm.mmap_rnd_bits`).
const MAP_RANDOM_BITS: u32 = 28;
/// Least distance of mappings from the top (Linux's `SIZE_128M`).
const MIN_GAP: u64 = 128 << 20;
/// Lowest place of position-independent programs (Linux's `ELF_ET_DYN_BASE`).
const PROGRAM_BASE: u64 = (USER_END / 3 * 2) & !(PAGE_SIZE - 1);
/// Where mappings go when there is no room below the usual place (Linux's `TASK_UNMAPPED_BASE`).
pub(super) const BOTTOM_UP_BASE: u64 = (USER_END / 3).next_multiple_of(PAGE_SIZE);

/// Makes shared anonymous memory of so many bytes.
pub type MakeSharedMemory = fn(u64) -> Result<Arc<dyn Mappable>>;

static SHARED_MEMORY: BootCell<MakeSharedMemory> = BootCell::new();

/// Tells how shared anonymous memory is made (the file layer knows). Called once, at boot.
pub fn set_shared_memory(make: MakeSharedMemory) {
    SHARED_MEMORY.set(make);
}

pub(super) fn make_shared_memory(length: u64) -> Result<Arc<dyn Mappable>> {
    // However it is refused (`ENOSPC` at the sandbox's limit): mmap(2) says ENOMEM.
    SHARED_MEMORY.get().ok_or(Errno::ENOMEM)?(length).map_err(|_| Errno::ENOMEM)
}

/// Resource limits that a change to memory is checked against, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `RLIMIT_AS`.
    pub total: u64,
    /// `RLIMIT_DATA`.
    pub data: u64,
    /// `RLIMIT_STACK`.
    pub stack: u64,
    /// `RLIMIT_MEMLOCK`; infinity with `CAP_IPC_LOCK`.
    pub locked: u64,
}

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits { total: u64::MAX, data: u64::MAX, stack: u64::MAX, locked: u64::MAX };

    /// Those of the running task.
    pub fn current() -> Limits {
        let task = task::current();
        let locked = task.rlimit(raw::RLIMIT_MEMLOCK);
        let locked = if locked != u64::MAX && task.cred().has(cap::IPC_LOCK) { u64::MAX } else { locked };
        Limits {
            total: task.rlimit(raw::RLIMIT_AS),
            data: task.rlimit(raw::RLIMIT_DATA),
            stack: task.rlimit(raw::RLIMIT_STACK),
            locked,
        }
    }
}

/// What exec notes about a program's memory, as Linux's `mm_struct` has it: addresses, for `/proc/PID/stat`, `cmdline`,
/// `environ` and `auxv`.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the names are proc(5)'s")]
pub struct ProgramRanges {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// The auxiliary vector as the program got it.
    pub auxv: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Inner {
    pub map: AreaMap,
    /// What lies behind the end of a page-frame file as it was when it was mapped.
    pub beyond: RangeSet,
    pub start_brk: u64,
    pub brk: u64,
    /// Flags for areas to come (`mlockall(MCL_FUTURE)`).
    pub future: AreaFlags,
    pub program: ProgramRanges,
    pub patches: Patches,
    pub screen: Screen,
}

/// The kernel's record of a process's program memory, and the only place that maps program memory on the host.
///
/// Host calls act on the calling process: methods that change something are only for threads of the process that the
/// record describes; others may read it. Everything that changes mappings does so under the record's write lock, so
/// record and host do not drift apart.
pub struct AddressSpace {
    pub(super) inner: RwLock<Inner>,
    resident: AtomicU64,
    /// Innermost lock.
    pub(super) trapped: Mutex<Trapped>,
    /// That of the record's [`Screen`].
    pub(super) running: Running,
}

/// No memory at all: of a thread that has ended, or of a process that is about to be forked.
impl Default for AddressSpace {
    fn default() -> Self {
        AddressSpace::with(Self::no_areas())
    }
}

impl AddressSpace {
    fn no_areas() -> AreaMap {
        AreaMap::new((region::base(), region::end()), USER_END - MIN_GAP)
    }

    /// The memory of a fresh host process: nothing but the host's special pages.
    pub fn fresh() -> AddressSpace {
        let mut map = Self::no_areas();
        if let Some(config) = boot::config() {
            for (start, end, name) in &config.host.special_maps {
                map.insert(*start, special(*end, name));
            }
        }
        let space = AddressSpace::with(map);
        space.note_special();
        space
    }

    /// The host's pages are executable by themselves.
    fn note_special(&self) {
        let mut inner = self.inner.write();
        let Inner { map, screen, .. } = &mut *inner;
        for (start, area) in map.iter().filter(|(_, area)| area.prot.contains(Prot::EXEC)) {
            screen.note_special(start, area.end);
        }
        if keys::on() && !screen.special_is_clean() {
            crate::warn!(
                "kernel guard: the host's own pages hold the bytes of an instruction that the guard keeps out"
            );
        }
    }

    pub(super) fn with(map: AreaMap) -> AddressSpace {
        let inner = Inner {
            map,
            beyond: RangeSet::default(),
            start_brk: 0,
            brk: 0,
            future: AreaFlags::empty(),
            program: ProgramRanges::default(),
            patches: Patches::default(),
            screen: Screen::default(),
        };
        let running = inner.screen.running.clone();
        let (resident, trapped) = (AtomicU64::new(0), Mutex::default());
        AddressSpace { inner: RwLock::new(inner), resident, trapped, running }
    }

    /// The record of a forked child, whose host process has a copy of this memory (fork(2), madvise(2)): without
    /// `MADV_DONTFORK` areas, and nothing locked.
    ///
    /// `fork` makes the host process; nothing of this memory, code included, changes between the copy of the record and
    /// the host's.
    pub fn copy_for_fork<T>(&self, copy: &AddressSpace, fork: impl FnOnce() -> T) -> T {
        let own = self.inner.read();
        let mut inner = own.clone();
        let locked = AreaFlags::ANY_LOCK;
        let whole: Vec<(u64, u64, AreaFlags)> =
            inner.map.iter().map(|(start, area)| (start, area.end, area.flags)).collect();
        for (start, end, flags) in whole {
            if flags.contains(AreaFlags::DONT_FORK) {
                inner.map.remove(start, end);
                inner.beyond.remove(start, end);
                inner.screen.forget(start, end);
                continue;
            }
            if flags.contains(AreaFlags::WIPE_ON_FORK) {
                inner.screen.wiped(start, end);
            }
            if flags.intersects(locked) {
                inner.map.update(start, end, |area| area.flags.remove(locked));
            }
        }
        inner.future = AreaFlags::empty();
        inner.patches.for_child();
        inner.screen.belongs_to(&copy.running);
        let empty = core::mem::replace(&mut *copy.inner.write(), inner);
        copy.resident.store(self.resident.load(Ordering::Relaxed), Ordering::Relaxed);
        let forked = fork();
        drop(own);
        drop(empty);
        forked
    }

    /// Unmaps everything of the program, for exec: what stays is the host's special pages (where the program has not
    /// unmapped them) and the kernel.
    pub fn clear_for_exec(&self) -> Result<()> {
        let mut inner = self.inner.write();
        let mut keep: Vec<(u64, u64)> = Vec::from([(region::base(), region::end())]);
        let mut map = AreaMap::new((region::base(), region::end()), inner.map.ceiling());
        for (start, area) in inner.map.iter() {
            if matches!(area.content, Content::Special(_)) {
                keep.push((start, area.end));
                map.insert(start, area.clone());
            }
        }
        keep.sort_unstable();
        keep.push((USER_END, USER_END));
        let mut at = 0;
        for (start, end) in keep {
            if at < start {
                host::munmap(at, start - at)?;
            }
            at = at.max(end);
        }
        let patches = inner.patches.for_new_program();
        let kept: Vec<(u64, u64)> = map.iter().map(|(start, area)| (start, area.end)).collect();
        inner.screen.retain(&kept);
        let screen = core::mem::take(&mut inner.screen);
        let old = core::mem::replace(
            &mut *inner,
            Inner {
                map,
                beyond: RangeSet::default(),
                start_brk: 0,
                brk: 0,
                future: AreaFlags::empty(),
                program: ProgramRanges::default(),
                patches,
                screen,
            },
        );
        patch::forget_arenas();
        ThreadBlock::current().forget_site();
        drop(inner);
        self.trapped.lock().clear();
        // Files that nobody else holds end here, without the lock.
        drop(old);
        Ok(())
    }

    /// Maps the main stack for exec and decides where mappings go: below it, with room for `limits.stack`. Addresses are
    /// random unless `randomize` is false (personality(2) `ADDR_NO_RANDOMIZE`). Gives the stack's `[start, end)`, mapped
    /// whole, executable if asked.
    pub fn set_up_stack(&self, limits: &Limits, executable: bool, randomize: bool) -> Result<(u64, u64)> {
        let pages = |bits| if randomize { random_pages(bits) } else { Ok(0) };
        let end = USER_END - pages(STACK_RANDOM_BITS)?;
        let size = (limits.stack.min(MAX_STACK) & !(PAGE_SIZE - 1)).max(32 * PAGE_SIZE);
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::EXEC, executable);
        let area = Area::anonymous(end, prot, AreaFlags::GROWS_DOWN);
        let start = end - size;

        let mut inner = self.inner.write();
        let guarded = start - STACK_GUARD;
        // The special pages lie where the host put them, which may be here: then the stack goes below them.
        let (start, end) = if inner.map.is_free(guarded, end) {
            (start, end)
        } else {
            let room = size + STACK_GUARD;
            let lowest = USER_END - (1 << 40);
            let start = inner.map.highest_gap(lowest, end, room).ok_or(Errno::ENOMEM)? + STACK_GUARD;
            (start, start + size)
        };
        host_map::anonymous(start, size, prot, AreaFlags::empty(), 0)?;
        inner.map.insert(start, Area { end, ..area });
        // Linux's mmap_base(), with the stack's greatest size in place of an unlimited one.
        let pad = (1u64 << (STACK_RANDOM_BITS + 12)) + STACK_GUARD;
        let gap = (limits.stack.min(MAX_STACK) + pad).max(MIN_GAP);
        let ceiling = (USER_END - gap - pages(MAP_RANDOM_BITS)?).min(start - STACK_GUARD);
        inner.map.set_ceiling(ceiling & !(PAGE_SIZE - 1));
        Ok((start, end))
    }

    /// Sets the start of the heap (`brk`), for exec: page aligned up.
    pub fn set_up_brk(&self, start: u64) {
        let start = start.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
        let mut inner = self.inner.write();
        (inner.start_brk, inner.brk) = (start, start);
    }

    /// Notes what exec knows about the program.
    pub fn set_program(&self, program: ProgramRanges) {
        self.inner.write().program = program;
    }

    /// What exec noted.
    pub fn program(&self) -> ProgramRanges {
        self.inner.read().program.clone()
    }

    /// Start of the heap and its end now.
    pub fn heap(&self) -> (u64, u64) {
        let inner = self.inner.read();
        (inner.start_brk, inner.brk)
    }

    /// Sums over the areas.
    pub fn totals(&self) -> Totals {
        self.inner.read().map.totals()
    }

    /// Number of areas.
    pub fn count(&self) -> usize {
        self.inner.read().map.count()
    }

    /// Whether the host's vDSO is still where the boot configuration says (for `AT_SYSINFO_EHDR`).
    pub fn has_vdso(&self) -> bool {
        let vdso = boot::config().map_or(0, |config| config.host.vdso);
        let inner = self.inner.read();
        vdso != 0 && inner.map.find(vdso).is_some_and(|(_, area)| matches!(area.content, Content::Special(_)))
    }

    /// Whether every byte of `[address, address + length)` is mapped.
    pub fn is_mapped(&self, address: u64, length: u64) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        length == 0 || self.inner.read().map.covered(address, end).1
    }

    /// Asks the host how much memory the calling process, which this must be the memory of, has had resident at most, for
    /// [`Self::resident`].
    pub fn note_resident(&self) {
        if let Ok(usage) = host::getrusage(0) {
            self.resident.store((usage.ru_maxrss as u64).saturating_mul(1024), Ordering::Relaxed);
        }
    }

    /// An estimate of the resident bytes: the host's peak as last noted, and no more than there is.
    pub fn resident(&self) -> u64 {
        let accessible = self.totals().accessible;
        match self.resident.load(Ordering::Relaxed) {
            0 => accessible,
            noted => noted.min(accessible),
        }
    }
}

fn special(end: u64, name: &str) -> Area {
    let prot = if name == "[vdso]" { Prot::READ | Prot::EXEC } else { Prot::READ };
    Area {
        end,
        prot,
        may: Prot::all(),
        flags: AreaFlags::empty(),
        content: Content::Special(Arc::new(String::from(name))),
    }
}

/// A random number of bytes, a multiple of the page size below `2^bits` pages.
pub fn random_pages(bits: u32) -> Result<u64> {
    let mut bytes = [0u8; 8];
    if host::getrandom(&mut bytes, 0)? != bytes.len() {
        return Err(Errno::EAGAIN);
    }
    Ok((u64::from_ne_bytes(bytes) & ((1 << bits) - 1)) * PAGE_SIZE)
}

/// Where exec puts a position-independent program.
pub fn random_program_base(randomize: bool) -> Result<u64> {
    Ok(PROGRAM_BASE + if randomize { random_pages(MAP_RANDOM_BITS)? } else { 0 })
}

/// Lowest address that may be mapped.
pub(super) fn lowest() -> u64 {
    boot::config().map_or(1 << 16, |config| config.host.mmap_min_addr)
}

/// Rounds up to pages; `None` past the end of numbers.
pub(super) fn page_up(value: u64) -> Option<u64> {
    value.checked_add(PAGE_SIZE - 1).map(|value| value & !(PAGE_SIZE - 1))
}

/// Whether an address or offset is page aligned.
pub(super) fn aligned(value: u64) -> bool {
    value & (PAGE_SIZE - 1) == 0
}

impl Inner {
    /// Linux's `may_expand_vm`: whether `bytes` more of an area like `area` are within the limits.
    pub fn may_expand(&self, limits: &Limits, is_data: bool, bytes: u64) -> bool {
        let totals = self.map.totals();
        totals.total.saturating_add(bytes) <= limits.total
            && (!is_data || totals.data.saturating_add(bytes) <= limits.data)
    }

    /// Whether `bytes` more may be locked.
    pub fn may_lock(&self, limits: &Limits, bytes: u64) -> bool {
        self.map.totals().locked.saturating_add(bytes) <= limits.locked
    }
}
