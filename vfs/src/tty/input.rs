//! Bytes that are typed: special characters, erasure, lines (termios(3), "Canonical and noncanonical mode").

use super::chars::{continues, is_control, is_word, to_lower};
use super::line::{Echo, Line, News, RING};
use alloc::collections::VecDeque;
use linux_raw_sys::general as raw;

/// What an erasing character takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

impl Line {
    /// Takes typed bytes from `from` as long as there is room for what becomes of them.
    pub fn receive(&mut self, from: &mut VecDeque<u8>) {
        let before = (self.head, self.canonical);
        while self.make_room() {
            let Some(byte) = from.pop_front() else { break };
            self.typed(byte);
            self.news |= News::MASTER_WRITE;
        }
        self.show_echoes();
        let more = if self.is_canonical() { self.canonical != before.1 } else { self.head != before.0 };
        if more {
            self.news |= News::SLAVE_READ;
        }
    }

    /// Whether one more byte can be taken. A line that is too long keeps its start, and its last byte gives way: it can
    /// still be erased and ended.
    fn make_room(&mut self) -> bool {
        let free = RING - self.held().min(RING);
        let free = if self.settings.input(raw::PARMRK) { free.div_ceil(3) } else { free };
        if free > 1 {
            return true;
        }
        let overflows = self.settings.local(raw::ICANON) && self.no_line();
        if overflows && free == 0 {
            self.head -= 1;
        }
        overflows
    }

    fn typed(&mut self, byte: u8) {
        let settings = &self.settings;
        let mut byte = byte;
        if settings.input(raw::ISTRIP) {
            byte &= 0x7f;
        }
        if settings.input(raw::IUCLC) && settings.local(raw::IEXTEN) {
            byte = to_lower(byte);
        }
        if settings.local(raw::EXTPROC) {
            self.put(byte);
        } else if core::mem::take(&mut self.literal) {
            self.ordinary(byte);
        } else {
            self.special(byte);
        }
    }

    /// A byte that means nothing but itself.
    fn ordinary(&mut self, byte: u8) {
        self.start_by_any();
        if self.settings.local(raw::ECHO) {
            self.finish_erasing();
            self.echo_typed(byte);
        }
        self.put_marked(byte);
    }

    /// With `PARMRK`, 255 is doubled: alone it would introduce a mark.
    fn put_marked(&mut self, byte: u8) {
        if byte == 0xff && self.settings.input(raw::PARMRK) {
            self.put(byte);
        }
        self.put(byte);
    }

    fn echo_typed(&mut self, byte: u8) {
        if self.canonical == self.head {
            self.echo(Echo::InputStarts);
        }
        self.echo_visibly(byte);
    }

    fn start_by_any(&mut self) {
        if self.settings.input(raw::IXON) && self.settings.input(raw::IXANY) {
            self.start();
        }
    }

    /// A byte that may mean something: flow control, signals, line ends, editing.
    fn special(&mut self, byte: u8) {
        let settings = self.settings;
        if settings.input(raw::IXON) {
            if settings.is(raw::VSTART, byte) {
                self.start();
                return;
            }
            if settings.is(raw::VSTOP, byte) {
                self.stop();
                return;
            }
        }
        if settings.local(raw::ISIG) {
            for (index, signal) in
                [(raw::VINTR, News::INTERRUPT), (raw::VQUIT, News::QUIT), (raw::VSUSP, News::SUSPEND)]
            {
                if settings.is(index, byte) {
                    self.signal(byte, signal);
                    return;
                }
            }
        }
        let translated = match byte {
            b'\r' if settings.input(raw::IGNCR) => return,
            b'\r' if settings.input(raw::ICRNL) => b'\n',
            b'\n' if settings.input(raw::INLCR) => b'\r',
            other => other,
        };
        self.start_by_any();
        if settings.local(raw::ICANON) && self.edit(translated) {
            return;
        }
        // A line feed that was typed as such is shown as `^J` here; one that was a carriage return moves the cursor.
        if translated == b'\n' && byte != translated {
            if settings.local(raw::ECHO) {
                self.finish_erasing();
                self.echo(Echo::Byte(translated));
            }
            self.put(translated);
        } else {
            self.ordinary(translated);
        }
    }

    fn signal(&mut self, byte: u8, signal: News) {
        self.news |= signal;
        if !self.settings.local(raw::NOFLSH) {
            self.echoes.clear();
            self.flush_output();
            self.flush_input();
        }
        if self.settings.input(raw::IXON) {
            self.start();
        }
        if self.settings.local(raw::ECHO) {
            self.echo_visibly(byte);
        }
    }

