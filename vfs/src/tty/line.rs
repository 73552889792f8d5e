//! The line discipline (the `N_TTY` of Linux): what becomes of bytes between the master and the slave of a pseudo-terminal.
//!
//! Pure logic: nobody sleeps here, and nobody is told here. What others have to learn is noted as [`News`]. Input is in
//! `input.rs`, echoes and output in `output.rs`; this file has the state and what programs read.

use super::settings::Settings;
use crate::Result;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use kernel::uaccess::Sink;
use linux_raw_sys::general as raw;

/// Bytes of input that are kept for the program (`N_TTY_BUF_SIZE`).
pub(super) const RING: usize = 4096;
/// Bytes on the way to the other side before they are in its buffer (what `pty_common_install` sets).
pub(super) const IN_FLIGHT: usize = 8192;
/// Output that the master has not read: what its buffer takes, and what is on the way there.
pub(super) const OUTPUT: usize = RING - 1 + IN_FLIGHT;

bitflags::bitflags! {
    /// What came about: who is to be woken, and which signals the foreground group gets.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct News: u32 {
        /// The slave can be read.
        const SLAVE_READ = 1;
        /// The slave can be written.
        const SLAVE_WRITE = 2;
        /// The master can be read.
        const MASTER_READ = 4;
        /// The master can be written.
        const MASTER_WRITE = 8;
        /// SIGINT.
        const INTERRUPT = 16;
        /// SIGQUIT.
        const QUIT = 32;
        /// SIGTSTP.
        const SUSPEND = 64;
    }
}

/// A byte, or a move of the cursor, that the terminal shows of what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// Passes through output processing.
    Byte(u8),
    /// A control character, shown as `^X`.
    Control(u8),
    /// Takes back a tab that stood behind so many columns (from the start of the input, or of another tab).
    EraseTab { columns: usize, after_tab: bool },
    /// The input starts at this column.
    InputStarts,
    /// The cursor is one column further to the left than the bytes say.
    BackColumn,
}

/// The state of one terminal's line discipline.
pub struct Line {
    /// What it is set to.
    pub settings: Settings,
    ring: Box<[u8; RING]>,
    /// Bytes of the ring that end a line, by place.
    ends: Box<[u64; RING / 64]>,
    /// Bytes put so far, of which those from `tail` on are there.
    pub(super) head: usize,
    /// Bytes taken so far.
    tail: usize,
    /// Up to here, input is whole lines.
    pub(super) canonical: usize,
    /// The next byte is taken as it is (`VLNEXT`).
    pub(super) literal: bool,
    /// Erased characters are being shown (`ECHOPRT`).
    pub(super) erasing: bool,
    /// The last "line" has no end of its own: it was there when canonical mode was switched on.
    pushed: bool,
    pub(super) column: usize,
    pub(super) input_column: usize,
    pub(super) echoes: VecDeque<Echo>,
    /// Output that the master has not read.
    pub(super) output: VecDeque<u8>,
    /// Output has stopped (Ctrl-S, `TCOOFF`).
    pub(super) stopped: bool,
    /// By `TCOOFF`: Ctrl-Q does not start it.
    pub(super) stopped_by_call: bool,
    /// The master reads packets (`TIOCPKT`).
    pub(super) packets: bool,
    /// What the next packet tells.
    pub(super) packet_status: u32,
    /// What came about and nobody was told yet.
    pub news: News,
}

impl Line {
    /// A fresh one.
    pub fn new() -> Line {
        Line {
            settings: Settings::fresh(),
            ring: Box::new([0; RING]),
            ends: Box::new([0; RING / 64]),
            head: 0,
            tail: 0,
            canonical: 0,
            literal: false,
            erasing: false,
            pushed: false,
            column: 0,
            input_column: 0,
            echoes: VecDeque::new(),
            output: VecDeque::new(),
            stopped: false,
            stopped_by_call: false,
            packets: false,
            packet_status: 0,
            news: News::default(),
        }
    }

    /// Whether input comes in lines.
    pub fn is_canonical(&self) -> bool {
        self.settings.local(raw::ICANON) && !self.settings.local(raw::EXTPROC)
    }

    pub(super) fn at(&self, place: usize) -> u8 {
        self.ring.get(place % RING).copied().unwrap_or(0)
    }

