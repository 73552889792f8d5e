//! `list`: all containers below `--root`.

use super::{print, state};
use crate::command::{Global, List, ListFormat};
use crate::state::Container;

/// Runs the verb.
pub fn list(global: &Global, options: &List) -> anyhow::Result<u8> {
    let all = Container::all(global)?;
    if options.quiet {
        print(&all.iter().map(|container| format!("{}\n", container.record.id)).collect::<String>())?;
        return Ok(0);
    }
    if options.format == ListFormat::Json {
        let all: Vec<_> = all.iter().map(state::describe).collect();
        print(&serde_json::to_string(&all)?)?;
        return Ok(0);
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(all.iter().map(|container| {
        let record = &container.record;
        [
            record.id.clone(),
            container.pid().to_string(),
            container.told_status().to_string(),
            record.bundle.display().to_string(),
            record.created.clone(),
            state::owner(record.owner),
        ]
    }));
    print(&aligned(&rows))?;
    Ok(0)
}

/// As runc aligns it: columns at least twelve wide, three spaces apart.
fn aligned(rows: &[[String; 6]]) -> String {
    let mut text = String::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let longest = rows.iter().map(|row| row[index].len()).max().unwrap_or(0);
            let width = if index + 1 == row.len() { 0 } else { (longest + 3).max(12) };
            text.push_str(&format!("{cell:<width$}"));
        }
        text.push('\n');
    }
    text
}
