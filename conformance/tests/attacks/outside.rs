//! What is judged by looking at a running sandbox from outside.

use crate::stage::{SECRET, Stage, User, excerpt};
use anyhow::{Context, Result, ensure};
use conformance::{AT_ONCE, Outcome, run};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sandbox that runs a shell script, has said "ready", and ends with this value.
struct Running(Child);

impl Running {
    fn start(stage: &Stage, options: &[&str], script: &str) -> Result<Running> {
        let mut command = stage.sandbox(options)?;
        command.args(["--", "sh", "-c", script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("stdout")?).read_line(&mut line)?;
        let running = Running(child);
        ensure!(line == "ready\n", "it said {line:?}");
        Ok(running)
    }

    /// The warden: it leads a process group, which neither broker nor guard do.
    fn warden(&self) -> Result<u32> {
        let wardens: Vec<u32> =
            children(self.0.id()).into_iter().filter(|&pid| group_of(pid) == Some(pid)).collect();
        ensure!(wardens.len() == 1, "the wardens are {wardens:?}");
        Ok(wardens[0])
    }

    /// Host processes: the warden and its children.
    fn processes(&self) -> Result<Vec<u32>> {
        let warden = self.warden()?;
        let all: Vec<u32> = std::iter::once(warden).chain(children(warden)).collect();
        ensure!(all.len() >= 2, "the sandbox has the processes {all:?}");
        Ok(all)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = Command::new("kill").args(["-KILL", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

fn children(of: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The process group of a process that lives (proc_pid_stat(5)).
fn group_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(group)
}

fn members(group: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| group_of(pid) == Some(group)).collect()
}

pub fn left_over_processes(stage: &Stage) -> Result<()> {
    for (killed, how) in [("nobody", "exits"), ("warden", "waits"), ("supervisor", "waits")] {
        let mut command = stage.command(&[], "orphans", &[how])?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (supervisor, mut line) = (child.id(), String::new());
        let mut output = BufReader::new(child.stdout.take().context("stdout")?);
        let (since, mut group) = (Instant::now(), None);
        while group.is_none() && since.elapsed() < AT_ONCE {
            group = children(supervisor).into_iter().find(|&pid| group_of(pid) == Some(pid));
        }
        let group = group.context("there is no warden")?;
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "it said {line:?}");
        if killed != "nobody" {
            ensure!(members(group).len() > 8, "the group has {:?}", members(group));
        }
        let victim = match killed {
            "warden" => Some(group),
            "supervisor" => Some(supervisor),
            _ => None,
        };
        if let Some(victim) = victim {
            Command::new("kill").args(["-KILL", &victim.to_string()]).status()?;
        }
        child.wait()?;
        // The end of the supervisor is that of the sandbox; if it was killed, that takes a moment.
        let since = Instant::now();
        while killed == "supervisor" && !members(group).is_empty() && since.elapsed() < AT_ONCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        ensure!(members(group).is_empty(), "killed: {killed}; left: {:?}", members(group));
    }
    Ok(())
}

fn shell(stage: &Stage, script: &str) -> Result<Outcome> {
    let outcome = run(stage.sandbox(&[])?.args(["--", "sh", "-c", script]))?;
    stage.judge(&outcome)?;
    Ok(outcome)
}

const WAIT: &str = "sleep 1000 & echo ready; read line";

pub fn set_up(stage: &Stage) -> Result<()> {
    let running = Running::start(stage, &[], WAIT)?;
    for pid in running.processes()? {
        let status = status_outside_of_handlers(pid)?;
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name, value.trim()))
            .collect();
        let without = stage.user == User::WithoutNamespaces;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            // Without a namespace that is the host's to take away, and no program is executed that could have any of it.
            if set == "CapBnd" && without {
                continue;
            }
            ensure!(fields.get(set) == Some(&"0000000000000000"), "{set} is {:?}", fields.get(set));
        }
        ensure!(fields.get("NoNewPrivs") == Some(&"1"), "new privileges can be had");
        ensure!(fields.get("Seccomp") == Some(&"2"), "there is no filter");
        ensure!(
            !fields.get("Uid").is_some_and(|ids| ids.split_whitespace().any(|id| id == "0")),
            "it is root"
        );
        let groups = fields.get("Groups").copied().unwrap_or_default();
        ensure!(groups.split_whitespace().all(|group| group != "0"), "it has the groups {groups}");
        ensure!(fields.get("SigBlk") == Some(&"0000000000000000"), "a signal is blocked");
        descriptors(pid)?;
        if !without {
            namespaces(pid)?;
            mounts(pid)?;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        ensure!(environment.is_empty(), "an environment is left");
        ensure!(
            fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))?.trim() != "0",
            "it is not the first to go"
        );
        let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        ensure!(core.is_some_and(|line| line.split_whitespace().nth(4) == Some("0")), "core dumps: {core:?}");
    }
    Ok(())
}

