//! Maps the kernel's regions into the launched process and jumps into the image.

use super::LaunchError;
use super::keys::Keys;
use boundary::boot::{BOOT_MAGIC, BootConfig, BootHeader, listener};
use boundary::layout::{
    FRAMES_OFFSET, FRAMES_SIZE, HEAP_BOOT_BYTES, HEAP_OFFSET, HEAP_SIZE, IMAGE_OFFSET, IMAGE_SIZE, PAGE_SIZE,
    REGION_ALIGN, REGION_BASE_MAX, REGION_BASE_MIN, REGION_SIZE, STACKS_OFFSET, STACKS_SIZE,
};
use loader::{Limits, Program, Prot, Step};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// Begins on a page, in memory and so in the command's file.
#[repr(C, align(4096))]
struct OnPage<T: ?Sized>(T);

static ON_PAGE: &OnPage<[u8]> = &OnPage(*include_bytes!(env!("TRAPBOX_IMAGE")));

/// The kernel image, built by the build script.
pub static IMAGE: &[u8] = &ON_PAGE.0;

/// Where the image lies and what the filter must know of it.
pub struct Mapped {
    /// Region base.
    pub base: u64,
    /// Where to jump.
    pub entry: u64,
    /// Pages with the only `syscall` instructions that the filter honours.
    pub gadget: (u64, u64),
    /// Its text, if nothing else is on the huge pages that it begins; otherwise twice 0.
    pub text: (u64, u64),
}

fn host(what: &'static str) -> LaunchError {
    LaunchError::Host { what, source: std::io::Error::last_os_error() }
}

/// Reserves the region at a random base, and maps image, heap and frames, with `keys` closed to program code.
pub fn map(image: &[u8], heap: RawFd, frames: RawFd, keys: Option<&Keys>) -> Result<Mapped, LaunchError> {
    let base = reserve()?;
    let program = loader::parse(image).map_err(|error| LaunchError::Image(error.what))?;
    let image_end = map_image(image, &program, base + IMAGE_OFFSET, keys)?;
    let read_write = Prot::READ | Prot::WRITE;
    for (fd, offset, size) in [(heap, HEAP_OFFSET, HEAP_SIZE), (frames, FRAMES_OFFSET, FRAMES_SIZE)] {
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        map_fixed(base + offset, size, read_write.bits() as i32, flags, fd)
            .ok_or_else(|| host("mapping the sandbox's memory"))?;
        keys.map_or(Ok(()), |keys| keys.close(base + offset, size, read_write))?;
    }
    // What is left of the reservation: the kernel chooses every address by itself, and each mapping less is one less to copy
    // for a fork.
    match keys {
        // Memory for stacks has its key from the start.
        Some(keys) => {
            let stacks = base + STACKS_OFFSET;
            unmap(image_end, stacks)?;
            keys.close(stacks, STACKS_SIZE, Prot::empty())?;
            unmap(stacks + STACKS_SIZE, base + HEAP_OFFSET)?;
        }
        None => unmap(image_end, base + HEAP_OFFSET)?,
    }
    unmap(base + FRAMES_OFFSET + FRAMES_SIZE, base + REGION_SIZE)?;
    let (address, size) =
        loader::section_range(image, b".gadget").ok_or(LaunchError::Image("the image has no gadget"))?;
    let start = base + IMAGE_OFFSET + address;
    Ok(Mapped {
        base,
        entry: base + IMAGE_OFFSET + program.entry,
        gadget: (start, start + size.next_multiple_of(PAGE_SIZE)),
        // A copy on huge pages would have no key.
        text: if keys.is_some() { (0, 0) } else { text_alone(&program, base + IMAGE_OFFSET) },
    })
}

/// The executable segment, if it begins a huge page and no other segment is on those that it takes.
fn text_alone(program: &Program, bias: u64) -> (u64, u64) {
    const HUGE_PAGE: u64 = 2 << 20;
    let Some(text) = program.segments.iter().find(|segment| segment.prot.contains(Prot::EXEC)) else {
        return (0, 0);
    };
    let end = text.vaddr + text.mem_size.next_multiple_of(HUGE_PAGE);
    let alone = program.segments.iter().all(|other| {
        other.vaddr == text.vaddr || other.vaddr >= end || other.vaddr + other.mem_size <= text.vaddr
    });
    let usable = alone && text.vaddr.is_multiple_of(HUGE_PAGE) && end <= IMAGE_SIZE / 2;
    if usable { (bias + text.vaddr, bias + text.vaddr + text.mem_size) } else { (0, 0) }
}

