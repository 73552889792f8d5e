//! Pseudo-terminals (pty(7)): pairs of a master and a slave with a line discipline between them.
//!
//! A [`Pair`] is made by opening `/dev/ptmx`; the master's end closes with its last description, and hangs the slave up. What
//! passes between the ends is in `line.rs` and its companions, sessions and process groups are in `job.rs`.
//!
//! Locks: the list of pairs is a directory's in the lock order, the state of a pair an open file's. Signals are sent, and
//! queues woken, after the state's lock was given back ([`Pair::with`]), because the process table stands above it.

mod chars;
mod devpts;
mod host;
mod input;
mod ioctl;
mod job;
mod line;
mod master;
mod output;
mod settings;
mod slave;

pub use devpts::root as devpts_root;
pub use host::{attach_host, control_by_host, drain_host, host_gone, host_left, host_resized, serve_host};
pub use job::process_ended;
pub use master::{open_master, open_peer};
pub use slave::{open_current, open_slave};

use crate::attributes::device;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use devpts::Node;
use kernel::poll::PollEvents;
use kernel::signal::{SIGINT, SIGQUIT, SIGTSTP, SigInfo, si};
use kernel::sync::{BootCell, Mutex};
use kernel::task::{ControllingTerminal, Pid, signal_process_group};
use kernel::wait::WaitQueue;
use line::{IN_FLIGHT, Line, News};
use linux_raw_sys::general as raw;

/// Pairs at most (`kernel.pty.max`).
pub const LIMIT: usize = 4096;
/// Major number of slaves (`UNIX98_PTY_SLAVE_MAJOR`).
const SLAVE_MAJOR: u32 = 136;
/// `/dev/ptmx`.
pub const PTMX: u64 = device(5, 2);

/// What changes of a pair.
struct State {
    line: Line,
    /// Typed bytes for which the line discipline has no room yet.
    typed: VecDeque<u8>,
    size: raw::winsize,
    /// The slave cannot be opened yet (unlockpt(3)).
    locked: bool,
    master_open: bool,
    /// Open descriptions of the slave.
    slaves: usize,
    /// The slave was opened and closed for the last time: the master sees a hang-up until it is opened again.
    slave_closed: bool,
    /// How often the slave was hung up: descriptions from before are dead.
    hang_ups: u64,
    /// Opened by nobody else (`TIOCEXCL`).
    exclusive: bool,
    /// The session that it controls, and the process group in its foreground; 0 for none.
    session: Pid,
    foreground: Pid,
    /// What the master types is held back (`TCOOFF` on the master).
    master_stopped: bool,
}

impl State {
    /// Hands typed bytes to the line discipline.
    fn deliver(&mut self) {
        self.line.receive(&mut self.typed);
    }

    fn room_for_typed(&self) -> usize {
        if self.master_stopped { 0 } else { IN_FLIGHT.saturating_sub(self.typed.len()) }
    }
}

#[derive(Default)]
struct Queues {
    slave_read: WaitQueue,
    slave_write: WaitQueue,
    master_read: WaitQueue,
    master_write: WaitQueue,
}

/// A pseudo-terminal.
pub struct Pair {
    index: u32,
    node: Arc<Node>,
    state: Mutex<State>,
    queues: Queues,
    this: Weak<Pair>,
}

impl Pair {
    fn new(index: u32, owner: u32) -> Arc<Pair> {
        let size = raw::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        Arc::new_cyclic(|this: &Weak<Pair>| Pair {
            index,
            node: Node::of_slave(index, this.clone(), owner),
            state: Mutex::new(State {
                line: Line::new(),
                typed: VecDeque::new(),
                size,
                locked: true,
                master_open: true,
                slaves: 0,
                slave_closed: false,
                hang_ups: 0,
                exclusive: false,
                session: Pid::NONE,
                foreground: Pid::NONE,
                master_stopped: false,
            }),
            queues: Queues::default(),
            this: this.clone(),
        })
    }

