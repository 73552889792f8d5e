//! Every field of config.json, and what becomes of it: the table that `docs/oci.md` shows, and that a bundle is held against before
//! anything else is done with it.

use serde_json::Value;
use std::fmt::Write;

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Done as the specification has it; the note says where not quite.
    Honoured,
    /// Of no effect here, and no loss: said in the log.
    Ignored,
    /// Of no effect here, and that is no matter: not even said.
    Silent,
    /// A container that asks for it is not created.
    Refused,
}

/// A field: its path, with `[]` for the elements of a list; its fate; and why, or how.
#[derive(Debug)]
pub struct Field(pub &'static str, pub Fate, pub &'static str);

use Fate::{Honoured, Ignored, Refused, Silent};

/// The fields, in the order of the specification. What is below a field that is not divided further has its fate.
pub const FIELDS: &[Field] = &[
    Field("ociVersion", Honoured, "1.x"),
    Field("root.path", Honoured, "writes go to it, or to memory with `--overlay=memory`"),
    Field("root.readonly", Honoured, ""),
    Field("mounts[].destination", Honoured, ""),
    Field(
        "mounts[].type",
        Honoured,
        "bind, tmpfs, proc, sysfs, cgroup, cgroup2, devpts, mqueue; others are refused by name",
    ),
    Field(
        "mounts[].source",
        Honoured,
        "for bind mounts; below `/dev`, `/proc` and `/sys` of the host only what the sandbox has of its own",
    ),
    Field(
        "mounts[].options",
        Honoured,
        "an option that is not known is refused by name; propagation is private",
    ),
    Field("mounts[].uidMappings", Refused, "the kernel inside maps no ids"),
    Field("mounts[].gidMappings", Refused, "likewise"),
    Field(
        "process.terminal",
        Honoured,
        "the terminal is the sandbox's own, passed on to that of `--console-socket`",
    ),
    Field("process.consoleSize", Honoured, ""),
    Field("process.cwd", Honoured, "made if it is not there"),
    Field("process.env", Honoured, "with HOME from the container's `/etc/passwd` if it is not there"),
    Field("process.args", Honoured, ""),
    Field("process.commandLine", Silent, "for Windows"),
    Field("process.user.uid", Honoured, ""),
    Field("process.user.gid", Honoured, ""),
    Field("process.user.umask", Honoured, "022 if it is not there"),
    Field("process.user.additionalGids", Honoured, ""),
    Field("process.user.username", Silent, "for Windows"),
    Field(
        "process.capabilities",
        Honoured,
        "inside; the host sees those over files, in a user namespace, and no others",
    ),
    Field("process.rlimits", Honoured, "inside"),
    Field("process.noNewPrivileges", Honoured, "inside; on the host it is always set"),
    Field(
        "process.oomScoreAdj",
        Honoured,
        "on the host and inside; on the host not for a pod's sandbox if it is negative",
    ),
    Field(
        "process.apparmorProfile",
        Ignored,
        "the host's AppArmor sees the sandbox, whose filter allows less than any profile",
    ),
    Field("process.selinuxLabel", Ignored, "likewise"),
    Field("process.ioPriority", Honoured, "on the host, and told inside; by `exec` only that"),
    Field(
        "process.scheduler",
        Honoured,
        "likewise; SCHED_OTHER, SCHED_BATCH and SCHED_IDLE, with a nice value; real-time policies are refused by name",
    ),
    Field("process.execCPUAffinity", Refused, "use resources.cpu.cpus"),
    Field("hostname", Honoured, ""),
    Field("domainname", Honoured, ""),
    Field("hooks.prestart", Honoured, "in the caller's namespaces"),
    Field("hooks.createRuntime", Honoured, "likewise"),
    Field(
        "hooks.createContainer",
        Honoured,
        "in the container's network and uts namespaces; the tree is the host's",
    ),
    Field(
        "hooks.startContainer",
        Honoured,
        "in the container, as its user, while its first process waits; that one is 1 in the state, and the container created only",
    ),
    Field("hooks.poststart", Honoured, ""),
    Field("hooks.poststop", Honoured, ""),
    Field("annotations", Honoured, "told to hooks and by `state`"),
    Field(
        "linux.namespaces[].type",
        Honoured,
        "pid, ipc and mount are the sandbox's own, and pid that of a container of a pod, too; network and uts hold the monitor; user and time are refused",
    ),
    Field(
        "linux.namespaces[].path",
        Honoured,
        "for network and uts, and those of its sandbox for a container of a pod, which may share the process ids of another one as well; refused for pid, ipc and cgroup otherwise: nobody else's objects are on this kernel",
    ),
    Field("linux.uidMappings", Refused, "ids are the sandbox's own"),
    Field("linux.gidMappings", Refused, "likewise"),
    Field("linux.timeOffsets", Refused, "clocks are the host's"),
    Field(
        "linux.devices",
        Honoured,
        "null, zero, full, random, urandom and tty, which are the sandbox's own, under any name, with fileMode, uid and gid; others are \
         refused by name, or left out and named in the log where every device is allowed (`--privileged`)",
    ),
    Field("linux.netDevices", Refused, "use a network namespace"),
    Field("linux.cgroupsPath", Honoured, "version 1, 2 and both; `--systemd-cgroup` for SLICE:PREFIX:NAME"),
    Field("linux.resources.devices", Silent, "a sandbox opens no device of the host"),
    Field("linux.resources.memory", Honoured, "by the host's control group"),
    Field("linux.resources.cpu", Honoured, "likewise"),
    Field(
        "linux.resources.pids",
        Honoured,
        "exactly inside, also after `update`; the host's limit is twice that and 64, for what is not shown",
    ),
    Field("linux.resources.blockIO", Honoured, "by the host's control group"),
    Field("linux.resources.hugepageLimits", Honoured, "likewise"),
    Field("linux.resources.network", Honoured, "likewise"),
    Field("linux.resources.rdma", Refused, "a sandbox reaches no such device"),
    Field("linux.resources.unified", Honoured, "where the host has version 2 alone"),
    Field("linux.intelRdt", Refused, ""),
    Field("linux.memoryPolicy", Refused, "use resources.cpu.mems"),
    Field(
        "linux.sysctl",
        Honoured,
        "kernel: shmmax, shmall, shmmni, msgmax, msgmnb, msgmni, sem; fs.mqueue: all; net.core.somaxconn; net.ipv4: ip_local_port_range, \
         ip_unprivileged_port_start, ping_group_range, tcp_keepalive_time, _intvl and _probes; others are refused by name",
    ),
    Field("linux.seccomp", Honoured, "by the kernel inside, for the container's calls"),
    Field("linux.rootfsPropagation", Honoured, "private, which a sandbox is; others are refused"),
    Field("linux.maskedPaths", Honoured, ""),
    Field("linux.readonlyPaths", Honoured, ""),
    Field("linux.mountLabel", Ignored, "as process.selinuxLabel"),
    Field("linux.personality", Honoured, "LINUX and LINUX32; of flags `ADDR_NO_RANDOMIZE`"),
    Field("solaris", Silent, "for another system"),
    Field("windows", Silent, "likewise"),
    Field("vm", Silent, "likewise"),
    Field("zos", Silent, "likewise"),
];

