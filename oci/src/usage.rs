//! What a control group of version 2 has used, from its files. A controller that the host does not have, or has not handed to an
//! ordinary user, counts nothing, and says nothing about the others: libcgroups wants all of them, huge pages included.

use anyhow::Context;
use libcgroups::stats::{BlkioDeviceStat, HugeTlbStats, MemoryData, Stats};
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// A file of the group; `None` if its controller is not there.
fn text(group: &Path, name: &str) -> anyhow::Result<Option<String>> {
    let path = group.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// A number, or `max`.
fn number(group: &Path, name: &str) -> anyhow::Result<Option<u64>> {
    let Some(text) = text(group, name)? else { return Ok(None) };
    let value = match text.trim() {
        "max" => u64::MAX,
        text => text.parse().with_context(|| format!("{name} of the control group: {text}"))?,
    };
    Ok(Some(value))
}

/// Lines of a name and a number.
fn table(group: &Path, name: &str) -> anyhow::Result<HashMap<String, u64>> {
    let text = text(group, name)?.unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect())
}

/// `memory.…` or `memory.swap.…`.
fn memory(group: &Path, prefix: &str) -> anyhow::Result<MemoryData> {
    let of = |what: &str| number(group, &format!("{prefix}.{what}"));
    let events = table(group, &format!("{prefix}.events"))?;
    Ok(MemoryData {
        usage: of("current")?.unwrap_or(0),
        max_usage: of("peak")?.unwrap_or(0),
        fail_count: events.get("max").copied().unwrap_or(0),
        limit: of("max")?.unwrap_or(0),
    })
}

/// `hugetlb.SIZE.…` of every size that the group counts.
fn huge_pages(group: &Path) -> anyhow::Result<HashMap<String, HugeTlbStats>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir(group)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let failures = table(group, &format!("hugetlb.{size}.events"))?;
        let one = HugeTlbStats {
            usage: number(group, &name)?.unwrap_or(0),
            fail_count: failures.get("max").copied().unwrap_or(0),
            ..HugeTlbStats::default()
        };
        all.insert(size.to_owned(), one);
    }
    Ok(all)
}

/// A line of `io.stat`: `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`. Devices without numbers have only their name.
fn device(line: &str, reads: &str, writes: &str) -> Vec<BlkioDeviceStat> {
    let mut words = line.split(' ');
    let numbers = words.next().and_then(|device| device.split_once(':'));
    let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse(), minor.parse())) else {
        return Vec::new();
    };
    let of = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let operation = if key == reads {
            "read"
        } else if key == writes {
            "write"
        } else {
            return None;
        };
        Some(BlkioDeviceStat { major, minor, op_type: Some(operation.into()), value: value.parse().ok()? })
    };
    words.filter_map(of).collect()
}

/// All of it; times in nanoseconds, as runc has them.
///
/// # Errors
/// The group is not there, or cannot be read.
pub fn of_version_2(group: &Path) -> anyhow::Result<Stats> {
    let mut stats = Stats::default();
    let cpu = table(group, "cpu.stat")?;
    let count = |name: &str| cpu.get(name).copied().unwrap_or(0);
    let nanoseconds = |name: &str| count(name).saturating_mul(1000);
    stats.cpu.usage.usage_total = nanoseconds("usage_usec");
    stats.cpu.usage.usage_user = nanoseconds("user_usec");
    stats.cpu.usage.usage_kernel = nanoseconds("system_usec");
    stats.cpu.throttling.periods = count("nr_periods");
    stats.cpu.throttling.throttled_periods = count("nr_throttled");
    stats.cpu.throttling.throttled_time = nanoseconds("throttled_usec");
    stats.pids.current = number(group, "pids.current")?.unwrap_or(0);
    // No limit is none.
    stats.pids.limit = number(group, "pids.max")?.filter(|&limit| limit != u64::MAX).unwrap_or(0);
    stats.memory.memory = memory(group, "memory")?;
    // Of memory and swap together, as version 1 has it.
    let mut swap = memory(group, "memory.swap")?;
    swap.usage = swap.usage.saturating_add(stats.memory.memory.usage);
    swap.limit = swap.limit.saturating_add(stats.memory.memory.limit);
    stats.memory.memswap = swap;
    stats.memory.hierarchy = true;
    stats.memory.stats = table(group, "memory.stat")?;
    stats.memory.cache = stats.memory.stats.get("file").copied().unwrap_or(0);
    stats.hugetlb = huge_pages(group)?;
    for line in text(group, "io.stat")?.unwrap_or_default().lines() {
        stats.blkio.service_bytes.extend(device(line, "rbytes", "wbytes"));
        stats.blkio.serviced.extend(device(line, "rios", "wios"));
    }
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(place.path().join(name), text).expect("written");
        }
        place
    }

    #[test]
    fn a_group_without_cpu_io_and_huge_pages_tells_what_it_counts() {
        let place = group(&[
            ("cpu.stat", "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n"),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\nfile 2\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
        ]);
        let stats = of_version_2(place.path()).expect("read");
        assert_eq!((stats.cpu.usage.usage_total, stats.cpu.throttling.periods), (5_000_000, 0));
        assert_eq!((stats.memory.memory.usage, stats.memory.memory.limit), (4096, u64::MAX));
        assert_eq!((stats.memory.cache, stats.pids.current, stats.pids.limit), (2, 3, 0));
        assert!(stats.hugetlb.is_empty() && stats.blkio.serviced.is_empty());
    }

    #[test]
    fn devices_huge_pages_and_failures_are_counted() {
        let place = group(&[
            ("cpu.stat", "usage_usec 1\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\nbad rbytes=1\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 4\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("memory.current", "10\n"),
            ("memory.max", "100\n"),
            ("memory.events", "low 0\nmax 6\noom 1\n"),
            ("memory.swap.current", "5\n"),
            ("memory.swap.max", "50\n"),
        ]);
        let stats = of_version_2(place.path()).expect("read");
        assert_eq!((stats.cpu.throttling.periods, stats.cpu.throttling.throttled_time), (7, 9000));
        let values = |all: &[BlkioDeviceStat]| all.iter().map(|one| one.value).collect::<Vec<_>>();
        assert_eq!(
            (values(&stats.blkio.service_bytes), values(&stats.blkio.serviced)),
            (vec![10, 20], vec![1, 2])
        );
        assert_eq!(stats.hugetlb.len(), 1);
        assert_eq!(stats.hugetlb.get("2MB").map(|one| (one.usage, one.fail_count)), Some((2_097_152, 4)));
        assert_eq!(
            (stats.memory.memory.fail_count, stats.memory.memswap.usage, stats.memory.memswap.limit),
            (6, 15, 150)
        );
        assert!(of_version_2(&place.path().join("none")).is_err());
    }
}
