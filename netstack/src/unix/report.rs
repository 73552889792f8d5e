//! `/proc/net/unix`, and what sock_diag(7) tells.

use super::{Unix, names};
use crate::socket::Shutdown;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

/// `SO_ACCEPTCON` of the flags column.
const ACCEPTS: u32 = 0x10000;
/// `SS_UNCONNECTED`, `SS_CONNECTED` of the state column.
const UNCONNECTED: u32 = 1;
const CONNECTED: u32 = 3;
/// The host kernel's own states (`TCP_*`).
const ESTABLISHED: u32 = 1;
const CLOSE: u32 = 7;
const LISTEN: u32 = 10;

/// One socket's facts.
pub struct Line {
    /// `SOCK_*`.
    pub kind: u32,
    /// State number of the host kernel (`TCP_*`).
    pub state: u32,
    /// Inode number.
    pub ino: u64,
    /// Its name: a path without a NUL at its end, or an abstract name with its NUL in front.
    pub name: Vec<u8>,
}

/// How many there are.
pub fn count() -> usize {
    names::all().len()
}

/// All sockets, in the order of their making.
pub fn lines() -> Vec<Line> {
    names::all().iter().map(|socket| facts(socket)).collect()
}

fn facts(socket: &Unix) -> Line {
    let (name, connected) = {
        let link = socket.link.lock();
        (link.name.clone(), link.connected)
    };
    let connected = connected && !socket.is_shut(Shutdown::all());
    let state = match connected {
        true => ESTABLISHED,
        false if socket.inbox.lock().is_listening() => LISTEN,
        false => CLOSE,
    };
    let name = name.map_or_else(Vec::new, |name| match name.text.split_last() {
        Some((0, path)) if name.place.is_some() => path.to_vec(),
        _ => name.text.to_vec(),
    });
    Line { kind: socket.common.kind, state, ino: socket.common.birth.ino, name }
}

/// The table as text (proc(5)).
pub fn table() -> String {
    let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    for Line { kind, state, ino, name } in lines() {
        let flags = if state == LISTEN { ACCEPTS } else { 0 };
        let shown = if state == ESTABLISHED { CONNECTED } else { UNCONNECTED };
        let count = 2 + u32::from(state == ESTABLISHED);
        let _ = write!(text, "{:016x}: {count:08X} 00000000 {flags:08X} {kind:04X} {shown:02X} {ino:5}", 0);
        if !name.is_empty() {
            text.push(' ');
            // An abstract name is shown with `@` for each NUL.
            text.extend(name.iter().map(|byte| if *byte == 0 { '@' } else { char::from(*byte) }));
        }
        text.push('\n');
    }
    text
}
