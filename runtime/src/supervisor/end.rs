//! What is understood of a sandbox's end: its own words, which are hostile, its status, and what the host tells of it.

use boundary::control::{FIRST, FromSandbox, MAX_MESSAGE};
use libseccomp::ScmpNotifReq;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program exited with this code.
    Exited(u8),
    /// The program died of this signal.
    Signalled(u8),
    /// The program could not be executed: error number and its path.
    NotExecuted(i32, String),
    /// The sandbox itself failed: a report for people.
    Failed(String),
}

/// The report where the sandbox itself said nothing.
pub(super) fn unexplained(status: nix::Result<WaitStatus>) -> End {
    End::Failed(match status {
        Ok(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => {
            "the warden made a host call that its filter does not allow; please report this with the program that did it".into()
        }
        Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => {
            "the warden was killed from outside, perhaps for want of memory; see the host's kernel log".into()
        }
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            format!("the warden was killed by {signal}, which is a fault of the kernel; please report it")
        }
        Ok(WaitStatus::Exited(_, code)) => {
            format!("the kernel ended with status {code} and without a word; run with --log debug for more")
        }
        _ => "the kernel ended without a word; run with --log debug for more".into(),
    })
}

/// A packet from inside. It may be anything.
pub(super) fn read(packet: &[u8]) -> Option<FromSandbox> {
    let message = Some(packet).filter(|packet| packet.len() <= MAX_MESSAGE);
    message.and_then(|message| postcard::from_bytes(message).ok())
}

/// What a message says of the sandbox's end; `None` if it is about something else.
pub(super) fn said(message: Option<&FromSandbox>) -> Option<End> {
    match message {
        Some(FromSandbox::Exited { process: FIRST, status }) => Some(end_of(*status)),
        Some(FromSandbox::NotExecuted { process: FIRST, errno, reason }) => {
            Some(End::NotExecuted(*errno, harmless_name(reason)))
        }
        Some(FromSandbox::Fatal { report }) => Some(End::Failed(harmless(report))),
        Some(FromSandbox::Started { .. } | FromSandbox::Exited { .. } | FromSandbox::NotExecuted { .. }) => {
            None
        }
        None => Some(End::Failed("it sent a message that cannot be read".into())),
    }
}

/// The end that a wait status tells of.
pub(crate) fn end_of(status: i32) -> End {
    match (status & 0x7f) as u8 {
        0 => End::Exited((status >> 8) as u8),
        signal => End::Signalled(signal),
    }
}

/// The report of a call that the filter has stopped.
pub(super) fn not_allowed(call: &ScmpNotifReq) -> String {
    let data = &call.data;
    let number = i32::from(data.syscall);
    let name = data.syscall.get_name().map_or_else(|_| "call".into(), |name| format!("{name}, call"));
    let arguments: Vec<String> = data.args.iter().map(|argument| format!("{argument:#x}")).collect();
    format!(
        "host process {} made a host call that its filter does not allow: {name} {number} at {:#x}, with arguments {}; \
         its program has overwritten the kernel, or the kernel has a fault",
        call.pid,
        data.instr_pointer,
        arguments.join(", ")
    )
}

/// Text from inside, without what a terminal would act on: control characters, and those that change the direction of text.
fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).take(8 << 10).collect()
}

/// As [`harmless`], on one line: a name is part of a line of ours, and must not begin another.
pub(crate) fn harmless_name(text: &str) -> String {
    harmless(text).replace('\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_from_inside_cannot_control_the_terminal() {
        assert_eq!(harmless("a\x1b[31mb\nc\r"), "a\u{fffd}[31mb\nc\u{fffd}");
        assert_eq!(harmless("a\u{202e}b\u{9b}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(harmless_name("a\nsandbox-exec: b"), "a\u{fffd}sandbox-exec: b");
        assert!(harmless(&"x".repeat(1 << 20)).len() <= 8 << 10);
    }

    /// Text that is likely to hold what must not be shown.
    fn text() -> impl Strategy<Value = String> {
        let strange = prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{9f}'),
            proptest::char::range('\u{200b}', '\u{2069}'),
            Just('\n'),
        ];
        proptest::collection::vec(strange, 0..200).prop_map(|chars| chars.into_iter().collect())
    }

    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let encoded = |message: FromSandbox| postcard::to_allocvec(&message).expect("encodes");
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            (0u32..3, any::<i32>())
                .prop_map(move |(process, status)| encoded(FromSandbox::Exited { process, status })),
            (any::<i32>(), text()).prop_map(move |(errno, reason)| encoded(FromSandbox::NotExecuted {
                process: FIRST,
                errno,
                reason
            })),
            text().prop_map(move |report| encoded(FromSandbox::Fatal { report })),
            (0u8..4, proptest::collection::vec(any::<u8>(), 0..MAX_MESSAGE + 9)).prop_map(
                |(variant, mut bytes)| {
                    bytes.insert(0, variant);
                    bytes
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_inside_says_is_short_and_harmless(packet in packet()) {
            let harmful = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
            match said(read(&packet).as_ref()) {
                None => {}
                Some(End::NotExecuted(_, name)) => {
                    prop_assert!(name.len() <= 4 * (8 << 10) && !name.contains('\n') && !name.contains(harmful));
                }
                Some(End::Failed(report)) => prop_assert!(report.len() <= 4 * (8 << 10) && !report.contains(harmful)),
                Some(End::Exited(_)) => {}
                Some(End::Signalled(signal)) => prop_assert!((1..128).contains(&signal)),
            }
        }
    }
}
