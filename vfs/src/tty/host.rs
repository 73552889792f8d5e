//! Terminals of the host (`sandbox-exec --tty`): pseudo-terminals whose master is the host's.
//!
//! The supervisor has the host's terminal and passes bytes on through a socket; the warden is the master of the sandbox's own
//! terminal, which is that of the first process, or of one that has entered. So the sandbox holds no terminal of the host, and line discipline, sessions
//! and signals are those of every other pseudo-terminal.

use super::line::News;
use super::slave::Slave;
use super::{Pair, make_pair};
use crate::Result;
use crate::file::{FileRef, OpenFile};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::hostpoll::{self, Watch};
use kernel::poll::PollEvents;
use kernel::sync::{BootCell, Mutex};
use kernel::task::{ControllingTerminal, ThreadGroup};
use kernel::wait::{Told, Wake};
use linux_raw_sys::general as raw;
use trap_handler::block::ThreadBlock;
use trap_handler::host;

/// Bytes that pass at once.
const PIECE: usize = 4096;

/// The master of a terminal of the host's.
struct HostTerminal {
    /// The supervisor's number of the process whose terminal it is.
    number: u32,
    pair: Arc<Pair>,
    /// The socket, which does not block.
    fd: i32,
    watch: Arc<Watch>,
    /// Nothing comes from the host any more.
    ended: AtomicBool,
    /// The process has ended: when its last output is passed on, so has the terminal.
    left: AtomicBool,
}

/// Those that there are. The lock is held to look only.
static HOSTS: BootCell<Box<Mutex<Vec<Arc<HostTerminal>>>>> = BootCell::new();

/// Sets up. Called once, at boot.
pub(super) fn init() {
    HOSTS.set(Box::default());
}

fn all() -> Vec<Arc<HostTerminal>> {
    HOSTS.get().map(|hosts| hosts.lock().clone()).unwrap_or_default()
}

fn of(number: u32) -> Option<Arc<HostTerminal>> {
    HOSTS.get()?.lock().iter().find(|host| host.number == number).cloned()
}

/// The warden has to look when there is something to pass on.
struct WakeWarden;

impl Wake for WakeWarden {
    fn tell(&self, _events: PollEvents) -> Told {
        Told { taken: true, sleeps: true }
    }

    fn rouse(&self) {
        hostpoll::wake_warden();
    }
}

/// Makes the terminal of the process `number` for a socket, with `owner` as the owner of its name; its slave, for the standard
/// descriptors. The socket is closed with it, also if it cannot be made.
pub fn attach_host(number: u32, fd: i32, size: raw::winsize, owner: u32) -> Result<FileRef> {
    let watch = Watch::new(fd);
    let made = make_pair(owner).and_then(|pair| {
        pair.with(|state| {
            state.locked = false;
            state.size = size;
        });
        let slave = Slave::open(pair.clone(), raw::O_RDWR)?;
        Ok((pair, slave))
    });
    let (pair, slave) = made.inspect_err(|_| watch.close())?;
    for queue in [&pair.queues.master_read, &pair.queues.master_write] {
        queue.add(Arc::new(WakeWarden), false);
    }
    let (ended, left) = (AtomicBool::new(false), AtomicBool::new(false));
    let host = Arc::new(HostTerminal { number, pair, fd, watch, ended, left });
    if let Some(hosts) = HOSTS.get() {
        hosts.lock().push(host);
    }
    Ok(OpenFile::new(Arc::new(slave), None, raw::O_RDWR))
}

/// Makes the terminal of the process `number`, if it has one, control the session that `leader` leads, which has not begun to run.
pub fn control_by_host(number: u32, leader: &ThreadGroup) {
    let Some(host) = of(number) else { return };
    let mut family = leader.family.lock();
    let mut state = host.pair.state.lock();
    (state.session, state.foreground) = (family.sid, family.pgid);
    family.terminal = Some(host.pair.clone() as Arc<dyn ControllingTerminal>);
}

/// The window of a terminal of the host's has changed.
pub fn host_resized(number: u32, size: raw::winsize) {
    if let Some(host) = of(number) {
        super::ioctl::resize(&host.pair, size);
    }
}

