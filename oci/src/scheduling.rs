//! `process.scheduler` and `process.ioPriority`: the kernel inside tells them to the program, and the host applies them to the sandbox,
//! whose processes have them from the monitor.

use anyhow::Context;
use boundary::process::Scheduling;
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process};

/// Levels of a class of input and output (`linux/ioprio.h`), and where the class is.
const LEVELS: i64 = 8;
const CLASS_SHIFT: u16 = 13;

/// What a process asks for; what real-time policies need is not given to a sandbox, and refused.
pub fn of(process: &Process) -> anyhow::Result<Scheduling> {
    let mut scheduling = Scheduling::default();
    if let Some(asked) = process.scheduler() {
        scheduling.policy = match asked.policy() {
            LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
            LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
            LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
            other => anyhow::bail!(
                "process.scheduler: {other} is not supported: a sandbox gets no processor before others do; it has SCHED_OTHER, \
                 SCHED_BATCH and SCHED_IDLE"
            ),
        } as u32;
        let none = |number: u64, field: &str| {
            anyhow::ensure!(number == 0, "process.scheduler: {field} is for policies that are not supported");
            Ok(())
        };
        none(asked.priority().unwrap_or(0).unsigned_abs().into(), "priority")?;
        none(asked.runtime().unwrap_or(0), "runtime")?;
        none(asked.deadline().unwrap_or(0), "deadline")?;
        none(asked.period().unwrap_or(0), "period")?;
        scheduling.nice = asked.nice().unwrap_or(0);
        let range = -20..=19;
        anyhow::ensure!(range.contains(&scheduling.nice), "process.scheduler: nice is not within -20 and 19");
        for flag in asked.flags().iter().flatten() {
            match flag {
                LinuxSchedulerFlag::SchedResetOnFork => scheduling.reset_on_fork = true,
                other => anyhow::bail!("process.scheduler: the flag {other} is not supported"),
            }
        }
    }
    if let Some(asked) = process.io_priority() {
        let class = match asked.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(asked.priority()).ok().filter(|&level| i64::from(level) < LEVELS);
        let level = level.context("process.ioPriority: the priority is not within 0 and 7")?;
        scheduling.io_priority = class << CLASS_SHIFT | level;
    }
    Ok(scheduling)
}

/// `struct sched_attr` (sched_setattr(2)), in its first form.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    times: [u64; 3],
}

/// Gives this process, and all that it makes, what is asked for. That the reset at fork is on is told inside alone: it would come
/// before the sandbox.
pub fn apply(asked: &Scheduling) -> anyhow::Result<()> {
    let own = Scheduling {
        io_priority: asked.io_priority,
        reset_on_fork: asked.reset_on_fork,
        ..Scheduling::default()
    };
    if *asked != own {
        let attributes = Attributes {
            size: size_of::<Attributes>() as u32,
            policy: asked.policy,
            flags: 0,
            nice: asked.nice,
            priority: 0,
            times: [0; 3],
        };
        // SAFETY: a structure as the call reads it, of this length.
        let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        anyhow::ensure!(result == 0, "process.scheduler: {}", std::io::Error::last_os_error());
    }
    if asked.io_priority != 0 {
        const WHO_PROCESS: libc::c_int = 1;
        // SAFETY: only numbers.
        let result = unsafe {
            libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, libc::c_int::from(asked.io_priority))
        };
        anyhow::ensure!(result == 0, "process.ioPriority: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn asked(change: Value) -> anyhow::Result<Scheduling> {
        let mut process = serde_json::to_value(Process::default()).expect("a value");
        for (name, value) in change.as_object().expect("fields") {
            process[name] = value.clone();
        }
        of(&serde_json::from_value(process).expect("a process"))
    }

    #[test]
    fn ordinary_policies_and_priorities_are_numbers() {
        let scheduler = json!({ "policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_RESET_ON_FORK"] });
        let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 3 });
        let found = asked(json!({ "scheduler": scheduler, "ioPriority": priority })).expect("known");
        let wanted = Scheduling { policy: 3, nice: 7, reset_on_fork: true, io_priority: 2 << 13 | 3 };
        assert_eq!(found, wanted);
        assert_eq!(asked(json!({})).expect("nothing"), Scheduling::default());
    }

    #[test]
    fn what_no_sandbox_gets_is_refused_by_name() {
        for (change, word) in [
            (json!({ "scheduler": { "policy": "SCHED_FIFO", "priority": 1 } }), "SCHED_FIFO"),
            (json!({ "scheduler": { "policy": "SCHED_OTHER", "nice": 20 } }), "nice"),
            (json!({ "scheduler": { "policy": "SCHED_OTHER", "priority": 1 } }), "priority"),
            (json!({ "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 8 } }), "ioPriority"),
        ] {
            let error = asked(change).expect_err("refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
