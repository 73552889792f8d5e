//! Scripts: files that begin with `#!` and the path of their interpreter.
//!
//! Source: fs/binfmt_script.c and `exec_binprm` in fs/exec.c of Linux 6.18, compared on a running kernel. What
//! surprises:
//!
//! - Everything behind the path is *one* argument, inner blanks kept. Blanks at the end of the line are cut, but
//!   without a newline in the first 256 bytes nothing is: `#!/bin/sh ` without one has an empty argument.
//! - A path that may have been cut off at 256 bytes is refused; an argument is cut silently.
//! - `\r` is part of the path. `#!` alone names the empty path, which Linux opens as the working directory: `EACCES`.

use crate::error::{Errno, LoadError};
use alloc::vec::Vec;

/// How much of a file Linux reads to find out what it is (linux/binfmts.h).
pub const BINPRM_BUF_SIZE: usize = 256;

/// So many times may an interpreter be a script itself, before `execve` gives `ELOOP`: of a chain of six scripts the
/// last fails (`exec_binprm`).
pub const MAX_REWRITES: usize = 5;

/// What the first line of a script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Path of the interpreter. May be empty, see above.
    pub interpreter: Vec<u8>,
    /// Its one argument. May be empty, see above.
    pub argument: Option<Vec<u8>>,
}

/// Does a file with this beginning count as a script?
pub fn is_script(head: &[u8]) -> bool {
    head.starts_with(b"#!")
}

/// The error for one rewrite more than [`MAX_REWRITES`].
pub const fn too_many_rewrites() -> LoadError {
    LoadError::returned(Errno::ELOOP, "interpreters of scripts are scripts too many times over")
}

/// Parses the first line. `head` is the beginning of the file, as much of 256 bytes as there is.
///
/// # Errors
/// `ENOEXEC` for what is no script, names no interpreter or one whose path may be longer than what was read.
pub fn parse(head: &[u8]) -> Result<Script, LoadError> {
    let refuse = |what| LoadError::returned(Errno::ENOEXEC, what);
    if !is_script(head) {
        return Err(refuse("not a script"));
    }
    // Behind the end of the file the buffer holds zeros.
    let mut buf = [0; BINPRM_BUF_SIZE];
    for (to, from) in buf.iter_mut().zip(head) {
        *to = *from;
    }
    // A newline behind a NUL does not count (strnchr).
    let newline = buf.iter().position(|&b| b == b'\n' || b == 0).filter(|&at| buf.get(at) == Some(&b'\n'));

    let end = match newline {
        Some(end) => end,
        None => {
            let path = find(&buf, 2, |b| !is_blank(b)).ok_or(refuse("the first line is blank"))?;
            find(&buf, path, ends_path).ok_or(refuse("the path of the interpreter is cut off"))?;
            BINPRM_BUF_SIZE.saturating_sub(1)
        }
    };
    // The line without "#!" and without blanks at its end.
    let line = buf.get(2..end).unwrap_or(&[]);
    let line = line.get(..line.iter().rposition(|&b| !is_blank(b)).map_or(0, |at| at.saturating_add(1)));
    let line = line.unwrap_or(&[]);
    let name = find(line, 0, |b| !is_blank(b)).ok_or(refuse("the first line names no interpreter"))?;

    let separator = find(line, name, ends_path);
    let argument = separator
        .filter(|&at| line.get(at) != Some(&0))
        .and_then(|at| find(line, at, |b| !is_blank(b)))
        .and_then(|at| line.get(at..));
    let interpreter = line.get(name..separator.unwrap_or(line.len())).unwrap_or(&[]);
    Ok(Script { interpreter: interpreter.to_vec(), argument: argument.map(|text| until_nul(text).to_vec()) })
}

impl Script {
    /// The arguments for the interpreter: its path, its argument, the script's path, and what followed `argv[0]`.
    ///
    /// `script` is the path that `execve` was given; for `execveat` on a descriptor `/dev/fd/N` or `/dev/fd/N/path`.
    pub fn rewrite_argv(&self, argv: Vec<Vec<u8>>, script: &[u8]) -> Vec<Vec<u8>> {
        let mut new = Vec::with_capacity(argv.len().saturating_add(2));
        new.push(self.interpreter.clone());
        new.extend(self.argument.clone());
        new.push(script.to_vec());
        new.extend(argv.into_iter().skip(1));
        new
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn ends_path(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

/// The first place at `from` or behind where `wanted` holds.
fn find(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.get(from..)?.iter().position(|&b| wanted(b)).map(|at| at.saturating_add(from))
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&b| b == 0).next().unwrap_or(&[])
}
