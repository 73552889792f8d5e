//! Attacks whose judgement takes more than one look at a program's end.

use crate::stage::{Stage, User, excerpt};
use crate::suite::{Ends, damages};
use anyhow::{Context, Result, ensure};
use conformance::{AT_ONCE, run};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Numbers of the calls in the table.
fn allowed(stage: &Stage) -> Result<Vec<i64>> {
    let table = run(stage.sandbox(&["--show-filter", "--json"])?.stdin(Stdio::null()))?;
    let number = |line: &str| line.trim().strip_prefix("\"number\": ")?.trim_end_matches(',').parse().ok();
    let mut numbers: Vec<i64> = table.stdout.lines().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    ensure!((20..=45).contains(&numbers.len()), "the table has {} calls", numbers.len());
    Ok(numbers)
}

/// uretprobe(2) and uprobe(2): Linux lets them pass every filter (`seccomp_uprobe_exception`), and answers calls that do not come
/// from a probe's own trampoline with SIGILL and `ENXIO`. No filter can change that.
const PASSED_BY_LINUX: [i64; 2] = [335, 336];

/// The filter that stands for a kernel without Landlock answers this one, with `ENOSYS`: that is stronger than what ends a sandbox.
const LANDLOCK_CREATE_RULESET: i64 = 444;

pub fn every_number(stage: &Stage) -> Result<()> {
    let allowed = allowed(stage)?;
    let far =
        [600, 1000, 0x4000_0000, 0x4000_003b, 0x4000_0208, 0x7fff_ffff, -1, -59, 1 << 32, (1 << 32) + 59];
    for number in (0..=512).chain(far) {
        if allowed.contains(&number) || PASSED_BY_LINUX.contains(&number) {
            continue;
        }
        if stage.user == User::WithoutLandlock && number == LANDLOCK_CREATE_RULESET {
            continue;
        }
        // The host takes the lower half of the register for the number.
        if allowed.contains(&(number & 0xffff_ffff)) {
            continue;
        }
        for arguments in ["benign", "hostile"] {
            let outcome = stage.attack(&[], "host_call", &[&number.to_string(), arguments])?;
            let judged = Ends::ByFilter.check(&outcome);
            judged.with_context(|| format!("call {number}, {arguments}"))?;
            ensure!(!outcome.stdout.contains("answered"), "call {number} was made: {}", outcome.stdout);
        }
    }
    Ok(())
}

const RT_SIGRETURN: i64 = 15;

pub fn allowed_calls(stage: &Stage) -> Result<()> {
    for number in allowed(stage)? {
        // It runs on for ever with registers of its own making; `forged_frames` has it.
        if number == RT_SIGRETURN {
            continue;
        }
        for arguments in ["benign", "hostile"] {
            let outcome = stage.attack(&[], "host_call", &[&number.to_string(), arguments])?;
            ensure!(outcome.stdout.starts_with("trying"), "call {number}: {}", excerpt(&outcome.stderr));
        }
    }
    Ok(())
}

/// socket, connect, accept, sendmsg, recvmsg on another descriptor than the broker's, bind, listen, getsockname, getpeername,
/// socketpair, setsockopt and getsockopt of what is not listed, accept4, recvmmsg, sendmmsg.
const CALLS_OF_SOCKETS: [i64; 15] = [41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 55, 288, 299, 307];

pub fn sockets_beside_the_broker(stage: &Stage) -> Result<()> {
    for number in CALLS_OF_SOCKETS {
        let outcome = stage.attack(&["--network=host"], "host_call", &[&number.to_string(), "benign"])?;
        Ends::ByFilter.check(&outcome).with_context(|| format!("call {number}"))?;
        ensure!(!outcome.stdout.contains("answered"), "call {number} was made: {}", outcome.stdout);
    }
    Ok(())
}

