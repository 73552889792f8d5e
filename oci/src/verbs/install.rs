//! `install` and `uninstall`: this runtime's entry in Docker's configuration. Everything else there stays as it is.

use super::print;
use crate::command::Install;
use crate::state::write_whole;
use anyhow::Context;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Makes the runtime known.
pub fn install(options: &Install) -> anyhow::Result<u8> {
    let own = std::env::current_exe().context("this program's own path")?;
    let mut entry = json!({ "path": own });
    if !options.arguments.is_empty() {
        entry["runtimeArgs"] = json!(options.arguments);
    }
    let changed = change(&options.config, |config| {
        let runtimes = config.entry("runtimes").or_insert_with(|| json!({}));
        let runtimes = runtimes.as_object_mut().context("\"runtimes\" is not an object")?;
        runtimes.insert(options.name.clone(), entry.clone());
        Ok(())
    })?;
    report(&options.config, changed, &format!("docker run --runtime {}", options.name))?;
    Ok(0)
}

/// Takes it out again.
pub fn uninstall(options: &Install) -> anyhow::Result<u8> {
    let changed = change(&options.config, |config| {
        let default = config.get("default-runtime").and_then(Value::as_str) == Some(&options.name);
        anyhow::ensure!(!default, "it is the \"default-runtime\"; choose another first");
        if let Some(runtimes) = config.get_mut("runtimes").and_then(Value::as_object_mut) {
            runtimes.remove(&options.name);
            if runtimes.is_empty() {
                config.remove("runtimes");
            }
        }
        Ok(())
    })?;
    report(&options.config, changed, &format!("the runtime {} is no longer known", options.name))?;
    Ok(0)
}

fn report(path: &Path, changed: bool, then: &str) -> anyhow::Result<()> {
    match changed {
        true => {
            print(&format!("{}: changed; once dockerd has reloaded it (SIGHUP): {then}\n", path.display()))
        }
        false => print(&format!("{}: nothing to change\n", path.display())),
    }
}

/// Changes the file, if that makes a difference; whether it did.
fn change(
    path: &Path,
    edit: impl FnOnce(&mut Map<String, Value>) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let shown = || path.display().to_string();
    // A link stays one.
    let path: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(shown)?,
    };
    let before: Value = match text.trim() {
        "" => json!({}),
        text => serde_json::from_str(text).with_context(shown)?,
    };
    let mut config = before.as_object().cloned().with_context(|| format!("{}: not an object", shown()))?;
    edit(&mut config).with_context(shown)?;
    let after = Value::Object(config);
    if after == before {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    write_whole(&path, format!("{}\n", serde_json::to_string_pretty(&after)?).as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_else_is_there_is_kept_and_nothing_is_done_twice() {
        let directory = tempfile::tempdir().expect("made");
        let config = directory.path().join("daemon.json");
        let before = "{\n  \"z\": 1,\n  \"runtimes\": {\n    \"other\": {\n      \"path\": \"/o\"\n    }\n  },\n  \"a\": true\n}\n";
        std::fs::write(&config, before).expect("written");
        let read = || std::fs::read_to_string(&config).expect("readable");
        let options = Install {
            config: config.clone(),
            name: "trapbox".into(),
            arguments: vec!["--overlay=memory".into()],
        };
        install(&options).expect("installed");
        let once = read();
        assert!(
            once.contains("\"other\"") && once.contains("--overlay=memory") && once.contains("\"a\": true")
        );
        install(&options).expect("installed again");
        assert_eq!(read(), once);
        uninstall(&options).expect("uninstalled");
        assert_eq!(read(), before);
        uninstall(&options).expect("nothing to do");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        let directory = tempfile::tempdir().expect("made");
        let config = directory.path().join("daemon.json");
        std::fs::write(&config, "{ not json").expect("written");
        let options = Install { config: config.clone(), name: "trapbox".into(), arguments: Vec::new() };
        install(&options).expect_err("refused");
        assert_eq!(std::fs::read_to_string(&config).expect("readable"), "{ not json");
    }
}
