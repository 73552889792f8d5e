//! `spec`: a config.json to begin with.

use crate::command::Spec as Options;
use crate::state::OCI_VERSION;
use anyhow::Context;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::fs::File;
use std::io::Write;

/// Runs the verb.
pub fn spec(options: &Options) -> anyhow::Result<u8> {
    let path = options.bundle.join("config.json");
    let text = serde_json::to_string_pretty(&example(options.rootless))?;
    let mut file = File::create_new(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("File {} exists. Remove it first", path.display())
        }
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })?;
    file.write_all(format!("{text}\n").as_bytes()).with_context(|| path.display().to_string())?;
    Ok(0)
}

/// A shell in `rootfs`, which can only be read. An ordinary user's has no control group and the caller's network namespace; that it
/// has a user namespace goes without saying: every sandbox has.
fn example(rootless: bool) -> Spec {
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.into()).set_hostname(Some("trapbox".into()));
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true));
    }
    if let Some(mut linux) = spec.linux().clone().filter(|_| rootless) {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
        linux.set_namespaces(Some(namespaces)).set_resources(None);
        spec.set_linux(Some(linux));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_asks_for_nothing_that_is_refused() {
        for rootless in [false, true] {
            let text = serde_json::to_value(example(rootless)).expect("a spec");
            let findings = crate::fields::check(&text);
            assert!(findings.refused.is_empty() && findings.ignored.is_empty(), "{findings:?}");
        }
    }
}