    fn is_end(&self, place: usize) -> bool {
        let place = place % RING;
        self.ends.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 != 0)
    }

    pub(super) fn mark_end(&mut self, place: usize, end: bool) {
        let place = place % RING;
        if let Some(word) = self.ends.get_mut(place / 64) {
            let bit = 1 << (place % 64);
            *word = if end { *word | bit } else { *word & !bit };
        }
    }

    /// Puts a byte to the input that programs read.
    pub(super) fn put(&mut self, byte: u8) {
        let place = self.head % RING;
        if let Some(slot) = self.ring.get_mut(place) {
            *slot = byte;
        }
        self.head += 1;
    }

    /// Bytes kept for the program.
    pub(super) fn held(&self) -> usize {
        self.head - self.tail
    }

    /// Whether the last line that was typed has no end yet.
    pub fn has_unfinished_line(&self) -> bool {
        self.head != self.canonical
    }

    /// Whether no whole line is there.
    pub(super) fn no_line(&self) -> bool {
        self.canonical == self.tail
    }

    /// Whether a read has something to take: a line, or `least` bytes.
    pub fn has_input(&self, least: usize) -> bool {
        if self.is_canonical() { !self.no_line() } else { self.held() >= least.max(1) }
    }

    /// `FIONREAD`: bytes that can be read, without the marks of an end of file.
    pub fn readable_bytes(&self) -> usize {
        if !self.is_canonical() {
            return self.held();
        }
        let marks = (self.tail..self.canonical).filter(|&place| self.is_end(place) && self.at(place) == 0);
        self.canonical - self.tail - marks.count()
    }

    /// Moves bytes from the tail to a sink; as many as were put.
    fn give(&mut self, count: usize, sink: &mut Sink<'_>) -> Result<usize> {
        let mut done = 0;
        while done < count {
            let from = (self.tail + done) % RING;
            let length = (count - done).min(RING - from);
            let put = match sink.put(self.ring.get(from..from + length).unwrap_or(&[])) {
                Err(errno) if done == 0 => return Err(errno),
                other => other.unwrap_or(0),
            };
            done += put;
            if put < length {
                break;
            }
        }
        Ok(done)
    }

    /// Takes what a read gets at once: of one line as much as there is room for, or whatever there is. `None` if there is
    /// nothing; 0 bytes are an end of file.
    pub fn read(&mut self, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        if !self.has_input(1) {
            return None;
        }
        if !self.is_canonical() {
            let outcome = self.give(self.held().min(sink.left()), sink);
            self.tail += *outcome.as_ref().unwrap_or(&0);
            return Some(outcome);
        }
        let there = (self.canonical - self.tail).min(sink.left());
        let end = (self.tail..self.tail + there).find(|&place| self.is_end(place));
        let length = end.map_or(there, |end| end - self.tail);
        let with_end = length + usize::from(end.is_some_and(|end| self.at(end) != 0));
        let given = match self.give(with_end, sink) {
            Ok(given) if given == with_end => given,
            other => {
                self.tail += *other.as_ref().unwrap_or(&0);
                return Some(other);
            }
        };
        self.tail += length;
        match end {
            Some(end) => self.pass_end(end),
            // The program's buffer is full: an end of file right behind belongs to what it holds.
            None if sink.left() == 0 && !self.no_line() && self.at_end_of_file() => self.pass_end(self.tail),
            None => {}
        }
        Some(Ok(given))
    }

    fn at_end_of_file(&self) -> bool {
        self.is_end(self.tail) && self.at(self.tail) == 0
    }

    fn pass_end(&mut self, end: usize) {
        self.mark_end(end, false);
        self.tail = end + 1;
        self.pushed = false;
    }

    /// Forgets what was typed and not read (`TCIFLUSH`).
    pub fn flush_input(&mut self) {
        self.tail = self.head;
        self.canonical = self.head;
        self.ends.fill(0);
        self.erasing = false;
        self.pushed = false;
        self.tell_packet(raw::TIOCPKT_FLUSHREAD);
    }

    /// Forgets output that is on the way to the master and not in its buffer (`TCOFLUSH`).
    pub fn flush_output(&mut self) {
        self.output.truncate(RING - 1);
        self.tell_packet(raw::TIOCPKT_FLUSHWRITE);
        self.news |= News::SLAVE_WRITE;
    }

    /// Notes something for a master that reads packets.
    pub(super) fn tell_packet(&mut self, status: u32) {
        if self.packets {
            self.packet_status |= status;
            self.news |= News::MASTER_READ;
        }
    }

    /// New settings (`TCSETS`).
    pub fn set(&mut self, new: Settings) {
        let old = core::mem::replace(&mut self.settings, new.for_pty());
        let new = self.settings;
        self.tell_of_settings(&old);
        if (old.lflag ^ new.lflag) & (raw::ICANON | raw::EXTPROC) != 0 {
            self.ends.fill(0);
            self.pushed = false;
            self.canonical = self.tail;
            if new.local(raw::ICANON) && self.held() > 0 {
                self.mark_end(self.head - 1, true);
                self.canonical = self.head;
                self.pushed = true;
            }
            self.erasing = false;
            self.literal = false;
        }
        if !new.input(raw::IXON) && old.input(raw::IXON) && !self.stopped_by_call {
            self.start();
        }
        self.news |= News::SLAVE_READ | News::SLAVE_WRITE;
    }

    fn tell_of_settings(&mut self, old: &Settings) {
        let (before, now) = (old.usual_flow_control(), self.settings.usual_flow_control());
        if before != now {
            self.packet_status &= !(raw::TIOCPKT_DOSTOP | raw::TIOCPKT_NOSTOP);
            self.tell_packet(if now { raw::TIOCPKT_DOSTOP } else { raw::TIOCPKT_NOSTOP });
        }
        if (old.lflag | self.settings.lflag) & raw::EXTPROC != 0 {
            self.tell_packet(raw::TIOCPKT_IOCTL);
        }
    }

    /// Stops output.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.packet_status &= !raw::TIOCPKT_START;
            self.tell_packet(raw::TIOCPKT_STOP);
        }
    }

    /// Starts it again, unless a call has stopped it.
    pub fn start(&mut self) {
        if self.stopped && !self.stopped_by_call {
            self.stopped = false;
            self.packet_status &= !raw::TIOCPKT_STOP;
            self.tell_packet(raw::TIOCPKT_START);
            self.show_echoes();
            self.news |= News::SLAVE_WRITE;
        }
    }

    /// `TCOOFF`, `TCOON`.
    pub fn stop_by_call(&mut self, off: bool) {
        if off == self.stopped_by_call {
            return;
        }
        self.stopped_by_call = off;
        if off {
            self.stop();
        } else {
            self.start();
        }
    }
}
