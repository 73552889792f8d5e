//! `#!` scripts (execve(2), `fs/binfmt_script.c`).

use crate::LoadError;
use crate::errno::ENOEXEC;
use alloc::vec::Vec;

/// How much of a file's start is looked at (`BINPRM_BUF_SIZE`).
pub const HEAD_SIZE: usize = 256;
/// How many scripts may be each other's interpreters (`bprm->recursion_depth`); one more gives `ELOOP`.
pub const MAX_DEPTH: usize = 5;

/// The first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Path of the interpreter.
    pub interpreter: Vec<u8>,
    /// The one argument, inner blanks and all.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Reads the first line. `None` if the file is no script; `ENOEXEC` for a line without an interpreter or with one that was
/// cut off. `head` is the file's start, at most [`HEAD_SIZE`] bytes.
pub fn parse(head: &[u8]) -> Result<Option<Script>, LoadError> {
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let bad = |what| Err(LoadError::new(ENOEXEC, what));
    let line = line.get(..HEAD_SIZE - 2).unwrap_or(line);
    let (line, complete) = match line.iter().position(|&byte| byte == b'\n') {
        Some(end) => (line.get(..end).unwrap_or(line), true),
        None => (line, head.len() < HEAD_SIZE),
    };
    // A NUL ends it too, as a C string.
    let (line, complete) = match line.iter().position(|&byte| byte == 0) {
        Some(end) => (line.get(..end).unwrap_or(line), true),
        None => (line, complete),
    };
    let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
    let rest = line.get(start..).unwrap_or(&[]);
    let end = rest.iter().position(|&byte| is_blank(byte));
    let interpreter = rest.get(..end.unwrap_or(rest.len())).unwrap_or(&[]);
    if interpreter.is_empty() {
        return bad("the script names no interpreter");
    }
    if end.is_none() && !complete {
        return bad("the script's interpreter is too long");
    }
    let argument = end.and_then(|end| rest.get(end..)).unwrap_or(&[]);
    let argument = argument.iter().position(|&byte| !is_blank(byte)).and_then(|start| argument.get(start..));
    let argument = argument.map(|argument| {
        let last = argument.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |last| last + 1);
        argument.get(..last).unwrap_or(argument).to_vec()
    });
    Ok(Some(Script { interpreter: interpreter.to_vec(), argument: argument.filter(|text| !text.is_empty()) }))
}

/// The arguments for the interpreter: itself, its argument, the script's path, and the script's arguments but the first.
pub fn arguments(script: &Script, path: &[u8], argv: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut new = Vec::new();
    new.push(script.interpreter.clone());
    new.extend(script.argument.clone());
    new.push(path.to_vec());
    new.extend(argv.iter().skip(1).cloned());
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(interpreter: &str, argument: Option<&str>) -> Option<Script> {
        Some(Script {
            interpreter: interpreter.as_bytes().to_vec(),
            argument: argument.map(|text| text.as_bytes().to_vec()),
        })
    }

    #[test]
    fn the_rest_of_the_line_is_one_argument_without_outer_blanks() {
        assert_eq!(parse(b"#! /bin/sh -e -x  \t\nrest"), Ok(script("/bin/sh", Some("-e -x"))));
        assert_eq!(parse(b"#!/bin/sh\n"), Ok(script("/bin/sh", None)));
        assert_eq!(parse(b"#!/bin/sh"), Ok(script("/bin/sh", None)));
        assert_eq!(parse(b"#!/bin/sh   \n"), Ok(script("/bin/sh", None)));
    }

    #[test]
    fn a_file_without_the_two_characters_is_no_script() {
        assert_eq!(parse(b"\x7fELF"), Ok(None));
        assert_eq!(parse(b"#"), Ok(None));
    }

    #[test]
    fn an_empty_or_cut_off_interpreter_is_refused() {
        assert_eq!(parse(b"#!\n").map_err(|error| error.errno), Err(ENOEXEC));
        assert_eq!(parse(b"#!   \n").map_err(|error| error.errno), Err(ENOEXEC));
        let mut long = b"#!/".to_vec();
        long.resize(HEAD_SIZE, b'a');
        assert_eq!(parse(&long).map_err(|error| error.errno), Err(ENOEXEC));
    }

    #[test]
    fn an_argument_that_is_cut_off_is_kept_as_far_as_it_goes() {
        let mut long = b"#!/bin/sh ".to_vec();
        long.resize(HEAD_SIZE, b'x');
        let parsed = parse(&long).ok().flatten().and_then(|script| script.argument);
        assert_eq!(parsed.map(|argument| argument.len()), Some(HEAD_SIZE - 10));
    }

    #[test]
    fn the_interpreter_gets_the_scripts_path_in_place_of_its_first_argument() {
        let script = Script { interpreter: b"/i".to_vec(), argument: Some(b"a b".to_vec()) };
        let argv = [b"zero".to_vec(), b"one".to_vec()];
        let expected: [&[u8]; 4] = [b"/i", b"a b", b"/s", b"one"];
        assert_eq!(arguments(&script, b"/s", &argv), expected);
    }
}
