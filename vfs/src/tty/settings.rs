//! What a terminal is set to (termios(3)), in the forms that programs hand over.

use linux_raw_sys::general as raw;

/// Settings of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are termios(3)'s")]
pub struct Settings {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; raw::NCCS as usize],
    pub ispeed: u32,
    pub ospeed: u32,
}

/// A control character that is set to this is switched off (`_POSIX_VDISABLE`).
pub const DISABLED: u8 = 0;

/// Speeds by their `B*` numbers: those below `BOTHER`, then those from `BOTHER + 1` on.
const SLOW: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
const FAST: [u32; 15] = [
    57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000,
    2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

/// The speed that a `B*` number stands for; `given` for `BOTHER`.
fn speed(number: u32, given: u32) -> u32 {
    match number & raw::CBAUD {
        raw::BOTHER => given,
        slow if slow < raw::BOTHER => SLOW.get(slow as usize).copied().unwrap_or(0),
        fast => FAST.get((fast - raw::BOTHER - 1) as usize).copied().unwrap_or(0),
    }
}

impl Settings {
    /// Those of a terminal that nobody has changed (`tty_std_termios`).
    pub fn fresh() -> Settings {
        let mut cc = [DISABLED; raw::NCCS as usize];
        for (index, character) in [
            (raw::VINTR, 3),
            (raw::VQUIT, 28),
            (raw::VERASE, 127),
            (raw::VKILL, 21),
            (raw::VEOF, 4),
            (raw::VMIN, 1),
            (raw::VSTART, 17),
            (raw::VSTOP, 19),
            (raw::VSUSP, 26),
            (raw::VREPRINT, 18),
            (raw::VDISCARD, 15),
            (raw::VWERASE, 23),
            (raw::VLNEXT, 22),
        ] {
            if let Some(slot) = cc.get_mut(index as usize) {
                *slot = character;
            }
        }
        Settings {
            iflag: raw::ICRNL | raw::IXON,
            oflag: raw::OPOST | raw::ONLCR,
            cflag: raw::B38400 | raw::CS8 | raw::CREAD,
            lflag: raw::ISIG
                | raw::ICANON
                | raw::ECHO
                | raw::ECHOE
                | raw::ECHOK
                | raw::ECHOCTL
                | raw::ECHOKE
                | raw::IEXTEN,
            line: 0,
            cc,
            ispeed: 38400,
            ospeed: 38400,
        }
    }

    /// Whether an input mode is on.
    pub fn input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    /// Whether an output mode is on.
    pub fn output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    /// Whether a local mode is on.
    pub fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// The control character with this index (`VINTR`, ...).
    pub fn character(&self, index: u32) -> u8 {
        self.cc.get(index as usize).copied().unwrap_or(DISABLED)
    }

    /// Whether `byte` is the control character with this index, which is not switched off.
    pub fn is(&self, index: u32, byte: u8) -> bool {
        byte != DISABLED && self.character(index) == byte
    }

    /// What a pseudo-terminal makes of them: it has eight bits and no parity, and speeds follow their numbers.
    pub fn for_pty(mut self) -> Settings {
        self.ospeed = speed(self.cflag, self.ospeed);
        let input = (self.cflag >> raw::IBSHIFT) & raw::CBAUD;
        self.ispeed = if input == 0 { self.ospeed } else { speed(input, self.ispeed) };
        self.cflag = self.cflag & !(raw::CSIZE | raw::PARENB) | raw::CS8 | raw::CREAD;
        self
    }

    /// Whether output stops and starts at Ctrl-S and Ctrl-Q: what packet mode tells the master of.
    pub fn usual_flow_control(&self) -> bool {
        self.input(raw::IXON) && self.character(raw::VSTOP) == 0x13 && self.character(raw::VSTART) == 0x11
    }

    /// For `TCGETS`.
    pub fn to_termios(self) -> raw::termios {
        raw::termios {
            c_iflag: self.iflag,
            c_oflag: self.oflag,
            c_cflag: self.cflag,
            c_lflag: self.lflag,
            c_line: self.line,
            c_cc: self.cc,
        }
    }

    /// For `TCGETS2`.
    pub fn to_termios2(self) -> raw::termios2 {
        raw::termios2 {
            c_iflag: self.iflag,
            c_oflag: self.oflag,
            c_cflag: self.cflag,
            c_lflag: self.lflag,
            c_line: self.line,
            c_cc: self.cc,
            c_ispeed: self.ispeed,
            c_ospeed: self.ospeed,
        }
    }

    /// From `TCSETS`: speeds stay unless their numbers say otherwise.
    pub fn with_termios(self, new: &raw::termios) -> Settings {
        Settings {
            iflag: new.c_iflag,
            oflag: new.c_oflag,
            cflag: new.c_cflag,
            lflag: new.c_lflag,
            line: new.c_line,
            cc: new.c_cc,
            ..self
        }
    }

    /// From `TCSETS2`.
    pub fn with_termios2(self, new: &raw::termios2) -> Settings {
        Settings {
            iflag: new.c_iflag,
            oflag: new.c_oflag,
            cflag: new.c_cflag,
            lflag: new.c_lflag,
            line: new.c_line,
            cc: new.c_cc,
            ispeed: new.c_ispeed,
            ospeed: new.c_ospeed,
        }
    }

    /// For `TCGETA`: `struct termio`, the lower halves and the first eight characters.
    pub fn to_termio(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        let flags = [self.iflag, self.oflag, self.cflag, self.lflag];
        for (slot, flag) in bytes.chunks_exact_mut(2).zip(flags) {
            slot.copy_from_slice(&(flag as u16).to_le_bytes());
        }
        let rest = core::iter::once(self.line).chain(self.cc.iter().take(8).copied());
        for (slot, byte) in bytes.iter_mut().skip(8).zip(rest) {
            *slot = byte;
        }
        bytes
    }

    /// From `TCSETA`.
    pub fn with_termio(mut self, bytes: &[u8; 18]) -> Settings {
        let flags = [&mut self.iflag, &mut self.oflag, &mut self.cflag, &mut self.lflag];
        for (slot, half) in flags.into_iter().zip(bytes.chunks_exact(2)) {
            let low = half.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            *slot = *slot & !0xffff | low;
        }
        self.line = bytes.get(8).copied().unwrap_or(0);
        for (slot, byte) in self.cc.iter_mut().zip(bytes.iter().skip(9).take(8)) {
            *slot = *byte;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_follow_their_numbers() {
        assert_eq!((speed(raw::B38400, 1), speed(raw::B9600, 1)), (38400, 9600));
        assert_eq!((speed(raw::B57600, 1), speed(raw::B4000000, 1)), (57600, 4_000_000));
        assert_eq!(speed(raw::BOTHER, 12345), 12345);
    }

    #[test]
    fn the_old_form_keeps_the_upper_halves() {
        let mut settings = Settings::fresh();
        settings.lflag |= 0x1_0000;
        let again = settings.with_termio(&settings.to_termio());
        assert_eq!(again, settings);
    }

    #[test]
    fn a_pty_has_eight_bits() {
        let settings = Settings { cflag: raw::CS5 | raw::PARENB | raw::B9600, ..Settings::fresh() }.for_pty();
        assert_eq!(settings.cflag, raw::CS8 | raw::CREAD | raw::B9600);
        assert_eq!((settings.ispeed, settings.ospeed), (9600, 9600));
    }
}
