//! What goes to the master: the program's output and the echo of what is typed, both through output processing (`OPOST`).

use super::chars::{continues, is_control, to_upper};
use super::line::{Echo, Line, News, OUTPUT};
use linux_raw_sys::general as raw;

/// Echoes that wait for room; the oldest go when there are more (a master that types and never reads).
const ECHOES: usize = 4096 - 288;

impl Line {
    /// Bytes that the master's side takes.
    pub fn room(&self) -> usize {
        if self.stopped { 0 } else { OUTPUT.saturating_sub(self.output.len()) }
    }

    /// The program writes; how many bytes were taken.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.show_echoes();
        let mut done = 0;
        if self.settings.output(raw::OPOST) {
            for &byte in bytes {
                if !self.process(byte) {
                    break;
                }
                done += 1;
            }
        } else {
            done = bytes.len().min(self.room());
            self.output.extend(bytes.iter().take(done));
        }
        if done > 0 {
            self.news |= News::MASTER_READ;
        }
        done
    }

    /// A byte that goes out of turn, stopped or not (`TCIOFF`).
    pub fn write_urgent(&mut self, byte: u8) {
        if self.output.len() < OUTPUT {
            self.output.push_back(byte);
            self.news |= News::MASTER_READ;
        }
    }

    fn emit(&mut self, bytes: &[u8]) -> bool {
        if self.room() < bytes.len() {
            return false;
        }
        self.output.extend(bytes);
        true
    }

    /// One byte of output; false if there is no room for what becomes of it.
    fn process(&mut self, byte: u8) -> bool {
        if self.room() == 0 {
            return false;
        }
        let settings = self.settings;
        let mut byte = byte;
        match byte {
            b'\n' => {
                if settings.output(raw::ONLRET) {
                    self.column = 0;
                }
                if settings.output(raw::ONLCR) {
                    let fits = self.emit(b"\r\n");
                    if fits {
                        (self.column, self.input_column) = (0, 0);
                    }
                    return fits;
                }
                self.input_column = self.column;
            }
            b'\r' => {
                if settings.output(raw::ONOCR) && self.column == 0 {
                    return true;
                }
                let newline = settings.output(raw::OCRNL);
                if newline {
                    byte = b'\n';
                }
                if !newline || settings.output(raw::ONLRET) {
                    (self.column, self.input_column) = (0, 0);
                }
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                if settings.oflag & raw::TABDLY == raw::XTABS {
                    let fits = self.emit(b"        ".get(..spaces).unwrap_or(b" "));
                    if fits {
                        self.column += spaces;
                    }
                    return fits;
                }
                self.column += spaces;
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if is_control(byte) => {}
            _ => {
                if settings.output(raw::OLCUC) {
                    byte = to_upper(byte);
                }
                if !(settings.input(raw::IUTF8) && continues(byte)) {
                    self.column += 1;
                }
            }
        }
        self.emit(&[byte])
    }

    /// Something is to be shown, once there is room.
    pub(super) fn echo(&mut self, echo: Echo) {
        if self.echoes.len() >= ECHOES {
            self.show_echoes();
            if self.echoes.len() >= ECHOES {
                self.echoes.pop_front();
            }
        }
        self.echoes.push_back(echo);
    }

    /// As [`Self::echo`]; control characters but tabs as `^X`, where that is asked for (`ECHOCTL`).
    pub(super) fn echo_visibly(&mut self, byte: u8) {
        let caret = self.settings.local(raw::ECHOCTL) && is_control(byte) && byte != b'\t';
        self.echo(if caret { Echo::Control(byte) } else { Echo::Byte(byte) });
    }

    /// Puts echoes to the output as far as there is room.
    pub(super) fn show_echoes(&mut self) {
        let before = self.output.len();
        while let Some(&echo) = self.echoes.front() {
            if !self.show(echo) {
                break;
            }
            self.echoes.pop_front();
        }
        if self.output.len() != before {
            self.news |= News::MASTER_READ;
        }
    }

    fn show(&mut self, echo: Echo) -> bool {
        match echo {
            Echo::Byte(byte) if self.settings.output(raw::OPOST) => self.process(byte),
            Echo::Byte(byte) => self.emit(&[byte]),
            Echo::Control(byte) => {
                let fits = self.emit(&[b'^', byte ^ 0x40]);
                if fits {
                    self.column += 2;
                }
                fits
            }
            Echo::EraseTab { columns, after_tab } => {
                let from = if after_tab { columns } else { columns + self.input_column };
                let back = 8 - from % 8;
                let fits = self.emit([8u8; 8].get(..back).unwrap_or(&[8]));
                if fits {
                    self.column = self.column.saturating_sub(back);
                }
                fits
            }
            Echo::InputStarts => {
                self.input_column = self.column;
                true
            }
            Echo::BackColumn => {
                self.column = self.column.saturating_sub(1);
                true
            }
        }
    }

    /// The master has read: what waited for room goes on.
    pub fn output_taken(&mut self) {
        self.show_echoes();
        if self.room() > 0 {
            self.news |= News::SLAVE_WRITE;
        }
    }
}
