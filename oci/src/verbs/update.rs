//! `update`: other limits for a container that is there.

use crate::command::{Global, Update};
use crate::state::{Container, Status};
use crate::{control, plan};
use anyhow::Context;
use oci_spec::runtime::{Linux, LinuxResources};
use runtime::attach;
use serde_json::{Map, Value, json};
use std::io::Read;

/// Runs the verb.
pub fn update(global: &Global, options: &Update) -> anyhow::Result<u8> {
    let mut container = Container::load(global, &options.id)?;
    anyhow::ensure!(container.status() != Status::Stopped, "container not running");
    let asked = match &options.resources {
        Some(path) => read(path)?,
        None => by_flags(options),
    };
    let resources: LinuxResources = serde_json::from_value(asked.clone()).context("resources")?;
    container.record.group.update(&resources)?;
    if let Some(pids) = resources.pids() {
        limit_tasks(&container, plan::tasks(Some(pids.limit())))?;
    }
    remember(&mut container, asked)?;
    Ok(0)
}

/// Has the kernel inside keep another number of tasks, or the monitor as long as there is none.
fn limit_tasks(container: &Container, limit: u32) -> anyhow::Result<()> {
    let status = container.status();
    match status {
        Status::Created => return control::ask(&container.directory, &control::Request::Tasks(limit)),
        Status::Running | Status::Paused => {}
        _ => return Ok(()),
    }
    let entrance = control::address(&container.directory, control::ENTRANCE)?;
    // One that is paused answers when it goes on.
    attach::limit_tasks(&entrance.path, limit, status == Status::Running).context("container not running")
}

fn read(path: &std::path::Path) -> anyhow::Result<Value> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    }
    let mut asked: Value = serde_json::from_str(&text).context("resources")?;
    prune(&mut asked);
    Ok(asked)
}

/// What is 0 or nothing is left as it is: callers send every field, of which they mean few.
fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|_, value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Number(number) => number.as_i64() != Some(0),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        });
    }
}

fn by_flags(options: &Update) -> Value {
    let mut asked = json!({
        "blockIO": { "weight": options.blkio_weight },
        "cpu": {
            "period": options.cpu_period,
            "quota": options.cpu_quota,
            "shares": options.cpu_share,
            "cpus": options.cpuset_cpus,
            "mems": options.cpuset_mems,
        },
        "memory": {
            "limit": options.memory,
            "reservation": options.memory_reservation,
            "swap": options.memory_swap,
        },
        "pids": { "limit": options.pids_limit },
    });
    prune(&mut asked);
    asked
}

/// Puts the new limits into the record, beside those that stay.
fn remember(container: &mut Container, asked: Value) -> anyhow::Result<()> {
    let mut linux: Linux = container.record.spec.linux().clone().unwrap_or_default();
    let mut resources = serde_json::to_value(linux.resources().clone().unwrap_or_default())?;
    merge(&mut resources, asked);
    linux.set_resources(Some(serde_json::from_value(resources)?));
    container.record.spec.set_linux(Some(linux));
    container.save()
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert_with(|| Value::Object(Map::new())), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_stays() {
        let mut asked = json!({ "memory": { "limit": 7, "swap": 0 }, "cpu": { "cpus": "", "shares": 0 }, "blockIO": null });
        prune(&mut asked);
        assert_eq!(asked, json!({ "memory": { "limit": 7 } }));
        let mut all = json!({ "memory": { "limit": 1, "swap": 2 }, "pids": { "limit": 3 } });
        merge(&mut all, asked);
        assert_eq!(all, json!({ "memory": { "limit": 7, "swap": 2 }, "pids": { "limit": 3 } }));
    }
}