/// A terminal of the host's has gone.
pub fn host_gone(number: u32) {
    if let Some(host) = of(number) {
        host.go();
    }
}

/// The process `number` has ended.
pub fn host_left(number: u32) {
    if let Some(host) = of(number) {
        host.left.store(true, Ordering::SeqCst);
        hostpoll::wake_warden();
    }
}

/// Passes on what there is, in both directions, without waiting. Called by the warden whenever it was woken.
pub fn serve_host() {
    for host in all() {
        // Before the look at its output: one that leaves after it may have written more.
        let left = host.left.load(Ordering::SeqCst);
        let rest = host.give();
        host.take();
        if left && !rest {
            host.go();
            if let Some(hosts) = HOSTS.get() {
                hosts.lock().retain(|other| !Arc::ptr_eq(other, &host));
            }
            host.pair.closed();
            host.watch.close();
        }
    }
}

/// Passes on the last output, for as long as the host takes it and until `deadline` (`CLOCK_MONOTONIC`, ns): the sandbox is
/// about to end.
pub fn drain_host(deadline: u64) {
    for host in all() {
        while host.give() && !host.ended.load(Ordering::SeqCst) {
            let left = deadline.saturating_sub(kernel::time::monotonic());
            let mut fds = [raw::pollfd { fd: host.fd, events: raw::POLLOUT as i16, revents: 0 }];
            if left == 0 {
                return;
            }
            // The ends of children are of no interest any more, and must not keep us from sleeping.
            ThreadBlock::current().state().work.store(0, Ordering::SeqCst);
            let _ = host::ppoll_interruptible(&mut fds, Some(left));
        }
    }
}

impl HostTerminal {
    fn go(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let open = self.pair.with(|state| {
            state.line.output.clear();
            core::mem::replace(&mut state.master_open, false)
        });
        if open {
            self.pair.hang_up();
        }
    }

    /// Passes output on; whether some is left.
    fn give(&self) -> bool {
        let mut piece = [0u8; PIECE];
        loop {
            let length = self.pair.with(|state| {
                let bytes = state.line.output.iter().zip(piece.iter_mut());
                bytes.map(|(byte, slot)| *slot = *byte).count()
            });
            if length == 0 {
                return false;
            }
            match host::write(self.fd, piece.get(..length).unwrap_or(&[]).into()) {
                Ok(count) => self.pair.with(|state| {
                    // Flushed meanwhile (TCOFLUSH): what was passed on is not there any more.
                    let count = count.min(state.line.output.len());
                    state.line.output.drain(..count);
                    state.line.output_taken();
                }),
                Err(crate::Errno::EAGAIN) => {
                    self.watch.arm(PollEvents::OUT);
                    return true;
                }
                Err(crate::Errno::EINTR) => {}
                Err(_) => {
                    self.go();
                    return false;
                }
            }
        }
    }

    /// Takes what was typed on the host.
    fn take(&self) {
        let mut piece = [0u8; PIECE];
        while !self.ended.load(Ordering::SeqCst) {
            let room = self.pair.with(|state| state.room_for_typed()).min(PIECE);
            if room == 0 {
                // Told when the program has read.
                return;
            }
            match host::read(self.fd, piece.get_mut(..room).unwrap_or(&mut []).into()) {
                Ok(0) => self.input_ended(),
                Ok(count) => self.pair.with(|state| {
                    state.typed.extend(piece.iter().take(count));
                    state.deliver();
                }),
                Err(crate::Errno::EAGAIN) => {
                    self.watch.arm(PollEvents::IN);
                    return;
                }
                Err(crate::Errno::EINTR) => {}
                Err(_) => self.go(),
            }
        }
    }

    /// The host's input was a file or a pipe, and is at its end: as a terminal says that.
    fn input_ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.pair.with(|state| {
            let settings = &state.line.settings;
            if settings.local(raw::ICANON) {
                let end = settings.character(raw::VEOF);
                // The first one only ends a line that was begun.
                let times = if state.line.has_unfinished_line() { 2 } else { 1 };
                state.typed.extend(core::iter::repeat_n(end, times));
                state.deliver();
            }
            state.line.news |= News::SLAVE_READ;
        });
    }
}
