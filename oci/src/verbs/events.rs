//! `events`: what a container uses, and when the host ends a process of it for want of memory.

use super::print;
use crate::cgroup;
use crate::command::{Events, Global};
use crate::state::{Container, Status};
use libcgroups::stats::{BlkioDeviceStat, MemoryData, Stats};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often a container is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Runs the verb.
pub fn events(global: &Global, options: &Events) -> anyhow::Result<u8> {
    let container = Container::load(global, &options.id)?;
    anyhow::ensure!(container.status() != Status::Stopped, "container with id {} is not running", options.id);
    let stats = || -> anyhow::Result<()> {
        let data = shown(&container.record.group.stats(container.pid())?);
        tell(&options.id, "stats", Some(data))
    };
    if options.stats {
        stats()?;
        return Ok(0);
    }
    let killed = || cgroup::out_of_memory(container.pid()).unwrap_or(0);
    let (mut known, mut next) = (killed(), Instant::now() + options.interval);
    while container.pid() != 0 {
        let now = killed();
        if now > known {
            known = now;
            tell(&options.id, "oom", None)?;
        }
        if Instant::now() >= next {
            next += options.interval;
            stats()?;
        }
        std::thread::sleep(TICK.min(options.interval));
    }
    Ok(0)
}

fn tell(id: &str, kind: &str, data: Option<Value>) -> anyhow::Result<()> {
    let mut event = json!({ "type": kind, "id": id });
    if let Some(data) = data {
        event["data"] = data;
    }
    print(&format!("{event}\n"))
}

/// As runc shows it.
fn shown(stats: &Stats) -> Value {
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    let of = |data: &MemoryData| json!({ "limit": data.limit, "usage": data.usage, "max": data.max_usage, "failcnt": data.fail_count });
    let hugetlb: serde_json::Map<String, Value> = stats
        .hugetlb
        .iter()
        .map(|(size, one)| {
            (size.clone(), json!({ "usage": one.usage, "max": one.max_usage, "failcnt": one.fail_count }))
        })
        .collect();
    json!({
        "cpu": {
            "usage": {
                "total": cpu.usage.usage_total,
                "percpu": cpu.usage.per_core_usage_total,
                "percpu_kernel": cpu.usage.per_core_usage_kernel,
                "percpu_user": cpu.usage.per_core_usage_user,
                "kernel": cpu.usage.usage_kernel,
                "user": cpu.usage.usage_user,
            },
            "throttling": {
                "periods": cpu.throttling.periods,
                "throttledPeriods": cpu.throttling.throttled_periods,
                "throttledTime": cpu.throttling.throttled_time,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": memory.cache,
            "usage": of(&memory.memory),
            "swap": of(&memory.memswap),
            "kernel": of(&memory.kernel),
            "kernelTCP": of(&memory.kernel_tcp),
            "raw": memory.stats,
        },
        "pids": { "current": stats.pids.current, "limit": stats.pids.limit },
        "blkio": {
            "ioServiceBytesRecursive": devices(&stats.blkio.service_bytes),
            "ioServicedRecursive": devices(&stats.blkio.serviced),
        },
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn devices(stats: &[BlkioDeviceStat]) -> Vec<Value> {
    let of = |one: &BlkioDeviceStat| json!({ "major": one.major, "minor": one.minor, "op": one.op_type.clone().unwrap_or_default(), "value": one.value });
    stats.iter().map(of).collect()
}
