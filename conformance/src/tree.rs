//! What a run left behind in a directory: the side effects that are compared.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files whose contents are longer are compared by size alone.
const MAX_CONTENTS: u64 = 64 << 20;

/// A time of modification before this second (2001) was set on purpose, and is compared.
const SET_ON_PURPOSE: i64 = 1_000_000_000;

/// What lies below a directory: a line for each file, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// The tree below `directory`, itself not included.
    pub fn of(directory: &Path) -> Result<Tree> {
        let mut lines = BTreeMap::new();
        let mut left = vec![directory.to_path_buf()];
        while let Some(parent) = left.pop() {
            for entry in std::fs::read_dir(&parent)? {
                let path = entry?.path();
                let metadata = path.symlink_metadata()?;
                if metadata.is_dir() {
                    left.push(path.clone());
                }
                let line = describe(&path, &metadata).with_context(|| path.display().to_string())?;
                lines.insert(path.strip_prefix(directory)?.to_path_buf(), line);
            }
        }
        Ok(Tree(lines))
    }

    /// The lines in which two trees differ.
    pub fn difference(&self, other: &Tree) -> String {
        let mut text = String::new();
        let paths: std::collections::BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        for path in paths {
            let (native, sandbox) = (self.0.get(path), other.0.get(path));
            if native != sandbox {
                let shown = |line: Option<&String>| line.map_or("(nothing)".to_string(), String::clone);
                text.push_str(&format!(
                    "file {}:\n  native:  {}\n  sandbox: {}\n",
                    path.display(),
                    shown(native),
                    shown(sandbox)
                ));
            }
        }
        text
    }
}

fn describe(path: &Path, metadata: &std::fs::Metadata) -> Result<String> {
    let kind = metadata.file_type();
    let mode = metadata.permissions().mode() & 0o7777;
    let mut line = format!("mode {mode:o} owner {}:{}", metadata.uid(), metadata.gid());
    if kind.is_dir() {
        line.push_str(" directory");
    } else if kind.is_symlink() {
        return Ok(format!("link to {}", std::fs::read_link(path)?.display()));
    } else if kind.is_file() {
        line.push_str(&format!(" links {} size {}", metadata.nlink(), metadata.size()));
        if metadata.size() <= MAX_CONTENTS {
            line.push_str(&format!(" contents {:016x}", contents(path)?));
        }
    } else {
        let name = if kind.is_fifo() { "pipe" } else { "special" };
        line.push_str(&format!(" {name}"));
    }
    if metadata.mtime() < SET_ON_PURPOSE {
        line.push_str(&format!(" modified {}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
    }
    Ok(line)
}

fn contents(path: &Path) -> Result<u64> {
    let mut bytes = Vec::new();
    // A file that its owner may not read says nothing more than that.
    if let Ok(mut file) = std::fs::File::open(path) {
        file.read_to_end(&mut bytes)?;
    }
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    Ok(hash.finish())
}

/// Makes `directory` what `original` is, down to the holes of sparse files.
pub fn restore(original: &Path, directory: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // Directories that a program has shut are no obstacle.
        let _ = Command::new("chmod")
            .args(["-R", "u+rwx"])
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .status();
        let outcome = Command::new("rm").arg("-rf").arg(&path).status()?;
        ensure!(outcome.success(), "removing {}", path.display());
    }
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always", "--no-target-directory"])
        .args([original, directory])
        .status()?;
    ensure!(copied.success(), "copying {}", original.display());
    Ok(())
}
