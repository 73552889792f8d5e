//! Sessions and process groups at a terminal: who controls it, who is in its foreground, who must keep off (tty(4), setsid(2),
//! credentials(7)).

use super::{Pair, State};
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kernel::cred::cap;
use kernel::poll::PollEvents;
use kernel::signal::{self, SIG_IGN, SIGCONT, SIGHUP, SIGTTIN, SigInfo, bit, si};
use kernel::task::{
    self, ControllingTerminal, Family, Pid, Table, ThreadGroup, is_orphaned, lock_table,
    signal_process_group, work,
};

/// Whether `family`'s terminal is this one.
fn is_controlled_by(family: &Family, pair: &Pair) -> bool {
    let same = |terminal: &Arc<dyn ControllingTerminal>| {
        terminal.as_any().downcast_ref::<Pair>().is_some_and(|other| core::ptr::eq(other, pair))
    };
    family.terminal.as_ref().is_some_and(same)
}

/// The terminal that controls the running task's session.
pub(super) fn own_terminal() -> Option<Arc<Pair>> {
    let terminal = task::current().group.family.lock().terminal.clone()?;
    terminal.as_any().downcast_ref::<Pair>().and_then(|pair| pair.this.upgrade())
}

fn is_leader(group: &ThreadGroup, family: &Family) -> bool {
    family.sid == group.tgid
}

impl Pair {
    /// Whether it controls the running task's session.
    pub(super) fn is_own(&self) -> bool {
        is_controlled_by(&task::current().group.family.lock(), self)
    }