/// What a bundle asks for that is refused, or not done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Reasons not to create the container.
    pub refused: Vec<String>,
    /// For the log.
    pub ignored: Vec<String>,
}

/// Holds config.json against the table. Fields that the specification does not know must be no error there.
pub fn check(config: &Value) -> Findings {
    let mut findings = Findings::default();
    walk("", config, &mut findings);
    findings
}

fn walk(path: &str, value: &Value, findings: &mut Findings) {
    if is_empty(value) {
        return;
    }
    if let Some(Field(_, fate, why)) = FIELDS.iter().find(|field| field.0 == path) {
        match fate {
            Honoured | Silent => {}
            Ignored => findings.ignored.push(format!("{path} has no effect: {why}")),
            Refused => {
                let because = if why.is_empty() { String::new() } else { format!(": {why}") };
                findings.refused.push(format!("{path} is not supported{because}"));
            }
        }
        return;
    }
    let divided = |path: &str| FIELDS.iter().any(|field| field.0.starts_with(path));
    match value {
        Value::Object(fields) if path.is_empty() || divided(&format!("{path}.")) => {
            for (name, value) in fields {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&inner, value, findings);
            }
        }
        Value::Array(elements) if divided(&format!("{path}[]")) => {
            for element in elements {
                walk(&format!("{path}[]"), element, findings);
            }
        }
        _ => findings.ignored.push(format!("{path} is not known to this runtime")),
    }
}

/// Nothing is asked for.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The table, as `docs/oci.md` has it.
pub fn table() -> String {
    let mut text = String::from("| field | is | note |\n| --- | --- | --- |\n");
    for Field(path, fate, note) in FIELDS {
        let fate = match fate {
            Honoured => "honoured",
            Ignored | Silent => "ignored",
            Refused => "refused",
        };
        let _ = writeln!(text, "| `{path}` | {fate} | {note} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_of_the_specification_is_in_the_table() {
        // What the types know, written out: a field that they gain must be put into the table.
        let spec = serde_json::to_value(oci_spec::runtime::Spec::default()).expect("a spec");
        assert_eq!(check(&spec), Findings::default());
    }

    #[test]
    fn a_refusal_names_the_field() {
        let config = json!({ "process": { "execCPUAffinity": { "initial": "0" }, "apparmorProfile": "p" }, "domainname": "d" });
        let findings = check(&config);
        assert_eq!(findings.refused.len(), 1);
        assert!(findings.refused[0].starts_with("process.execCPUAffinity is not supported"));
        assert!(findings.ignored[0].starts_with("process.apparmorProfile"));
    }

    #[test]
    fn what_nobody_knows_is_no_error() {
        let findings =
            check(&json!({ "new": { "field": 1 }, "linux": { "newer": true }, "mounts": [{ "newest": 1 }] }));
        assert!(findings.refused.is_empty());
        assert_eq!(findings.ignored.len(), 3);
    }

    #[test]
    fn the_documentation_has_this_table() {
        let document = include_str!("../../docs/oci.md");
        assert!(document.contains(&table()), "docs/oci.md is not current: it must contain\n{}", table());
    }
}
