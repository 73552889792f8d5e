//! The options that put something into the view, in the order in which they were given.

use crate::command::{parse_size, reason};
use crate::view::{Asked, Device, Grant, MemoryDirectory, OF_THE_KERNEL, Overlay};
use anyhow::{Context, anyhow, bail, ensure};
use clap::ArgMatches;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// The options. [`asked`] reads them from the matches, which have their order.
#[derive(Debug, clap::Args)]
pub struct Grants {
    /// Show SOURCE at TARGET (default: the same path); what the program writes there reaches the host.
    #[arg(long, value_name = "SOURCE[:TARGET]")]
    pub(crate) bind: Vec<OsString>,

    /// As --bind, read-only. `--ro-bind /` shows everything.
    #[arg(long, value_name = "SOURCE[:TARGET]")]
    pub(crate) ro_bind: Vec<OsString>,

    /// Show LOWER at its own path: reads go through, writes go to the directory UPPER (default: memory). What UPPER holds
    /// afterwards is a layer as OCI images have them.
    #[arg(long, value_name = "LOWER[:UPPER]")]
    pub(crate) overlay: Vec<OsString>,

    /// Show one of the sandbox's own devices (null, zero, full, random, urandom, tty) at TARGET, too.
    #[arg(long, value_name = "/dev/NAME[:TARGET]")]
    pub(crate) dev_bind: Vec<OsString>,

    /// An empty directory in memory, of at most SIZE bytes (K, M, G).
    #[arg(long, value_name = "TARGET[:SIZE]")]
    pub(crate) tmpfs: Vec<OsString>,
}

/// Devices that the sandbox has of its own and can show elsewhere.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Everything that was asked for.
pub fn asked(matches: &ArgMatches) -> anyhow::Result<Vec<Asked>> {
    let mut texts: Vec<(usize, &str, &OsString)> = Vec::new();
    for option in ["bind", "ro_bind", "tmpfs", "overlay", "dev_bind"] {
        let places = matches.indices_of(option).into_iter().flatten();
        let values = matches.get_many::<OsString>(option).into_iter().flatten();
        texts.extend(places.zip(values).map(|(place, value)| (place, option, value)));
    }
    texts.sort_by_key(|(place, ..)| *place);
    let all = texts.into_iter().map(|(_, option, text)| match option {
        "bind" => grant(text, true).map(Asked::Host),
        "ro_bind" => grant(text, false).map(Asked::Host),
        "tmpfs" => memory_directory(text).map(Asked::Memory),
        "overlay" => overlay(text).map(Asked::Overlay),
        _ => device(text).map(Asked::Device),
    });
    let all = all.collect::<anyhow::Result<Vec<Asked>>>()?;
    refuse_shared_uppers(&all)?;
    Ok(all)
}

/// Splits `SOURCE[:TARGET]`: a target is an absolute path, so that a colon in a name does no harm.
fn split_paths(text: &OsStr) -> (PathBuf, Option<PathBuf>) {
    let bytes = text.as_bytes();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    match bytes.windows(2).rposition(|pair| pair == b":/") {
        Some(at) if at > 0 => (path(&bytes[..at]), Some(path(&bytes[at + 1..]))),
        _ => (PathBuf::from(text), None),
    }
}

/// Splits `A[:B]`.
fn split_pair(text: &OsStr) -> (PathBuf, Option<OsString>) {
    let bytes = text.as_bytes();
    match bytes.iter().rposition(|&byte| byte == b':') {
        Some(at) => (
            PathBuf::from(OsString::from_vec(bytes[..at].to_vec())),
            Some(OsString::from_vec(bytes[at + 1..].to_vec())),
        ),
        None => (PathBuf::from(text), None),
    }
}

/// A path of the host as it really is, for an option that shows it.
fn on_host(option: &str, source: &Path) -> anyhow::Result<PathBuf> {
    let resolved = std::fs::canonicalize(source).map_err(|error| {
        anyhow!("{option} {}: {}; name a path that exists", source.display(), reason(&error))
    })?;
    let of_the_kernel = OF_THE_KERNEL.iter().find(|directory| resolved.starts_with(directory));
    if let Some(directory) = of_the_kernel.filter(|_| !resolved.starts_with("/dev/shm/")) {
        bail!(
            "{option} {}: nothing of the host's {directory} is shown; the sandbox has its own",
            source.display()
        );
    }
    Ok(resolved)
}

fn grant(text: &OsStr, writable: bool) -> anyhow::Result<Grant> {
    let option = if writable { "--bind" } else { "--ro-bind" };
    let (source, target) = split_paths(text);
    let resolved = on_host(option, &source)?;
    let target = target.unwrap_or_else(|| resolved.clone());
    refuse_dots(option, &target)?;
    Ok(Grant { source: resolved, target, writable })
}

/// A target is used as it is written: `..` in it could only confuse.
fn refuse_dots(option: &str, target: &Path) -> anyhow::Result<()> {
    let dots = target.components().any(|part| part == Component::ParentDir);
    ensure!(!dots, "{option} {}: the target has `..` in it; write the path without", target.display());
    Ok(())
}