fn reserve() -> Result<u64, LaunchError> {
    let slots = (REGION_BASE_MAX - REGION_BASE_MIN - REGION_SIZE) / REGION_ALIGN;
    for _ in 0..16 {
        let mut random = [0u8; 8];
        // SAFETY: the buffer is ours.
        if unsafe { libc::getrandom(random.as_mut_ptr().cast(), 8, 0) } != 8 {
            return Err(host("getting random bytes"));
        }
        let base = REGION_BASE_MIN + u64::from_ne_bytes(random) % slots * REGION_ALIGN;
        // SAFETY: fails instead of replacing anything.
        let at = unsafe {
            libc::mmap(
                base as *mut _,
                REGION_SIZE as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if at as u64 == base {
            return Ok(base);
        }
    }
    Err(LaunchError::Missing {
        what: "address space for the kernel".into(),
        reason: std::io::Error::last_os_error().to_string(),
        way_out: "lift the limit on address space (`ulimit -v unlimited`), and see that vm.overcommit_memory is not 2".into(),
    })
}

fn map_fixed(address: u64, length: u64, prot: i32, flags: i32, fd: RawFd) -> Option<()> {
    // SAFETY: only inside the region that `reserve` made ours.
    let at = unsafe { libc::mmap(address as *mut _, length as usize, prot, flags | libc::MAP_FIXED, fd, 0) };
    (at as u64 == address).then_some(())
}

fn unmap(start: u64, end: u64) -> Result<(), LaunchError> {
    // SAFETY: inside the region that `reserve` made ours; nothing refers to this part of it.
    if start < end && unsafe { libc::munmap(start as *mut _, (end - start) as usize) } != 0 {
        return Err(host("mapping the sandbox's memory"));
    }
    Ok(())
}

/// Maps the image's segments privately: those that are never written are the command's own pages, which every sandbox and the
/// host's page cache share; the others are anonymous memory with a copy of the bytes. The relocations that the image applies to
/// itself are all in its writable segments. (The command's file need not be reachable from the sandbox's tree.) Gives the image's
/// end.
fn map_image(image: &[u8], program: &Program, bias: u64, keys: Option<&Keys>) -> Result<u64, LaunchError> {
    let limits = Limits { start: bias, end: bias + IMAGE_SIZE, reserved: 0..0 };
    let plan = loader::plan::plan(program, bias, &limits).map_err(|error| LaunchError::Image(error.what))?;
    let mut end = bias;
    for step in &plan.steps {
        unmap(end, step.range().start.max(end))?;
        end = end.max(step.range().end.next_multiple_of(PAGE_SIZE));
        let (addr, len, prot) = match *step {
            Step::MapFile { addr, len, offset, prot } => {
                if prot.contains(Prot::WRITE) || !share(image, addr, len, offset) {
                    map_writable(addr, len)?;
                    copy(image, addr, len, offset)?;
                }
                (addr, len, prot)
            }
            Step::MapAnonymous { addr, len, prot } => {
                map_writable(addr, len)?;
                (addr, len, prot)
            }
            Step::ZeroTail { addr, len } => {
                // SAFETY: within a page of the image that the step before has mapped writable.
                unsafe { std::ptr::write_bytes(addr as *mut u8, 0, len as usize) };
                continue;
            }
        };
        if let Some(keys) = keys {
            keys.close(addr, len, prot)?;
            continue;
        }
        // SAFETY: the image's own pages.
        if unsafe { libc::mprotect(addr as *mut _, len as usize, prot.bits() as i32) } != 0 {
            return Err(host("protecting the kernel image"));
        }
    }
    Ok(end)
}

fn map_writable(addr: u64, len: u64) -> Result<(), LaunchError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map_fixed(addr, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
        .ok_or_else(|| host("mapping the kernel image"))
}

/// Moves whole pages of the embedded image to `addr`, which takes mremap(2) with `MREMAP_DONTUNMAP` for mappings of files
/// (Linux 5.13). False where that cannot be done: on an older host, or for an image that lies elsewhere in memory.
fn share(image: &[u8], addr: u64, len: u64, offset: u64) -> bool {
    let embedded = std::ptr::eq(image, IMAGE);
    let whole = offset.checked_add(len).is_some_and(|end| end <= image.len() as u64);
    let from = (image.as_ptr() as u64).wrapping_add(offset);
    if !embedded || !whole || !from.is_multiple_of(PAGE_SIZE) {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: the new place is inside the region that `reserve` made ours. The old one stays a mapping of the file and has the
    // same bytes: the command never writes to its read-only data.
    let at =
        unsafe { libc::mremap(from as *mut _, len as usize, len as usize, flags, addr as *mut libc::c_void) };
    if at as u64 != addr {
        return false;
    }
    copy_tables_on_fork(addr, len);
    true
}

/// Makes fork(2) copy the page tables of the mapping of a file at `addr`, as it does if one page of it was ever written: less
/// than the faults of a child that finds none. Where it cannot be had, those faults are all.
fn copy_tables_on_fork(addr: u64, len: u64) {
    // SAFETY: a mapping that was just made, whose first byte is written with what is there.
    unsafe {
        if libc::mprotect(addr as *mut _, len as usize, libc::PROT_READ | libc::PROT_WRITE) == 0 {
            let first = addr as *mut u8;
            first.write_volatile(first.read_volatile());
        }
    }
}

/// Copies a segment's pages, as far as the image goes, to memory that was just mapped.
fn copy(image: &[u8], addr: u64, len: u64, offset: u64) -> Result<(), LaunchError> {
    let bytes = image.get(offset as usize..).ok_or(LaunchError::Image("a segment lies outside the image"))?;
    let bytes = bytes.get(..len as usize).unwrap_or(bytes);
    // SAFETY: `len` bytes were just mapped writable at `addr`, for nobody else.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as *mut u8, bytes.len()) };
    Ok(())
}

/// The word by which the image hands over the filter's listener ([`boundary::boot::listener`]).
pub fn listener_word(mapped: &Mapped) -> &'static AtomicU32 {
    let word = mapped.base + HEAP_OFFSET + offset_of!(BootHeader, listener) as u64;
    // SAFETY: the heap is mapped for the rest of this process's life, and zero.
    let word = unsafe { &*(word as *const AtomicU32) };
    word.store(listener::NOT_YET, Ordering::SeqCst);
    word
}

/// Writes the configuration to the start of the heap and jumps to the image. Does not come back.
pub fn enter(mapped: &Mapped, config: &BootConfig) -> LaunchError {
    let bytes = match postcard::to_allocvec(config) {
        Ok(bytes) => bytes,
        Err(_) => return LaunchError::Image("the configuration cannot be encoded"),
    };
    let room = HEAP_BOOT_BYTES as usize - size_of::<BootHeader>();
    if bytes.len() > room {
        return LaunchError::TooLarge { bytes: bytes.len(), room };
    }
    unregister_rseq();
    let heap = mapped.base + HEAP_OFFSET;
    // SAFETY: the heap is mapped and the image reads it only after the jump; the image's entry takes the base in rdi and
    // never returns.
    unsafe {
        let header = &mut *(heap as *mut BootHeader);
        (header.magic, header.config_len) = (BOOT_MAGIC, bytes.len() as u64);
        let first = (heap as *mut u8).add(size_of::<BootHeader>());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), first, bytes.len());
        std::arch::asm!("jmp {entry}", entry = in(reg) mapped.entry, in("rdi") mapped.base, options(noreturn))
    }
}

/// glibc registered its rseq area with the host, which would write to it after it is unmapped.
fn unregister_rseq() {
    unsafe extern "C" {
        static __rseq_offset: isize;
        static __rseq_size: u32;
    }
    const UNREGISTER: i32 = 1;
    const SIGNATURE: u32 = 0x5305_3053;
    // SAFETY: reads glibc's constants and the thread pointer; the host only forgets the area.
    unsafe {
        if __rseq_size == 0 {
            return;
        }
        let thread_pointer: usize;
        std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer);
        let area = thread_pointer.wrapping_add_signed(__rseq_offset);
        for size in [32u32, __rseq_size] {
            if libc::syscall(libc::SYS_rseq, area, size, UNREGISTER, SIGNATURE) == 0 {
                return;
            }
        }
    }
}