/// `/proc/PID/status`, if it can be had when no signal is blocked: in the handler of a trap all are, for a moment.
fn status_outside_of_handlers(pid: u32) -> Result<String> {
    let since = Instant::now();
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        if status.contains("SigBlk:\t0000000000000000\n") || since.elapsed() > AT_ONCE {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn namespaces(pid: u32) -> Result<()> {
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        ensure!(of("self")? != of(&pid.to_string())?, "the {kind} namespace is the host's");
    }
    Ok(())
}

/// The launcher hands over no directory but the tree's root; the kernel keeps directories of the tree open, by their names in it.
/// Memory, the control socket, the tree's root, the warden's event, and the caller's standard descriptors. And files that the kernel
/// has opened in the tree, for programs.
fn descriptors(pid: u32) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let number: u32 = entry.file_name().to_string_lossy().parse()?;
        let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
        // The log is the caller's standard error, once more.
        let log = fs::read_link(format!("/proc/{pid}/fd/2"))?.to_string_lossy().into_owned();
        let known = [log.as_str(), "/memfd:trapbox-", "socket:", "anon_inode:[eventfd]", "/usr/", "/etc/"];
        ensure!(
            number < 3
                || in_tree(pid, &target)
                || known.iter().any(|start| target.starts_with(start))
                || target.starts_with("pipe:"),
            "descriptor {number} is {target}"
        );
    }
    Ok(())
}

/// Whether a directory or file is the one of this name in the sandbox's tree. (Links of `/proc` show names in the tree of the process.)
fn in_tree(pid: u32, target: &str) -> bool {
    target.starts_with('/') && fs::symlink_metadata(format!("/proc/{pid}/root{target}")).is_ok()
}

fn mounts(pid: u32) -> Result<()> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    ensure!(!table.is_empty(), "no mounts");
    for line in table.lines() {
        let (front, back) = line.split_once(" - ").context("a separator")?;
        let options: Vec<&str> = front.split(' ').nth(5).unwrap_or_default().split(',').collect();
        for wanted in ["ro", "nosuid", "nodev"] {
            ensure!(options.contains(&wanted), "a mount is not {wanted}: {line}");
        }
        let kind = back.split(' ').next().unwrap_or_default();
        ensure!(!["proc", "sysfs", "cgroup", "cgroup2", "devtmpfs", "devpts"].contains(&kind), "{line}");
    }
    Ok(())
}

pub fn environment_and_memory(stage: &Stage) -> Result<()> {
    let outcome = shell(stage, "env; cat /proc/*/environ")?;
    ensure!(outcome.stdout.contains("PATH="), "{}", excerpt(&outcome.stderr));
    let running = Running::start(stage, &[], WAIT)?;
    for pid in running.processes()? {
        // Without privilege the host does not let us look, either.
        let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { continue };
        let (mut searched, pages) = (0u64, fs::File::open(format!("/proc/{pid}/pagemap"))?);
        for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
            searched += search(line, &memory, &pages).with_context(|| line.to_owned())?;
        }
        ensure!(searched > 100, "process {pid}: only {searched} pages could be searched");
    }
    Ok(())
}

