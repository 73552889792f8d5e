//! ioctl_tty(2) on both ends.

use super::Pair;
use super::line::News;
use super::master::Master;
use super::settings::{DISABLED, Settings};
use super::slave::Slave;
use crate::file::OpenFile;
use crate::{Errno, Result};
use alloc::sync::Arc;
use kernel::cred::cap;
use kernel::signal::{SIGINT, SIGQUIT, SIGTSTP, SIGTTOU, SIGWINCH, SigInfo, si};
use kernel::task::{self, ControllingTerminal, Pid, PidSpace, signal_process_group};
use kernel::uaccess;
use linux_raw_sys::general::{self as raw, termios, termios2, winsize};
use linux_raw_sys::ioctl::*;

/// Which end was asked.
#[derive(Clone, Copy)]
enum End<'a> {
    Master(&'a Master),
    Slave,
}

/// On a slave.
pub(super) fn slave(slave: &Slave, command: u32, argument: u64) -> Result<u64> {
    if slave.hung_up() {
        return Err(if command == TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
    }
    let pair = &slave.pair;
    match command {
        TIOCGPGRP | TIOCGSID if !pair.is_own() => Err(Errno::ENOTTY),
        TIOCNOTTY => pair.give_up().map(|()| 0),
        TIOCSCTTY => pair.become_controlling(argument == 1, slave.readable).map(|()| 0),
        FIONREAD => {
            let length = pair.with(|state| {
                state.deliver();
                state.line.readable_bytes()
            });
            put(argument, length as i32)
        }
        TIOCCONS => Err(Errno::EPERM),
        _ => common(End::Slave, pair, command, argument),
    }
}

/// On a master: settings, size and groups are the slave's.
pub(super) fn master(master: &Master, file: &OpenFile, command: u32, argument: u64) -> Result<u64> {
    let pair = &master.pair;
    match command {
        TIOCGPTN => put(argument, pair.index as i32),
        TIOCSPTLCK => {
            let locked: i32 = uaccess::read(argument)?;
            pair.with(|state| state.locked = locked != 0);
            Ok(0)
        }
        TIOCGPTLCK => put(argument, i32::from(pair.state.lock().locked)),
        TIOCPKT => {
            let on: i32 = uaccess::read(argument)?;
            master.set_packets(on != 0);
            Ok(0)
        }
        TIOCGPKT => put(argument, i32::from(pair.state.lock().line.packets)),
        TIOCSIG => match argument as i32 {
            signal @ (SIGINT | SIGQUIT | SIGTSTP) => {
                signal_process_group(pair.foreground(), SigInfo::new(signal, si::KERNEL));
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        },
        TIOCNOTTY => Err(Errno::ENOTTY),
        TIOCSCTTY => {
            let readable = file.flags() & raw::O_ACCMODE != raw::O_WRONLY;
            pair.become_controlling(argument == 1, readable).map(|()| 0)
        }
        FIONREAD => put(argument, pair.state.lock().line.output.len().min(super::line::RING - 1) as i32),
        TIOCCONS => Err(Errno::EINVAL),
        _ => common(End::Master(master), pair, command, argument),
    }
}

fn put(address: u64, value: i32) -> Result<u64> {
    uaccess::write(address, &value).map(|()| 0)
}

/// `EIO` or a stop for a task of the background, unless the terminal is not its own (the master's end never is).
fn keep_off(end: End<'_>, pair: &Pair) -> Result<()> {
    match end {
        End::Master(_) => Ok(()),
        End::Slave => pair.keep_off(SIGTTOU),
    }
}

/// What both ends know.
fn common(end: End<'_>, pair: &Arc<Pair>, command: u32, argument: u64) -> Result<u64> {
    let settings = || pair.state.lock().line.settings;
    match command {
        TCGETS => uaccess::write(argument, &settings().to_termios())?,
        TCGETS2 => uaccess::write(argument, &settings().to_termios2())?,
        TCGETA => uaccess::write(argument, &settings().to_termio())?,
        TCSETS | TCSETSW | TCSETSF => {
            pair.keep_off(SIGTTOU)?;
            let new: termios = uaccess::read(argument)?;
            set(pair, settings().with_termios(&new), command == TCSETSF);
        }
        TCSETS2 | TCSETSW2 | TCSETSF2 => {
            pair.keep_off(SIGTTOU)?;
            let new: termios2 = uaccess::read(argument)?;
            set(pair, settings().with_termios2(&new), command == TCSETSF2);
        }
        TCSETA | TCSETAW | TCSETAF => {
            pair.keep_off(SIGTTOU)?;
            let new: [u8; 18] = uaccess::read(argument)?;
            set(pair, settings().with_termio(&new), command == TCSETAF);
        }
        // Nothing is locked, and only the privileged may.
        TIOCGLCKTRMIOS => uaccess::write(argument, &[0u8; size_of::<termios>()])?,
        TIOCSLCKTRMIOS => return Err(Errno::EPERM),
        TIOCGSOFTCAR => return put(argument, i32::from(settings().cflag & raw::CLOCAL != 0)),
        TIOCSSOFTCAR => {
            let on: i32 = uaccess::read(argument)?;
            pair.with(|state| {
                let settings = &mut state.line.settings;
                settings.cflag = settings.cflag & !raw::CLOCAL | if on != 0 { raw::CLOCAL } else { 0 };
            });
        }
        TIOCGWINSZ => {
            let size = pair.state.lock().size;
            uaccess::write(argument, &size)?;
        }
        TIOCSWINSZ => resize(pair, uaccess::read(argument)?),
        TIOCGPGRP => return put(argument, own_space().shown(pair.foreground())),
        TIOCSPGRP => {
            pair.keep_off(SIGTTOU)
                .map_err(|errno| if errno == Errno::EIO { Errno::ENOTTY } else { errno })?;
            pair.set_foreground(uaccess::read(argument)?)?;
        }
        TIOCGSID => return put(argument, own_space().shown(pair.session()?)),
        TIOCOUTQ => return put(argument, 0),
        TCFLSH => flush(end, pair, argument)?,
        TCXONC => control_flow(end, pair, argument)?,
        // Output is the master's at once; a pseudo-terminal has no line that could break.
        TCSBRK | TCSBRKP | TIOCSBRK => keep_off(end, pair)?,
        TIOCCBRK => keep_off(end, pair)?,
        // Typing into somebody else's terminal: as with `dev.tty.legacy_tiocsti=0`.
        TIOCSTI => return Err(Errno::EIO),
        TIOCEXCL | TIOCNXCL => {
            if let End::Slave = end {
                pair.with(|state| state.exclusive = command == TIOCEXCL);
            }
        }
        TIOCGEXCL => {
            let exclusive = matches!(end, End::Slave) && pair.state.lock().exclusive;
            return put(argument, i32::from(exclusive));
        }
        // There is one line discipline, `N_TTY`.
        TIOCGETD => return put(argument, 0),
        TIOCSETD => {
            keep_off(end, pair)?;
            let discipline: i32 = uaccess::read(argument)?;
            if discipline != 0 {
                return Err(Errno::EINVAL);
            }
        }
        TIOCGDEV => return put(argument, pair.device() as i32),
        TIOCVHANGUP => {
            if !task::current().cred().has(cap::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            pair.hang_up();
        }
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn set(pair: &Pair, new: Settings, flush: bool) {
    pair.with(|state| {
        if flush {
            state.line.flush_input();
        }
        state.line.set(new);
        state.deliver();
    });
}

/// A new window size: the foreground learns of a change.
pub(super) fn resize(pair: &Pair, size: winsize) {
    let fields = |size: &winsize| (size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
    let foreground = pair.with(|state| {
        let changed = fields(&state.size) != fields(&size);
        state.size = size;
        if changed { state.foreground } else { Pid::NONE }
    });
    signal_process_group(foreground, SigInfo::new(SIGWINCH, si::KERNEL));
}

/// tcflush(3).
fn flush(end: End<'_>, pair: &Pair, what: u64) -> Result<()> {
    keep_off(end, pair)?;
    let what = u32::try_from(what).map_err(|_| Errno::EINVAL)?;
    if what > raw::TCIOFLUSH {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (what != raw::TCOFLUSH, what != raw::TCIFLUSH);
    match end {
        End::Slave => pair.with(|state| {
            if input {
                state.typed.clear();
                state.line.flush_input();
                state.line.news |= News::MASTER_WRITE;
            }
            if output {
                state.line.flush_output();
            }
        }),
        End::Master(master) => {
            if input {
                master.flush_unread();
            }
            if output {
                pair.with(|state| {
                    state.typed.clear();
                    state.line.news |= News::MASTER_WRITE;
                });
            }
        }
    }
    Ok(())
}

/// tcflow(3).
fn control_flow(end: End<'_>, pair: &Pair, what: u64) -> Result<()> {
    keep_off(end, pair)?;
    let what = u32::try_from(what).map_err(|_| Errno::EINVAL)?;
    // The master's own settings are never changed: its characters are the usual ones.
    let characters = match end {
        End::Slave => pair.state.lock().line.settings,
        End::Master(_) => Settings::fresh(),
    };
    let urgent = match what {
        raw::TCOOFF | raw::TCOON => {
            let off = what == raw::TCOOFF;
            match end {
                End::Master(master) => master.hold(off),
                End::Slave => pair.with(|state| state.line.stop_by_call(off)),
            }
            return Ok(());
        }
        raw::TCIOFF => characters.character(raw::VSTOP),
        raw::TCION => characters.character(raw::VSTART),
        _ => return Err(Errno::EINVAL),
    };
    if urgent != DISABLED {
        pair.with(|state| match end {
            End::Slave => state.line.write_urgent(urgent),
            End::Master(_) => {
                state.typed.push_back(urgent);
                state.deliver();
            }
        });
    }
    Ok(())
}

/// By which numbers the running task sees sessions and process groups.
fn own_space() -> PidSpace {
    task::current().group.space
}
