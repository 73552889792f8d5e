//! ioctl_tty(2) on a host terminal.
//!
//! Settings and sizes go to the host, through copies in kernel memory. Sessions and process groups are virtual: host ids
//! never show inside, and the host's terminal knows one group only, that of the sandbox.

use crate::{Errno, Result};
use kernel::task::{self, AtomicPid, Pid};
use kernel::uaccess;
use linux_raw_sys::ioctl as raw;
use trap_handler::{copy, host};

/// A terminal as the sandbox sees it.
#[derive(Default)]
pub struct Terminal {
    /// Foreground process group; [`Pid::NONE`] until one was set.
    foreground: AtomicPid,
}

/// How an argument travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    /// Written by the host: so many bytes.
    Out(usize),
    /// Read by the host: so many bytes.
    In(usize),
    /// A number.
    Number,
}

const TERMIOS: usize = 36;
const WINSIZE: usize = 8;
const INT: usize = 4;

/// What passes to the host: exactly the commands that the filter allows when a standard descriptor is a terminal
/// (`runtime/src/filter/table.rs`); any other would end the sandbox.
fn passed(command: u32) -> Option<Argument> {
    Some(match command {
        raw::TCGETS => Argument::Out(TERMIOS),
        raw::TCSETS | raw::TCSETSW | raw::TCSETSF => Argument::In(TERMIOS),
        raw::TIOCGWINSZ => Argument::Out(WINSIZE),
        raw::FIONREAD => Argument::Out(INT),
        raw::TCFLSH => Argument::Number,
        _ => return None,
    })
}

/// Major numbers of terminals (the host kernel's `Documentation/admin-guide/devices.txt`).
fn terminal_major(rdev: u64) -> bool {
    matches!((rdev >> 8) & 0xfff, 4 | 5 | 136..=143 | 188 | 204 | 229)
}

impl Terminal {
    /// Whether a character device is a terminal. Devices that cannot be one are not asked: the filter may not allow it.
    pub(super) fn is_one(fd: i32, rdev: u64) -> bool {
        let mut settings = [0u8; TERMIOS];
        // SAFETY: TCGETS writes less than the buffer holds.
        terminal_major(rdev) && unsafe { host::ioctl(fd, raw::TCGETS, settings.as_mut_ptr() as u64) }.is_ok()
    }

    /// The foreground process group: who gets the signals of the keyboard. [`Pid::NONE`] until a shell has set one.
    pub fn foreground(&self) -> Pid {
        self.foreground.load()
    }

    pub(super) fn ioctl(&self, fd: i32, command: u32, argument: u64) -> Result<u64> {
        match command {
            raw::TIOCGPGRP => {
                let own = &task::current().group;
                let group = match self.foreground() {
                    Pid::NONE => own.place().0,
                    set => set,
                };
                uaccess::write(argument, &own.space.shown(group))?;
                Ok(0)
            }
            raw::TIOCSPGRP => {
                let group: i32 = uaccess::read(argument)?;
                if group < 0 {
                    return Err(Errno::EINVAL);
                }
                let own = &task::current().group;
                let (session, group) = (own.place().1, own.space.named(group).ok_or(Errno::EPERM)?);
                let groups = task::lock_table()?.groups();
                let members = |sid, pgid| (sid == session && pgid == group).then_some(());
                let found = groups.iter().find_map(|other| {
                    let family = other.family.lock();
                    members(family.sid, family.pgid)
                });
                found.ok_or(Errno::EPERM)?;
                self.foreground.store(group);
                Ok(0)
            }
            raw::TIOCGSID => {
                let own = &task::current().group;
                uaccess::write(argument, &own.space.shown(own.place().1))?;
                Ok(0)
            }
            // It is the controlling terminal of the only session that has one.
            raw::TIOCSCTTY | raw::TIOCNOTTY => Ok(0),
            // Typing into the terminal of whoever started the sandbox: as with `dev.tty.legacy_tiocsti=0`.
            raw::TIOCSTI => Err(Errno::EIO),
            _ => pass(fd, command, argument),
        }
    }
}

fn pass(fd: i32, command: u32, argument: u64) -> Result<u64> {
    let mut buffer = [0u8; TERMIOS];
    // EINVAL, as a terminal driver without the command says; ENOTTY would deny that it is a terminal.
    match passed(command).ok_or(Errno::EINVAL)? {
        Argument::Number => {
            // SAFETY: these commands take a number.
            unsafe { host::ioctl(fd, command, argument) }.map_err(restart)
        }
        Argument::In(length) => {
            let bytes = buffer.get_mut(..length).ok_or(Errno::EINVAL)?;
            copy::from_user(bytes, argument)?;
            // SAFETY: the command reads as many bytes as the table says.
            unsafe { host::ioctl(fd, command, bytes.as_ptr() as u64) }.map_err(restart)
        }
        Argument::Out(length) => {
            let bytes = buffer.get_mut(..length).ok_or(Errno::EINVAL)?;
            // SAFETY: the command writes as many bytes as the table says.
            let result = unsafe { host::ioctl(fd, command, bytes.as_mut_ptr() as u64) }?;
            uaccess::write_bytes(argument, bytes)?;
            Ok(result)
        }
    }
}

fn restart(error: Errno) -> Errno {
    if error == Errno::EINTR { Errno::ERESTARTSYS } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_on_the_outside_is_not_passed() {
        for command in
            [raw::TIOCSTI, raw::TIOCSCTTY, raw::TIOCSPGRP, raw::TIOCLINUX, raw::TIOCCONS, raw::TIOCSETD]
        {
            assert_eq!(passed(command), None);
        }
    }

    #[test]
    fn settings_have_the_sizes_of_the_kernel_abi() {
        assert_eq!(size_of::<linux_raw_sys::general::termios>(), TERMIOS);
        assert_eq!(size_of::<linux_raw_sys::general::winsize>(), WINSIZE);
    }
}
