//! `/proc/net/unix`.

use super::{Unix, names};
use crate::socket::Shutdown;
use alloc::string::String;
use core::fmt::Write;

/// `SO_ACCEPTCON` of the flags column.
const ACCEPTS: u32 = 0x10000;
/// `SS_UNCONNECTED`, `SS_CONNECTED` of the state column.
const UNCONNECTED: u32 = 1;
const CONNECTED: u32 = 3;

/// The table as text (proc(5)).
pub fn table() -> String {
    let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n");
    for socket in names::all() {
        line(&mut text, &socket);
    }
    text
}

fn line(text: &mut String, socket: &Unix) {
    let (name, connected) = {
        let link = socket.link.lock();
        (link.name.clone(), link.connected)
    };
    let flags = if socket.inbox.lock().is_listening() { ACCEPTS } else { 0 };
    let state = if connected && !socket.is_shut(Shutdown::all()) { CONNECTED } else { UNCONNECTED };
    let count = 2 + u32::from(connected);
    let _ = write!(
        text,
        "{:016x}: {count:08X} 00000000 {flags:08X} {:04X} {state:02X} {:5}",
        0, socket.common.kind, socket.common.birth.ino
    );
    if let Some(name) = name {
        text.push(' ');
        let shown = match name.text.split_last() {
            Some((0, path)) if name.place.is_some() => path,
            _ => &name.text,
        };
        // An abstract name is shown with `@` for each NUL.
        for byte in shown {
            text.push(if *byte == 0 { '@' } else { char::from(*byte) });
        }
    }
    text.push('\n');
}