    /// Does something with the state, then wakes and signals those whom it concerns.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (value, news, foreground) = {
            let mut state = self.state.lock();
            let value = act(&mut state);
            (value, core::mem::take(&mut state.line.news), state.foreground)
        };
        if !news.is_empty() {
            self.announce(news, foreground);
        }
        value
    }

    fn announce(&self, news: News, foreground: Pid) {
        for (what, queue, events) in [
            (News::SLAVE_READ, &self.queues.slave_read, PollEvents::READABLE),
            (News::SLAVE_WRITE, &self.queues.slave_write, PollEvents::WRITABLE),
            (News::MASTER_READ, &self.queues.master_read, PollEvents::READABLE | PollEvents::PRI),
            (News::MASTER_WRITE, &self.queues.master_write, PollEvents::WRITABLE),
        ] {
            if news.contains(what) {
                queue.wake_all(events);
            }
        }
        for (what, signal) in [(News::INTERRUPT, SIGINT), (News::QUIT, SIGQUIT), (News::SUSPEND, SIGTSTP)] {
            if news.contains(what) {
                signal_process_group(foreground, SigInfo::new(signal, si::KERNEL));
            }
        }
    }

    fn wake_everyone(&self, events: PollEvents) {
        let Queues { slave_read, slave_write, master_read, master_write } = &self.queues;
        for queue in [slave_read, slave_write, master_read, master_write] {
            queue.wake_all(events);
        }
    }

    /// One end was closed: the number is free again once both are.
    fn closed(&self) {
        let free = {
            let state = self.state.lock();
            !state.master_open && state.slaves == 0
        };
        if free {
            forget(self);
        }
    }
}

impl ControllingTerminal for Pair {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn device(&self) -> u64 {
        device(SLAVE_MAJOR, self.index)
    }

    fn foreground(&self) -> Pid {
        self.state.lock().foreground
    }
}

type Pairs = Mutex<Vec<Option<Arc<Pair>>>>;

static PAIRS: BootCell<Box<Pairs>> = BootCell::new();

/// Sets up the list of pairs. Called once, at boot.
pub fn init() {
    PAIRS.set(Box::default());
    host::init();
}

/// A new pair with the lowest free number, for a user: `ENOSPC` beyond [`LIMIT`].
fn make_pair(owner: u32) -> Result<Arc<Pair>> {
    let mut pairs = PAIRS.get().ok_or(Errno::ENXIO)?.lock();
    let index = pairs.iter().position(Option::is_none).unwrap_or(pairs.len());
    if index >= LIMIT {
        return Err(Errno::ENOSPC);
    }
    let pair = Pair::new(index as u32, owner);
    match pairs.get_mut(index) {
        Some(slot) => *slot = Some(pair.clone()),
        None => pairs.push(Some(pair.clone())),
    }
    Ok(pair)
}

/// The pair with a number, as long as its master is open.
fn find(index: u32) -> Option<Arc<Pair>> {
    let pair = PAIRS.get()?.lock().get(index as usize).cloned().flatten()?;
    let open = pair.state.lock().master_open;
    open.then_some(pair)
}

fn forget(pair: &Pair) {
    let Some(pairs) = PAIRS.get() else { return };
    let mut pairs = pairs.lock();
    let slot = pairs.get_mut(pair.index as usize);
    let ours = slot.filter(|slot| slot.as_ref().is_some_and(|other| core::ptr::eq(&**other, pair)));
    let old = ours.and_then(Option::take);
    drop(pairs);
    drop(old);
}

/// Numbers of the pairs whose masters are open.
fn numbers() -> Vec<u32> {
    let pairs: Vec<_> = PAIRS.get().map(|pairs| pairs.lock().clone()).unwrap_or_default();
    let open = |pair: &Arc<Pair>| pair.state.lock().master_open;
    pairs.into_iter().flatten().filter(open).map(|pair| pair.index).collect()
}

/// The number of the slave with a device number.
pub fn slave_number(rdev: u64) -> Option<u32> {
    let (major, minor) = ((rdev >> 8) & 0xfff, (rdev & 0xff) | (rdev >> 12 & 0xfff_ff00));
    (major == u64::from(SLAVE_MAJOR)).then_some(minor as u32)
}

/// How many there are (`kernel.pty.nr`).
pub fn count() -> usize {
    PAIRS.get().map_or(0, |pairs| pairs.lock().iter().flatten().count())
}
