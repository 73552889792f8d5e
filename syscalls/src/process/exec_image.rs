//! From an opened program file to what is to be loaded: scripts followed, ELF headers checked. Nothing of the process has
//! changed yet when this fails.

use crate::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use kernel::uaccess::Sink;
use loader::{Image, LoadError, Program, script};
use vfs::file::FileRef;
use vfs::namespace::{self, Lookup};

/// A program file and what it says.
pub struct Loaded {
    /// The file, to be mapped.
    pub file: FileRef,
    /// Its headers.
    pub program: Program,
}

/// What execve(2) is to run, checked.
pub struct ExecImage {
    /// The program.
    pub program: Loaded,
    /// Its interpreter (the dynamic loader).
    pub interpreter: Option<Loaded>,
    /// Arguments, rewritten for scripts.
    pub argv: Vec<Vec<u8>>,
    /// What `AT_EXECFN` shows.
    pub name: Vec<u8>,
}

struct FileImage<'a>(&'a FileRef);

impl Image for FileImage<'_> {
    fn len(&self) -> u64 {
        namespace::file_size(self.0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, loader::Errno> {
        let mut sink = Sink::kernel(buffer);
        self.0.ops.read_at(self.0, offset, &mut sink).map_err(|errno| loader::Errno(errno.0))
    }
}

/// Why a program is not executed.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// What execve(2) returns.
    pub errno: Errno,
    /// Linux finds it only when the old program is gone, and kills the process (SIGSEGV).
    pub fatal: bool,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, fatal: false }
    }
}

fn refuse(path: &[u8], error: LoadError) -> Refusal {
    kernel::info!("cannot execute {}: {}", alloc::string::String::from_utf8_lossy(path), error.what);
    Refusal { errno: Errno(error.errno.0), fatal: error.fatal }
}

/// Opens `path` for execution: a regular file, executable for the caller, on a mount that allows it.
pub fn open(lookup: &Lookup<'_>, path: &[u8]) -> Result<FileRef> {
    namespace::open_executable(lookup, path)
}

/// Follows scripts from `file` (found as `path`) to an ELF program and reads its headers and its interpreter's.
pub fn prepare(
    lookup: &Lookup<'_>,
    file: FileRef,
    path: &[u8],
    argv: Vec<Vec<u8>>,
) -> Result<ExecImage, Refusal> {
    let name = path.to_vec();
    let (mut file, mut path, mut argv) = (file, path.to_vec(), argv);
    if argv.is_empty() {
        // Linux since 5.18 gives a program at least one argument.
        argv.push(Vec::new());
    }
    let mut rewrites = 0;
    loop {
        let mut head = vec![0u8; script::BINPRM_BUF_SIZE];
        let length = FileImage(&file).read_at(0, &mut head).map_err(|errno| Errno(errno.0))?;
        head.truncate(length);
        if !script::is_script(&head) {
            break;
        }
        if rewrites >= script::MAX_REWRITES {
            return Err(refuse(&path, script::too_many_rewrites()));
        }
        rewrites += 1;
        let found = script::parse(&head).map_err(|error| refuse(&path, error))?;
        argv = found.rewrite_argv(argv, &path);
        path = found.interpreter;
        file = open(lookup, &path)?;
    }
    let program = loader::parse(&FileImage(&file)).map_err(|error| refuse(&path, error))?;
    let interpreter = match &program.interp {
        None => None,
        // Linux takes an empty path for the working directory, which is not a program.
        Some(path) if path.is_empty() => return Err(Errno::EACCES.into()),
        Some(path) => {
            let file = open(lookup, path)?;
            let program =
                loader::parse_interpreter(&FileImage(&file)).map_err(|error| refuse(path, error))?;
            Some(Loaded { file, program })
        }
    };
    Ok(ExecImage { program: Loaded { file, program }, interpreter, argv, name })
}
