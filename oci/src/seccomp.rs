//! `linux.seccomp`: the profile becomes a filter that the container's kernel applies to the container's calls. The host applies none
//! of it: its own filter, around the sandbox, knows calls of our kernel only.

use anyhow::Context;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;
/// Numbers from here on are those of x32.
const X32_BIT: u32 = 0x4000_0000;
/// `SECCOMP_RET_ERRNO | ENOSYS`.
const RETURN_ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
/// Where a call's number and architecture lie in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Compiles a profile: `sock_filter`s, eight bytes in memory order each.
pub fn compile(profile: &LinuxSeccomp) -> anyhow::Result<Vec<u64>> {
    compile_all(profile).context("linux.seccomp")
}

fn compile_all(profile: &LinuxSeccomp) -> anyhow::Result<Vec<u64>> {
    anyhow::ensure!(
        profile.listener_path().is_none(),
        "listenerPath is not supported: nobody outside judges the container's calls"
    );
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default)?;
    // A search by halves: profiles allow hundreds of calls, and each call runs the filter.
    context.set_ctl_optimize(2)?;
    for architecture in profile.architectures().iter().flatten() {
        let architecture = match architecture {
            Arch::ScmpArchX86 => ScmpArch::X86,
            Arch::ScmpArchX32 => ScmpArch::X32,
            // The context has it; the others run no code here.
            _ => continue,
        };
        context.add_arch(architecture)?;
    }
    let mut highest = 0;
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        for name in rule.names() {
            // A name that this version of libseccomp does not know is a call of another architecture, or newer.
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            highest = highest.max(i32::from(call));
            if action != default {
                add(&mut context, action, call, rule).with_context(|| name.clone())?;
            }
        }
    }
    let mut program = match (default, u32::try_from(highest)) {
        (ScmpAction::Allow, _) | (_, Err(_) | Ok(0)) => Vec::new(),
        (_, Ok(highest)) => unknown_is_missing(highest),
    };
    program.extend(exported(&context)?);
    Ok(program)
}

/// As runc does it: calls above all that the profile names are newer than the profile, and do not exist rather than being forbidden,
/// so that a C library goes on to older ones.
fn unknown_is_missing(highest: u32) -> Vec<u64> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    vec![
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, ARCHITECTURE),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, X86_64),
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, NUMBER),
        instruction(BPF_JMP | BPF_JGE | BPF_K, 2, 0, X32_BIT),
        instruction(BPF_JMP | BPF_JGT | BPF_K, 0, 1, highest),
        instruction(BPF_RET | BPF_K, 0, 0, RETURN_ENOSYS),
    ]
}

fn instruction(code: u32, jump_true: u8, jump_false: u8, value: u32) -> u64 {
    let code = (code as u16).to_ne_bytes();
    let value = value.to_ne_bytes();
    u64::from_ne_bytes([code[0], code[1], jump_true, jump_false, value[0], value[1], value[2], value[3]])
}

fn add(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    call: ScmpSyscall,
    rule: &LinuxSyscall,
) -> anyhow::Result<()> {
    let arguments = rule.args().as_deref().unwrap_or_default();
    let twice = |argument: &LinuxSeccompArg| {
        arguments.iter().filter(|other| other.index() == argument.index()).count() > 1
    };
    if arguments.is_empty() {
        context.add_rule(action, call)?;
    } else if arguments.iter().any(twice) {
        // libseccomp takes one comparison of an argument: several are alternatives, as runc has it.
        for argument in arguments {
            context.add_rule_conditional(action, call, &[comparison(argument)?])?;
        }
    } else {
        let comparisons = arguments.iter().map(comparison).collect::<anyhow::Result<Vec<_>>>()?;
        context.add_rule_conditional(action, call, &comparisons)?;
    }
    Ok(())
}

fn comparison(argument: &LinuxSeccompArg) -> anyhow::Result<ScmpArgCompare> {
    use LinuxSeccompOperator as Operator;
    let index = u32::try_from(argument.index())
        .ok()
        .filter(|&index| index < 6)
        .context("a call has six arguments")?;
    let value = argument.value();
    let (operator, datum) = match argument.op() {
        Operator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        Operator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        Operator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        Operator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        Operator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        Operator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        Operator::ScmpCmpMaskedEq => (ScmpCompareOp::MaskedEqual(value), argument.value_two().unwrap_or(0)),
    };
    Ok(ScmpArgCompare::new(index, operator, datum))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> anyhow::Result<ScmpAction> {
    use LinuxSeccompAction as Action;
    let number = errno.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(i32::try_from(number).context("errnoRet")?),
        Action::ScmpActTrace => ScmpAction::Trace(u16::try_from(number).context("errnoRet")?),
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActAllow => ScmpAction::Allow,
        Action::ScmpActNotify => {
            anyhow::bail!("SCMP_ACT_NOTIFY is not supported: nobody outside judges the container's calls")
        }
    })
}

fn exported(context: &ScmpFilterContext) -> anyhow::Result<Vec<u64>> {
    let mut file = File::from(memfd_create(c"seccomp", MFdFlags::MFD_CLOEXEC).context("a file in memory")?);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> LinuxSeccomp {
        serde_json::from_str(text).expect("a profile")
    }

    #[test]
    fn a_profile_becomes_a_program_that_ends_newer_calls_first() {
        let program = compile(&profile(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                             {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                              "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
        ))
        .expect("compiles");
        assert_eq!(program[4] >> 32, libc::SYS_clone as u64);
        assert_eq!(program[5] >> 32, u64::from(RETURN_ENOSYS));
        assert!(program.len() > 10 && program.len() < 4096);
    }

    #[test]
    fn what_needs_a_judge_outside_is_refused() {
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#;
        let error = format!("{:#}", compile(&profile(text)).expect_err("refused"));
        assert!(error.contains("SCMP_ACT_NOTIFY"), "{error}");
    }
}
