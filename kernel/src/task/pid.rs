//! Process ids, and how programs see them (pid_namespaces(7)).
//!
//! The kernel has one table of processes, whose numbers, [`Pid`]s, are unique in it. A [`PidSpace`] is a view on it: a range of those
//! numbers, within which programs count from 1. So what a number is to whom is arithmetic, also for processes that have been gone
//! for long (the last user of a shared memory segment), and nothing is looked up. Everybody else, the sandbox's own processes and those that
//! share its process ids, is in [`PidSpace::ALL`], where a number is what the kernel has, and to which the members of all other spaces are
//! visible, as those of a child namespace are.
//!
//! A [`Pid`] has no way into a program but [`PidSpace::shown`], and none comes out of one but by [`PidSpace::named`].

use core::sync::atomic::{AtomicI32, Ordering};

/// Highest number, as Linux's default `kernel.pid_max` says.
const PID_MAX: i32 = 4_194_304;
/// Numbers of a space that is not [`PidSpace::ALL`].
const SIZE: i32 = 65_536;
/// Those of [`PidSpace::ALL`] begin with as many that are never given to another.
const RESERVED: i32 = SIZE;

/// What the kernel calls a task, a process, a process group or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pid(pub(super) i32);

impl Pid {
    /// None at all: no process, or the sandbox where that is outside. Every space shows it as 0.
    pub const NONE: Pid = Pid(0);

    /// Whether it is [`Self::NONE`].
    pub fn is_none(self) -> bool {
        self == Pid::NONE
    }

    /// What had this [`Self::number`].
    pub(crate) fn of_number(number: i32) -> Pid {
        Pid(number)
    }

    /// The kernel's number, for what no program sees as a process id: its own messages, inode numbers.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// A [`Pid`] that may change at any time.
#[derive(Debug, Default)]
pub struct AtomicPid(AtomicI32);

impl AtomicPid {
    /// Has this one.
    pub fn new(pid: Pid) -> AtomicPid {
        AtomicPid(AtomicI32::new(pid.0))
    }

    /// The one that it has.
    pub fn load(&self) -> Pid {
        Pid(self.0.load(Ordering::Relaxed))
    }

    /// Replaces it.
    pub fn store(&self, pid: Pid) {
        self.0.store(pid.0, Ordering::Relaxed);
    }
}

/// Which processes a process sees, and by which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidSpace {
    /// The number below the first; 0 for [`Self::ALL`] alone.
    base: i32,
}

impl PidSpace {
    /// That of the sandbox, to which all are visible.
    pub const ALL: PidSpace = PidSpace { base: 0 };

    /// The ranges that others may have.
    pub(super) fn ranges() -> impl Iterator<Item = PidSpace> {
        (RESERVED..PID_MAX).step_by(SIZE as usize).map(|base| PidSpace { base })
    }

    /// Whether it is [`Self::ALL`].
    pub fn is_all(self) -> bool {
        self.base == 0
    }

    /// How a program of this space sees a task, a process, a process group or a session: 0 for one that it does not see.
    pub fn shown(self, pid: Pid) -> i32 {
        let own = pid.0.wrapping_sub(self.base);
        if self.is_all() || (1..SIZE).contains(&own) { own } else { 0 }
    }

    /// What a program of this space means by a number; `None` where it sees nothing. Whether there is such a process is another matter.
    pub fn named(self, number: i32) -> Option<Pid> {
        let known = if self.is_all() { number > 0 } else { (1..SIZE).contains(&number) };
        known.then(|| Pid(number.wrapping_add(self.base)))
    }

    /// Whether it sees this one.
    pub fn contains(self, pid: Pid) -> bool {
        self.shown(pid) != 0
    }

    /// Its first process, which is number 1 in it and adopts its orphans.
    pub fn first(self) -> Pid {
        Pid(self.base.wrapping_add(1))
    }

    /// The number below which its ids are (`kernel.pid_max`).
    pub fn max(self) -> i32 {
        if self.is_all() { PID_MAX } else { SIZE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_space() -> PidSpace {
        PidSpace::ranges().nth(3).expect("there are more")
    }

    #[test]
    fn the_sandbox_sees_every_process_by_the_kernels_number() {
        for number in [1, 2, 70_000, PID_MAX] {
            let pid = PidSpace::ALL.named(number).expect("a number");
            assert_eq!((pid.number(), PidSpace::ALL.shown(pid)), (number, number));
        }
        assert_eq!(PidSpace::ALL.named(0), None);
        assert_eq!(PidSpace::ALL.named(-1), None);
    }

    #[test]
    fn a_space_counts_from_one_and_sees_its_members_only() {
        let space = some_space();
        let first = space.first();
        assert_eq!((space.shown(first), space.named(1)), (1, Some(first)));
        assert_eq!(PidSpace::ALL.shown(first), first.number());
        for other in [Pid::NONE, Pid(1), Pid(first.0 - 1), Pid(first.0 - 2), Pid(first.0 + SIZE - 1)] {
            assert_eq!(space.shown(other), 0, "{other:?}");
        }
        assert_eq!(space.shown(Pid(first.0 + SIZE - 2)), SIZE - 1);
        for number in [i32::MIN, -1, 0, SIZE, first.number(), i32::MAX] {
            assert_eq!(space.named(number), None, "{number}");
        }
    }

    #[test]
    fn no_number_is_of_two_spaces() {
        let mut highest = RESERVED;
        for space in PidSpace::ranges() {
            let last = space.named(space.max() - 1).expect("its own");
            assert!(space.first().0 > highest && last.0 < PID_MAX);
            highest = last.0;
        }
        assert!(PidSpace::ranges().count() > 60);
    }
}
