//! `state`: what a container is and does.

use super::print;
use crate::command::Global;
use crate::state::{Container, OCI_VERSION};
use serde_json::{Value, json};

/// Runs the verb.
pub fn state(global: &Global, id: &str) -> anyhow::Result<u8> {
    let container = Container::load(global, id)?;
    let mut shown = describe(&container);
    shown["ociVersion"] = json!(OCI_VERSION);
    shown["annotations"] = json!(container.record.spec.annotations().clone().unwrap_or_default());
    print(&format!("{}\n", serde_json::to_string_pretty(&shown)?))?;
    Ok(0)
}

/// As runc's `state` and `list` show a container.
pub fn describe(container: &Container) -> Value {
    let record = &container.record;
    json!({
        "ociVersion": OCI_VERSION,
        "id": record.id,
        "pid": container.pid(),
        "status": container.told_status(),
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": record.created,
        "owner": owner(record.owner),
    })
}

/// A user's name; nothing for one that has none.
pub fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid_of) = (fields.next()?, fields.nth(1)?);
        (uid_of.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_default()
}