    /// Keeps a task that is not in the foreground off its terminal: the whole group gets `signal` (SIGTTIN, SIGTTOU) and the
    /// call starts again. `EIO` where that cannot be: nobody would continue it, or for a read that ignores the signal
    /// (`tty_check_change`).
    pub(super) fn keep_off(&self, signal: i32) -> Result<()> {
        let task = task::current();
        let pgid = {
            let family = task.group.family.lock();
            if !is_controlled_by(&family, self) {
                return Ok(());
            }
            family.pgid
        };
        let foreground = self.foreground();
        if foreground.is_none() || foreground == pgid {
            return Ok(());
        }
        let ignored = {
            let signals = task.group.signals.lock();
            let blocked = task.signals.lock().blocked & bit(signal) != 0;
            blocked || signals.action(signal).is_some_and(|action| action.handler == SIG_IGN)
        };
        if ignored {
            return if signal == SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        if is_orphaned(pgid) {
            return Err(Errno::EIO);
        }
        signal_process_group(pgid, SigInfo::new(signal, si::KERNEL));
        task.state.work.fetch_or(work::SIGNAL, Ordering::SeqCst);
        Err(Errno::ERESTARTSYS)
    }

    /// A session leader without a terminal opens it: it becomes the session's, if it is nobody's.
    pub(super) fn opened_by_leader(&self) {
        let group = &task::current().group;
        let Ok(_table) = lock_table() else { return };
        let mut family = group.family.lock();
        if is_leader(group, &family) && family.terminal.is_none() {
            let mut state = self.state.lock();
            if state.session.is_none() && state.master_open {
                self.take(&mut family, &mut state);
            }
        }
    }

    fn take(&self, family: &mut Family, state: &mut State) {
        (state.session, state.foreground) = (family.sid, family.pgid);
        family.terminal = self.this.upgrade().map(|this| this as Arc<dyn ControllingTerminal>);
        family.hung_up_foreground = Pid::NONE;
    }

    /// `TIOCSCTTY`: `EPERM` unless the caller leads a session without a terminal and this one is nobody's. `force` takes it
    /// away from its session, for who may.
    pub(super) fn become_controlling(&self, force: bool, readable: bool) -> Result<()> {
        let task = task::current();
        let may = task.cred().has(cap::SYS_ADMIN);
        let table = lock_table()?;
        let session = self.state.lock().session;
        {
            let family = task.group.family.lock();
            let leads = is_leader(&task.group, &family);
            if leads && family.sid == session {
                return Ok(());
            }
            if !leads || family.terminal.is_some() {
                return Err(Errno::EPERM);
            }
        }
        if !session.is_none() {
            if !(force && may) {
                return Err(Errno::EPERM);
            }
            release_session(&table, session, self);
        }
        if !readable && !may {
            return Err(Errno::EPERM);
        }
        let mut family = task.group.family.lock();
        let mut state = self.state.lock();
        self.take(&mut family, &mut state);
        Ok(())
    }

    /// `TIOCSPGRP`. `ENOTTY` if it does not control the caller's session, `ESRCH`, `EPERM` for a group of another session.
    pub(super) fn set_foreground(&self, number: i32) -> Result<()> {
        if number < 0 {
            return Err(Errno::EINVAL);
        }
        let group = &task::current().group;
        let table = lock_table()?;
        let own_session = {
            let family = group.family.lock();
            if !is_controlled_by(&family, self) || self.state.lock().session != family.sid {
                return Err(Errno::ENOTTY);
            }
            family.sid
        };
        let pgid = group.space.named(number).ok_or(Errno::ESRCH)?;
        let member = table.process_group(pgid).into_iter().next().or_else(|| table.group(pgid));
        let session = member.ok_or(Errno::ESRCH)?.family.lock().sid;
        if session != own_session {
            return Err(Errno::EPERM);
        }
        self.state.lock().foreground = pgid;
        Ok(())
    }

    /// The session that it controls: `ENOTTY` if there is none.
    pub(super) fn session(&self) -> Result<Pid> {
        let session = self.state.lock().session;
        if session.is_none() { Err(Errno::ENOTTY) } else { Ok(session) }
    }

    /// `TIOCNOTTY`: the caller's session, or only the caller where it does not lead it, gives the terminal up.
    pub(super) fn give_up(&self) -> Result<()> {
        if !self.is_own() {
            return Err(Errno::ENOTTY);
        }
        let task = task::current();
        let leads = is_leader(&task.group, &task.group.family.lock());
        if leads {
            let info = |signal| SigInfo::from_process(signal, si::USER, task.group.tgid, task.cred().uid);
            let foreground = self.foreground();
            signal_process_group(foreground, info(SIGHUP));
            signal_process_group(foreground, info(SIGCONT));
            self.release();
        }
        let old = task.group.family.lock().terminal.take();
        drop(old);
        Ok(())
    }

    /// It controls no session any more.
    fn release(&self) {
        let Ok(table) = lock_table() else { return };
        let session = {
            let mut state = self.state.lock();
            state.foreground = Pid::NONE;
            core::mem::take(&mut state.session)
        };
        release_session(&table, session, self);
    }

    /// The line has gone (`vhangup`): descriptions of the slave are dead, the session has no terminal any more, and its
    /// leader gets SIGHUP and SIGCONT.
    pub(super) fn hang_up(&self) {
        let Ok(table) = lock_table() else { return };
        let (session, foreground) = {
            let mut state = self.state.lock();
            state.hang_ups += 1;
            (core::mem::take(&mut state.session), core::mem::take(&mut state.foreground))
        };
        if !session.is_none() {
            release_session(&table, session, self);
        }
        let leader = table.group(session);
        drop(table);
        if let Some(leader) = leader {
            leader.family.lock().hung_up_foreground = foreground;
            for signal in [SIGHUP, SIGCONT] {
                let _ = signal::send_to_group(&leader, SigInfo::new(signal, si::KERNEL));
            }
        }
        self.wake_everyone(PollEvents::HUP | PollEvents::ERR | PollEvents::READABLE | PollEvents::WRITABLE);
    }
}

/// Takes the terminal away from every process of a session. References to it are not the last ones: the caller has one.
fn release_session(table: &Table, session: Pid, pair: &Pair) {
    for member in table.session(session) {
        let mut family = member.family.lock();
        if is_controlled_by(&family, pair) {
            family.terminal = None;
        }
    }
}

/// A process has lost its last thread. If it led a session, the foreground of its terminal learns of it, and the session has
/// no terminal any more (`disassociate_ctty`).
pub fn process_ended(group: &Arc<ThreadGroup>) {
    let (terminal, hung_up) = {
        let mut family = group.family.lock();
        if !is_leader(group, &family) {
            return;
        }
        (family.terminal.clone(), core::mem::take(&mut family.hung_up_foreground))
    };
    let pair = terminal.as_ref().and_then(|terminal| terminal.as_any().downcast_ref::<Pair>());
    match pair {
        Some(pair) => {
            signal_process_group(pair.foreground(), SigInfo::new(SIGHUP, si::KERNEL));
            pair.release();
        }
        None => {
            for signal in [SIGHUP, SIGCONT] {
                signal_process_group(hung_up, SigInfo::new(signal, si::KERNEL));
            }
        }
    }
}