fn memory_directory(text: &OsStr) -> anyhow::Result<MemoryDirectory> {
    let (target, size) = split_pair(text);
    ensure!(target.is_absolute(), "--tmpfs {}: name an absolute path of the sandbox", target.display());
    refuse_dots("--tmpfs", &target)?;
    let size = match size {
        Some(size) => parse_size(&size.to_string_lossy())
            .map_err(|reason| anyhow!("--tmpfs {}: size: {reason}", target.display()))?,
        None => 0,
    };
    Ok(MemoryDirectory { target, size })
}

/// `LOWER[:UPPER]`. A name with a colon in it is meant whole if it exists.
fn overlay(text: &OsStr) -> anyhow::Result<Overlay> {
    let (lower, upper) = match split_pair(text) {
        (lower, Some(upper)) if !Path::new(text).is_dir() => (lower, Some(PathBuf::from(upper))),
        _ => (PathBuf::from(text), None),
    };
    let directory = |path: &Path| -> anyhow::Result<PathBuf> {
        let resolved = on_host("--overlay", path)?;
        ensure!(resolved.is_dir(), "--overlay {}: not a directory; name one", path.display());
        Ok(resolved)
    };
    let lower = directory(&lower)?;
    let upper = upper.as_deref().map(directory).transpose()?;
    if let Some(upper) = &upper {
        ensure!(
            !lower.starts_with(upper),
            "--overlay {}: the lower lies in the upper, and would change; name another upper",
            text.display()
        );
    }
    Ok(Overlay { lower, upper })
}

/// Two overlays that write to one place would not know of each other's changes.
fn refuse_shared_uppers(all: &[Asked]) -> anyhow::Result<()> {
    let uppers: Vec<&PathBuf> = all
        .iter()
        .filter_map(|asked| match asked {
            Asked::Overlay(overlay) => overlay.upper.as_ref(),
            _ => None,
        })
        .collect();
    for (index, one) in uppers.iter().enumerate() {
        let shared =
            uppers.iter().skip(index + 1).find(|other| one.starts_with(other) || other.starts_with(one));
        if let Some(other) = shared {
            bail!(
                "--overlay: the uppers {} and {} overlap; name directories apart from each other",
                one.display(),
                other.display()
            );
        }
    }
    Ok(())
}

fn device(text: &OsStr) -> anyhow::Result<Device> {
    let (source, target) = split_paths(text);
    let name = source.strip_prefix("/dev").ok().and_then(Path::to_str);
    let name = name.filter(|name| DEVICES.contains(name)).with_context(|| {
        format!(
            "--dev-bind {}: no device of the host is shown; the sandbox has its own /dev/{{{}}}, which can be shown elsewhere",
            source.display(),
            DEVICES.join(",")
        )
    })?;
    let target = target.unwrap_or_else(|| source.clone());
    refuse_dots("--dev-bind", &target)?;
    Ok(Device { name: name.to_owned(), target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_a_grant_is_behind_the_last_colon_that_a_slash_follows() {
        let split = |text: &str| split_paths(OsStr::new(text));
        assert_eq!(split("/a:/b"), ("/a".into(), Some("/b".into())));
        assert_eq!(split("/a:b"), ("/a:b".into(), None));
        assert_eq!(split("x"), ("x".into(), None));
    }

    #[test]
    fn devices_of_the_host_are_refused_by_name() {
        for text in ["/dev/kvm", "/dev/mem:/dev/null", "/dev", "/dev/../etc", "null"] {
            let error = device(OsStr::new(text)).expect_err(text).to_string();
            assert!(error.contains(text.split(':').next().unwrap_or(text)), "{error}");
        }
        let made = device(OsStr::new("/dev/zero:/srv/zero")).expect("zero");
        assert_eq!((made.name.as_str(), made.target), ("zero", "/srv/zero".into()));
    }

    #[test]
    fn an_upper_holds_neither_the_lower_nor_another_upper() {
        let outer = tempfile::tempdir().expect("a directory");
        let path = outer.path().display();
        for inner in ["lower", "one", "two", "one/deep"] {
            std::fs::create_dir(outer.path().join(inner)).expect("a directory");
        }
        let make = |lower: &str, upper: &str| overlay(OsStr::new(&format!("{path}{lower}:{path}{upper}")));
        assert!(make("/lower", "").is_err());
        assert!(make("/lower", "/lower").is_err());
        let two = |first: &str, second: &str| {
            let overlays = [make("/lower", first), make("/lower", second)];
            refuse_shared_uppers(&overlays.map(|overlay| Asked::Overlay(overlay.expect("made"))))
        };
        assert!(two("/one", "/two").is_ok());
        assert!(two("/one", "/one").is_err() && two("/one/deep", "/one").is_err());
        let whole = overlay(outer.path().as_os_str()).expect("made");
        assert!(whole.upper.is_none());
    }
}