/// Looks for the secret in the pages of a mapping that are there; how many those were.
fn search(line: &str, memory: &fs::File, pages: &fs::File) -> Result<u64> {
    const PAGE: u64 = 4096;
    const PRESENT_OR_SWAPPED: u8 = 0xc0;
    let mut words = line.split_whitespace();
    let (start, end) = words.next().and_then(|range| range.split_once('-')).context("a range")?;
    let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
    let files = line.contains(" /usr/") || line.contains("[v");
    if !words.next().is_some_and(|rights| rights.starts_with('r')) || files {
        return Ok(0);
    }
    let mut searched = 0;
    let mut entries = vec![0u8; 8 << 16];
    let mut at = start;
    while at < end {
        let got = pages.read_at(&mut entries, at / PAGE * 8)? as u64 / 8;
        ensure!(got > 0, "no page table");
        for (index, entry) in entries.chunks_exact(8).take(((end - at) / PAGE).min(got) as usize).enumerate()
        {
            let address = at + index as u64 * PAGE;
            let mut page = [0u8; PAGE as usize];
            if entry.last().is_some_and(|top| top & PRESENT_OR_SWAPPED != 0)
                && memory.read_exact_at(&mut page, address).is_ok()
            {
                searched += 1;
                let found = page.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
                ensure!(!found, "the secret lies at {address:#x}");
            }
        }
        at += got * PAGE;
    }
    Ok(searched)
}

pub fn kernel_pointers(stage: &Stage) -> Result<()> {
    let script = "cat /proc/kallsyms /proc/modules /proc/iomem /proc/kcore /proc/self/stat /proc/self/wchan /proc/self/stack \
        /proc/self/syscall /proc/self/maps /proc/net/unix /proc/net/tcp /proc/timer_list /sys/kernel/notes /sys/module/*/sections/.text \
        /proc/slabinfo /proc/vmallocinfo /proc/sched_debug 2>/dev/null; dmesg 2>/dev/null; echo done";
    let outcome = shell(stage, script)?;
    ensure!(outcome.stdout.ends_with("done\n"), "{}", excerpt(&outcome.stderr));
    let mut words = outcome.stdout.split(|c: char| !c.is_ascii_hexdigit());
    let pointer =
        words.find(|word| word.len() == 16 && word.starts_with("ffff") && !word.starts_with("ffffffffff60"));
    ensure!(pointer.is_none(), "it reads {pointer:?}");
    Ok(())
}

pub fn other_sandboxes(stage: &Stage) -> Result<()> {
    let victim = "mark=OTHER; for place in /tmp /run /dev/shm /var/tmp $HOME .; do echo $mark-4711 >$place/mark-4711; done 2>/dev/null; \
        python3 -c 'import socket, time\ns = socket.socket(socket.AF_UNIX); s.bind(\"\\0OTHER-4711\"); s.listen(); time.sleep(1000)' & \
        ipcmk -M 4711 >/dev/null; sleep 0.7; echo ready; read line";
    let victim = Running::start(stage, &[], victim)?;
    let look = "cat /tmp/* /run/* /dev/shm/* /var/tmp/* $HOME/* ./mark* 2>/dev/null; cat /proc/*/cmdline /proc/net/unix | tr '\\0' ' '; \
        ipcs -m; ls -R /tmp /run /dev/shm /dev/mqueue; ls /proc; echo done";
    let outcome = shell(stage, look)?;
    ensure!(outcome.stdout.ends_with("done\n"), "{}", excerpt(&outcome.stderr));
    ensure!(!outcome.stdout.contains("4711"), "it found the other: {}", excerpt(&outcome.stdout));
    for pid in victim.processes()? {
        ensure!(
            !outcome.stdout.lines().any(|line| line == pid.to_string()),
            "it sees the host's process {pid}"
        );
    }
    Ok(())
}

/// Runs a command on a terminal of its own; what its user saw.
fn on_a_terminal(command: &Command, directory: &Path) -> Result<Outcome> {
    let quote = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let mut words = vec![quote(command.get_program())];
    words.extend(command.get_args().map(quote));
    run(Command::new("script").args(["-qec", &words.join(" "), "/dev/null"]).current_dir(directory))
}

pub fn terminal(stage: &Stage) -> Result<()> {
    let here: PathBuf = stage.directory.path().into();
    for (options, way) in [(&[][..], "handed_on"), (&["--tty"][..], "own")] {
        let outcome = on_a_terminal(&stage.command(options, "terminal", &[way])?, &here)?;
        stage.judge(&outcome)?;
        ensure!(
            outcome.stdout.contains("held"),
            "{way}: {}{}",
            excerpt(&outcome.stdout),
            excerpt(&outcome.stderr)
        );
    }
    let outcome = on_a_terminal(&stage.command(&[], "others", &["tiocsti", "PID"])?, &here)?;
    stage.judge(&outcome)?;
    ensure!(
        outcome.stdout.contains("trying") && outcome.stdout.contains("filter"),
        "{}",
        excerpt(&outcome.stdout)
    );
    Ok(())
}