/// What the sandbox's root on the host may hold by default, beside the working directory's first part.
const ROOT: &[&str] =
    &[".", "..", "usr", "opt", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu", "tmp"];

pub fn host_files(stage: &Stage) -> Result<()> {
    let outcome = stage.attack(&[], "host_files", &["SECRET"])?;
    Ends::Held.check(&outcome)?;
    let mut names = outcome.stdout.lines().filter_map(|line| line.strip_prefix("root "));
    let first = stage.directory.path().components().nth(1).map(|part| part.as_os_str().to_string_lossy());
    let strange = names.find(|name| !ROOT.contains(name) && first.as_deref() != Some(name));
    ensure!(strange.is_none(), "the root on the host holds {strange:?}");
    Ok(())
}

pub fn pages_then_execve(stage: &Stage) -> Result<()> {
    for damage in damages() {
        let outcome = stage.attack(&[], "pages", &[damage, "execve", "SECRET"])?;
        if damage == "gadget_aliased" {
            // The copy's call traps, and is our own kernel's to answer: the program runs inside.
            ensure!(outcome.status == 0, "{}", excerpt(&outcome.stderr));
            continue;
        }
        ensure!(!outcome.stdout.contains("uid="), "{damage}: a program ran: {}", outcome.stdout);
        Ends::NotBack.check(&outcome).context(damage)?;
    }
    Ok(())
}

pub fn processes_by_allowed_calls(stage: &Stage) -> Result<()> {
    // Without a pid namespace the filter itself allows no number but the calling thread's.
    let without = stage.user == User::WithoutNamespaces;
    let ends = [("poke", Ends::Held), ("affinity", if without { Ends::ByFilter } else { Ends::Held })];
    for (way, ends) in ends {
        ends.check(&stage.attack(&[], "others", &[way, "PID"])?).context(way)?;
    }
    Ok(())
}

pub fn outside(stage: &Stage) -> Result<()> {
    let shown = stage.outside("shown");
    let options = ["--bind", ".", "--ro-bind", &shown];
    let others = [stage.outside("mine"), stage.outside("open"), shown.clone()];
    let attack = |way: &str| {
        let arguments = [&[way, "SECRET"], others.each_ref().map(String::as_str).as_slice()].concat();
        stage.attack(&options, "outside", &arguments)
    };
    let list = attack("list")?;
    let ways: Vec<&str> = list.stdout.lines().filter_map(|line| line.strip_prefix("way ")).collect();
    ensure!(ways.len() > 30, "only {} ways", ways.len());
    for way in ways {
        Ends::HeldOrReported.check(&attack(way)?).context(way.to_owned())?;
        for left in ["own", "link"] {
            let _ = std::fs::remove_file(stage.directory.path().join(left));
        }
    }
    Ok(())
}

pub fn other_processes(stage: &Stage) -> Result<()> {
    let list = stage.attack(&[], "others", &["list", "PID"])?;
    let ways: Vec<&str> = list.stdout.lines().filter_map(|line| line.strip_prefix("way ")).collect();
    ensure!(ways.len() > 60, "only {} ways", ways.len());
    for way in ways {
        let outcome = stage.attack(&[], "others", &[way, "PID"])?;
        Ends::ByFilter.check(&outcome).context(way.to_owned())?;
    }
    Ok(())
}

pub fn setuid_files(stage: &Stage) -> Result<()> {
    let outcome = stage.attack(&["--bind", "."], "tree", &["setuid", "SECRET"])?;
    Ends::Held.check(&outcome)?;
    ensure!(outcome.stdout.contains("made"), "{}", outcome.stdout);
    for entry in std::fs::read_dir(stage.directory.path())? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode();
        ensure!(mode & 0o6000 == 0, "{} has mode {mode:o}", entry.path().display());
    }
    // Nor by calls of its own.
    for way in ["fchmodat", "openat", "mkdirat"] {
        let outcome = stage.attack(&["--bind", "."], "setuid", &[way])?;
        Ends::ByFilter.check(&outcome).context(way)?;
    }
    Ok(())
}

pub fn release_agent(stage: &Stage) -> Result<()> {
    let files = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe"];
    let read = || files.map(|file| std::fs::read(file).unwrap_or_default());
    let before = read();
    Ends::Held.check(&stage.attack(&[], "tree", &["release_agent", "SECRET"])?)?;
    ensure!(read() == before, "a setting of the host was changed");
    Ok(())
}

pub fn control_text(stage: &Stage) -> Result<()> {
    for way in ["escape_sequences", "escape_sequences_of_a_path"] {
        let outcome = stage.attack(&[], "control", &[way])?;
        let harmful = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        let line = outcome.stderr.trim_end_matches('\n');
        ensure!(!line.contains(harmful), "{way}: it shows {line:?}");
        ensure!(line.starts_with("sandbox-exec: "), "{way}: {line}");
        ensure!(outcome.status >= 125, "{way}: status {}", outcome.status);
    }
    Ok(())
}

pub fn control_flood(stage: &Stage) -> Result<()> {
    for way in ["flood", "flood_of_starts", "exited_and_on", "exited_oddly"] {
        let mut command = stage.command(&[], "control", &[way])?;
        let since = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut largest = 0;
        while child.try_wait()?.is_none() {
            largest = largest.max(resident_kib(child.id()));
            if since.elapsed() > AT_ONCE {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("{way}: the sandbox goes on");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(largest < 64 << 10, "{way}: the supervisor took {largest} KiB");
    }
    // Who takes the warden's messages away cannot keep the caller from ending it.
    let mut command = stage.command(&[], "control", &["steals_messages"])?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let since = Instant::now();
    while child.try_wait()?.is_none() {
        let _ = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        ensure!(since.elapsed() < AT_ONCE, "SIGTERM does not end it");
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

/// Resident memory of a process; 0 if it is gone.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