    /// Editing characters and line ends of canonical mode. Whether it was one.
    fn edit(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        let extended = settings.local(raw::IEXTEN);
        let echo = settings.local(raw::ECHO);
        if settings.is(raw::VERASE, byte) {
            self.erase(Erase::Character);
        } else if settings.is(raw::VWERASE, byte) && extended {
            self.erase(Erase::Word);
        } else if settings.is(raw::VKILL, byte) {
            self.erase(Erase::Line);
        } else if settings.is(raw::VLNEXT, byte) && extended {
            self.literal = true;
            if echo {
                self.finish_erasing();
                if settings.local(raw::ECHOCTL) {
                    self.echo(Echo::Byte(b'^'));
                    self.echo(Echo::Byte(8));
                }
            }
        } else if settings.is(raw::VREPRINT, byte) && extended && echo {
            self.finish_erasing();
            self.echo_visibly(byte);
            self.echo(Echo::Byte(b'\n'));
            for place in self.canonical..self.head {
                self.echo_visibly(self.at(place));
            }
        } else if byte == b'\n' {
            if echo || settings.local(raw::ECHONL) {
                self.echo(Echo::Byte(b'\n'));
            }
            self.end_line(byte);
        } else if settings.is(raw::VEOF, byte) {
            self.end_line(0);
        } else if settings.is(raw::VEOL, byte) || (settings.is(raw::VEOL2, byte) && extended) {
            if echo {
                self.echo_typed(byte);
            }
            if byte == 0xff && settings.input(raw::PARMRK) {
                self.put(byte);
            }
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    /// 0 marks an end of file: the line ends without a byte of its own.
    fn end_line(&mut self, byte: u8) {
        self.mark_end(self.head, true);
        self.put(byte);
        self.canonical = self.head;
    }

    fn erase(&mut self, what: Erase) {
        if self.head == self.canonical {
            return;
        }
        let settings = self.settings;
        let echo = settings.local(raw::ECHO);
        let one_by_one =
            settings.local(raw::ECHOK) && settings.local(raw::ECHOKE) && settings.local(raw::ECHOE);
        if what == Erase::Line && !(echo && one_by_one) {
            self.head = self.canonical;
            if echo {
                self.finish_erasing();
                self.echo_visibly(settings.character(raw::VKILL));
                if settings.local(raw::ECHOK) {
                    self.echo(Echo::Byte(b'\n'));
                }
            }
            return;
        }
        let mut in_word = false;
        while self.head > self.canonical {
            let Some((start, byte)) = self.last_character() else { break };
            if what == Erase::Word {
                if is_word(byte) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let end = core::mem::replace(&mut self.head, start);
            if echo {
                self.show_erasure(what, byte, end);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.head == self.canonical && echo {
            self.finish_erasing();
        }
    }

    /// Where the last character before `head` starts, and its first byte; `None` for a part of one only.
    fn last_character(&self) -> Option<(usize, u8)> {
        let utf8 = self.settings.input(raw::IUTF8);
        let mut place = self.head;
        while place > self.canonical {
            place -= 1;
            let byte = self.at(place);
            if !(utf8 && continues(byte)) {
                return Some((place, byte));
            }
        }
        None
    }

    /// Shows that the character from `head` to `end` is gone.
    fn show_erasure(&mut self, what: Erase, byte: u8, end: usize) {
        let settings = self.settings;
        if settings.local(raw::ECHOPRT) {
            if !self.erasing {
                self.echo(Echo::Byte(b'\\'));
                self.erasing = true;
            }
            self.echo_visibly(byte);
            for place in self.head + 1..end {
                self.echo(Echo::Byte(self.at(place)));
                self.echo(Echo::BackColumn);
            }
        } else if what == Erase::Character && !settings.local(raw::ECHOE) {
            self.echo_visibly(settings.character(raw::VERASE));
        } else if byte == b'\t' {
            self.echo_erased_tab();
        } else {
            let columns = match (is_control(byte), settings.local(raw::ECHOCTL)) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..columns {
                for shown in [8, b' ', 8] {
                    self.echo(Echo::Byte(shown));
                }
            }
        }
    }

    /// A tab is as wide as what stands before it says.
    fn echo_erased_tab(&mut self) {
        let utf8 = self.settings.input(raw::IUTF8);
        let mut columns = 0;
        let mut after_tab = false;
        for place in (self.canonical..self.head).rev() {
            let byte = self.at(place);
            if byte == b'\t' {
                after_tab = true;
                break;
            } else if is_control(byte) {
                columns += if self.settings.local(raw::ECHOCTL) { 2 } else { 0 };
            } else if !(utf8 && continues(byte)) {
                columns += 1;
            }
        }
        self.echo(Echo::EraseTab { columns, after_tab });
    }

    fn finish_erasing(&mut self) {
        if core::mem::take(&mut self.erasing) {
            self.echo(Echo::Byte(b'/'));
        }
    }
}
