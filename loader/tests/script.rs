//! First lines of scripts. Every answer was seen on Linux 6.18.

use loader::script::{MAX_REWRITES, Script, parse, too_many_rewrites};

const A: &[u8] = b"/tmp/exp/args";

fn line(parts: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), i32> {
    let file = [b"#!", parts.concat().as_slice()].concat();
    let head = &file[..file.len().min(256)];
    parse(head).map(|s| (s.interpreter, s.argument)).map_err(|e| e.errno.0)
}

fn runs(interpreter: &[u8], argument: Option<&[u8]>) -> Result<(Vec<u8>, Option<Vec<u8>>), i32> {
    Ok((interpreter.to_vec(), argument.map(<[u8]>::to_vec)))
}

#[test]
fn the_rest_of_the_line_is_one_argument() {
    assert_eq!(line(&[A, b"\n"]), runs(A, None));
    assert_eq!(line(&[b" \t", A, b" x  y \t\n"]), runs(A, Some(b"x  y")));
    assert_eq!(line(&[A, b"   \nmore"]), runs(A, None));
    assert_eq!(line(&[A, b"\r\n"]), runs(&[A, b"\r"].concat(), None));
}

#[test]
fn without_a_newline_blanks_at_the_end_are_kept() {
    assert_eq!(line(&[A]), runs(A, None));
    assert_eq!(line(&[A, b"  "]), runs(A, Some(b"")));
    assert_eq!(line(&[A, b" x y  "]), runs(A, Some(b"x y  ")));
}

#[test]
fn a_line_that_names_nothing_is_enoexec_but_the_empty_path_is_a_path() {
    for text in [&b"\n"[..], b"  \n", &[b' '; 300]] {
        assert_eq!(line(&[text]), Err(8));
    }
    assert_eq!(line(&[b""]), runs(b"", None));
    assert_eq!(line(&[b"  "]), runs(b"", None));
    for head in [&b""[..], b"#", b"# !", b"\x7fELF"] {
        assert_eq!(parse(head).unwrap_err().errno.0, 8);
    }
}

#[test]
fn a_nul_ends_a_path_and_an_argument() {
    assert_eq!(line(&[A, b"\0\n"]), runs(A, None));
    assert_eq!(line(&[A, b"\0 b\n"]), runs(A, None));
    assert_eq!(line(&[A, b" a\0b\n"]), runs(A, Some(b"a")));
}

#[test]
fn a_path_that_may_be_cut_off_is_enoexec_and_an_argument_is_cut() {
    let slashes = |n: usize| [vec![b'/'; n - A.len()], A.to_vec()].concat();
    assert_eq!(line(&[&slashes(253), b" foo"]), runs(&slashes(253), None));
    assert_eq!(line(&[&slashes(253), b"\nfoo"]), runs(&slashes(253), None));
    assert_eq!(line(&[&slashes(253)]), runs(&slashes(253), None));
    assert_eq!(line(&[&slashes(254)]), Err(8));
    assert_eq!(line(&[&slashes(254), b"\n foo"]), Err(8));
    assert_eq!(line(&[A, &[b' '; 300], b"x\n"]), runs(A, None));
    let (_, argument) = line(&[A, b" ", &[b'q'; 300], b"\n"]).unwrap();
    assert_eq!(argument.unwrap().len(), 255 - 2 - A.len() - 1);
}

#[test]
fn the_script_path_takes_the_place_of_the_first_argument() {
    let script = Script { interpreter: b"/i".to_vec(), argument: Some(b"a".to_vec()) };
    let argv = |words: &[&str]| words.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(script.rewrite_argv(argv(&["zero", "one"]), b"./s"), argv(&["/i", "a", "./s", "one"]));
    let script = Script { argument: None, ..script };
    assert_eq!(script.rewrite_argv(argv(&[]), b"./s"), argv(&["/i", "./s"]));
}

#[test]
fn the_sixth_script_in_a_chain_is_eloop() {
    assert_eq!((MAX_REWRITES, too_many_rewrites().errno.0), (5, 40));
}
