//! The table of attacks in `docs/security.md`.

use crate::suite::ATTACKS;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const START: &str = "<!-- attacks: written by ci/attack-table -->\n";
const END: &str = "<!-- end of attacks -->\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")
}

fn table() -> String {
    let mut text = String::from("| attack | what is tried | what stops it |\n| --- | --- | --- |\n");
    for attack in ATTACKS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {} | {} |", attack.name, attack.tries, attack.stopped_by);
    }
    text
}

/// The page with the table as it is now.
fn current() -> Result<(String, String)> {
    let page = std::fs::read_to_string(path()).context("docs/security.md")?;
    let (front, rest) = page.split_once(START).context("docs/security.md has no place for the table")?;
    let (_, back) = rest.split_once(END).context("the table has no end")?;
    let new = format!("{front}{START}{}{END}{back}", table());
    Ok((page, new))
}

pub fn check() -> Result<()> {
    // Copied to another machine, or run as another user, the suite may not find the page.
    if !path().exists() {
        return Ok(());
    }
    let (page, new) = current()?;
    ensure!(page == new, "docs/security.md is not current: run ci/attack-table");
    Ok(())
}

pub fn write() -> Result<()> {
    let (_, new) = current()?;
    std::fs::write(path(), new).context("docs/security.md")
}
