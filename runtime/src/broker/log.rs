//! The record of decisions: one JSON object a line.

use super::names::Looked;
use super::rules::Verdict;
use boundary::broker::Protocol;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where decisions are written to.
pub struct Log(pub Option<File>);

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

impl Log {
    fn write(&self, what: &str, verdict: &Verdict, mut fields: Value) {
        let Some(mut file) = self.0.as_ref() else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        if let Value::Object(fields) = &mut fields {
            let (decision, why, because) = match verdict {
                Verdict::Allowed(rule) => ("allow", "rule", rule),
                Verdict::Denied(reason) => ("deny", "reason", reason),
            };
            fields.insert("time".into(), json!((now * 1000.0).round() / 1000.0));
            fields.insert("what".into(), json!(what));
            fields.insert("decision".into(), json!(decision));
            fields.insert(why.into(), json!(because));
        }
        // One write, so that lines of others do not get between.
        let _ = file.write_all(format!("{fields}\n").as_bytes());
    }

    /// A connection to the outside.
    pub fn connect(&self, protocol: Protocol, to: SocketAddr, names: &[String], verdict: &Verdict) {
        let fields =
            json!({ "protocol": name(protocol), "address": to.ip(), "port": to.port(), "names": names });
        self.write("connect", verdict, fields);
    }

    /// A query.
    pub fn resolve(&self, looked: &Looked) {
        let mut fields = json!({ "name": looked.name, "type": looked.kind, "addresses": looked.addresses });
        if !looked.withheld.is_empty() {
            fields["withheld"] = json!(looked.withheld);
        }
        self.write("resolve", &looked.verdict, fields);
    }

    /// A connection from the outside, or the first datagram of somebody there.
    pub fn accept(&self, protocol: Protocol, from: SocketAddr, host_port: u16, port: u16) {
        let name = name(protocol);
        let fields = json!({ "protocol": name, "from": from.ip(), "host_port": host_port, "port": port });
        self.write("accept", &Verdict::Allowed(format!("--publish {host_port}:{port}/{name}")), fields);
    }

    /// A request that is none.
    pub fn malformed(&self, length: usize) {
        self.write("request", &Verdict::Denied("not a request".into()), json!({ "bytes": length }));
    }
}
