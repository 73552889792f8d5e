//! The one table of calls.

use crate::args::Args;
use crate::thread::{Memory, Thread};
use crate::{Errno, Result, file, futex, ipc, memory, process, ptrace, signal, socket, system, time};
use alloc::sync::Arc;
use kernel::cred::Cred;
use kernel::mm::AddressSpace;
use kernel::task::Pid;
use trap_handler::regs::Regs;
use vfs::context::FsContext;
use vfs::table::{OwnTable, UnusedTable};

/// What a call's function gets beside its arguments.
pub struct Context<'a> {
    /// The program's registers: few calls look at them (clone, execve, sigreturn).
    pub regs: &'a mut Regs,
    /// The calling thread.
    pub thread: &'static Thread,
}

impl Context<'_> {
    /// The thread's descriptor table.
    pub fn files(&self) -> OwnTable<'_> {
        // SAFETY: a context is the calling thread's. Its table is replaced, and `unused` asked, through an exclusive reference,
        // while nothing that came from here lives, or at its end.
        unsafe { self.thread.own_files().own() }
    }

    /// The same while the call uses no file of it.
    pub fn unused_files(&mut self) -> UnusedTable<'_> {
        // SAFETY: as in `files`; the exclusive reference says that nothing that came from there lives.
        unsafe { self.thread.own_files().unused() }
    }

    /// Gives the thread a descriptor table that nobody else uses.
    pub fn unshare_files(&mut self) {
        // SAFETY: as in `unused_files`.
        unsafe { self.thread.unshare_files() }
    }

    /// The memory of the thread's process.
    pub fn memory(&self) -> &Memory {
        // SAFETY: as in `files`: who replaces the memory (execve) uses nothing of it any more.
        unsafe { self.thread.own_memory() }
    }

    /// What the program means by the number of a process, thread, process group or session: `ESRCH` for what it does not see.
    pub fn named(&self, number: i32) -> Result<Pid> {
        self.thread.task.group.space.named(number).ok_or(Errno::ESRCH)
    }

    /// By which number the program sees one; 0 for what it does not see.
    pub fn shown(&self, pid: Pid) -> i32 {
        self.thread.task.group.space.shown(pid)
    }

    /// The areas of that memory.
    pub fn space(&self) -> &AddressSpace {
        &self.memory().space
    }

    /// The thread's credentials.
    pub fn cred(&self) -> &Arc<Cred> {
        // SAFETY: as in `files`.
        unsafe { self.thread.task.own_cred() }
    }

    /// Replaces them.
    pub fn set_cred(&mut self, cred: Cred) {
        // SAFETY: the exclusive reference says that nothing that came from `cred` lives.
        unsafe { self.thread.task.set_cred(Arc::new(cred)) }
    }

    /// The thread's root, working directory, umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        // SAFETY: as in `files`.
        unsafe { self.thread.own_fs() }
    }

    /// Gives the thread places of its own.
    pub fn unshare_fs(&mut self) {
        // SAFETY: the exclusive reference says that nothing that came from `fs` lives.
        unsafe { self.thread.unshare_fs() }
    }
}

/// A call's function: the value for RAX, or the error.
pub type Call = fn(&mut Context<'_>, Args) -> Result<u64>;

/// How far a call is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Everything that man page and kernel say.
    Full,
    /// What is missing.
    Partial(&'static str),
    /// Always refused with this errno on purpose, for this reason.
    Refused(&'static str),
}

/// How `--strace` shows an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Signed decimal.
    Int,
    /// Unsigned decimal.
    Unsigned,
    /// Hexadecimal, `NULL` for zero.
    Address,
    /// Octal (modes).
    Octal,
    /// A descriptor, `AT_FDCWD` by name.
    Fd,
    /// A NUL-terminated string of the program.
    Path,
    /// Bytes that the program passes in; the length is the next argument.
    BytesIn,
    /// Bytes that the call fills; the length is its result.
    BytesOut,
    /// A signal number by name.
    Signal,
    /// A NULL-terminated array of strings.
    Strings,
    /// A `struct timespec` that the program passes in.
    Timespec,
    /// A `struct timespec` that the call fills.
    TimespecOut,
    /// A `struct rlimit` that the program passes in.
    Limit,
    /// A `struct rlimit` that the call fills.
    LimitOut,
    /// open(2)'s flags: the access mode has a name even when it is 0.
    OpenFlags,
    /// Flags by their names.
    Flags(&'static [(u64, &'static str)]),
    /// One of several values by its name.
    OneOf(&'static [(u64, &'static str)]),
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Number (x86-64).
    pub number: u16,
    /// Name, as in syscalls(2).
    pub name: &'static str,
    /// What does it.
    pub call: Call,
    /// How far it is done.
    pub status: Status,
    /// How `--strace` shows its arguments.
    pub show: &'static [Show],
}

/// A row of a fully implemented call.
pub const fn full(number: u32, name: &'static str, call: Call, show: &'static [Show]) -> Row {
    Row { number: number as u16, name, call, status: Status::Full, show }
}

/// A row of a call of which something is missing.
pub const fn partial(
    number: u32,
    name: &'static str,
    call: Call,
    show: &'static [Show],
    missing: &'static str,
) -> Row {
    Row { number: number as u16, name, call, status: Status::Partial(missing), show }
}

/// A row of a call that is refused on purpose.
pub const fn refused(
    number: u32,
    name: &'static str,
    call: Call,
    show: &'static [Show],
    why: &'static str,
) -> Row {
    Row { number: number as u16, name, call, status: Status::Refused(why), show }
}

/// Every family's rows.
const FAMILIES: &[&[&[Row]]] = &[
    &[memory::ROWS, futex::ROWS, time::ROWS, time::timers::interval::ROWS, time::timers::posix::ROWS],
    file::ROWS,
    ipc::ROWS,
    process::ROWS,
    ptrace::ROWS,
    signal::ROWS,
    socket::ROWS,
    system::ROWS,
];

/// Numbers that the table covers.
pub const NUMBERS: usize = 512;

static TABLE: [Option<&'static Row>; NUMBERS] = build();

const fn build() -> [Option<&'static Row>; NUMBERS] {
    let mut table = [None; NUMBERS];
    let mut family = 0;
    while family < FAMILIES.len() {
        let files = FAMILIES[family];
        let mut file = 0;
        while file < files.len() {
            let rows: &'static [Row] = files[file];
            let mut index = 0;
            while index < rows.len() {
                let row = &rows[index];
                assert!(table[row.number as usize].is_none(), "two rows for one number");
                table[row.number as usize] = Some(row);
                index += 1;
            }
            file += 1;
        }
        family += 1;
    }
    table
}

/// The row for a number, if the call is there.
pub fn row(number: u64) -> Option<&'static Row> {
    TABLE.get(usize::try_from(number).ok()?).copied().flatten()
}

/// All rows, by number.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter_map(|row| *row)
}
