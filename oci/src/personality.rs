//! `linux.personality`: what execution domain, as personality(2) has it.

use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

/// Of `linux/personality.h`.
const PER_LINUX: u32 = 0;
const PER_LINUX32: u32 = 8;
const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;

/// The number for personality(2). The specification defines no flags; the one that the kernel inside acts on is known by its name.
pub fn number(asked: &LinuxPersonality) -> anyhow::Result<u32> {
    let domain = match asked.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    asked.flags().iter().flatten().try_fold(domain, |number, flag| match flag.as_str() {
        "ADDR_NO_RANDOMIZE" => Ok(number | ADDR_NO_RANDOMIZE),
        _ => {
            anyhow::bail!("linux.personality: the flag {flag:?} is not supported; only ADDR_NO_RANDOMIZE is")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_domain_with_flags_is_a_number() {
        let of = |value| number(&serde_json::from_value(value).expect("a personality"));
        assert_eq!(of(json!({ "domain": "LINUX" })).expect("known"), 0);
        let both = json!({ "domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"] });
        assert_eq!(of(both).expect("known"), 0x40008);
        let error = of(json!({ "domain": "LINUX", "flags": ["STICKY"] })).expect_err("refused").to_string();
        assert!(error.contains("\"STICKY\""), "{error}");
    }
}
