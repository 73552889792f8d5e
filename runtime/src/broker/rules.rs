//! Which destinations are allowed: the rules of `--allow-net` and `--deny-net`.

use super::special::special;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// This name.
    Name(String),
    /// Names below this one (`*.example.com`).
    Below(String),
    /// All that is not special (`*`).
    Any,
    /// These addresses.
    Net(IpNet),
}

/// A rule: `HOST[:PORT[-PORT]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    ports: RangeInclusive<u16>,
    /// As the user wrote it.
    text: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const ALL_PORTS: RangeInclusive<u16> = 1..=u16::MAX;

impl Rule {
    /// Reads one; `localhost` is two, one for each of its addresses.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let (host, ports) = split(text)?;
        let rule = |host| Rule { host, ports: ports.clone(), text: text.to_owned() };
        if host.eq_ignore_ascii_case("localhost") {
            let one = |ip: &str| ip.parse::<IpAddr>().map(|ip| rule(Host::Net(ip.into())));
            return [one("127.0.0.1"), one("::1")]
                .into_iter()
                .map(|rule| rule.map_err(|e| e.to_string()))
                .collect();
        }
        Ok(vec![rule(parse_host(host)?)])
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    fn has_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Name(own) => own == name,
            Host::Below(parent) => name
                .strip_suffix(parent.as_str())
                .is_some_and(|front| front.len() > 1 && front.ends_with('.')),
            Host::Any => true,
            Host::Net(_) => false,
        }
    }

    /// Whether it means this address; a special one only if it is about nothing else.
    fn has_address(&self, ip: IpAddr, own: &[IpAddr]) -> bool {
        match &self.host {
            Host::Net(net) => {
                net.contains(&ip) && special(ip, own).is_none_or(|range| range.net.contains(net))
            }
            Host::Any => special(ip, own).is_none(),
            _ => false,
        }
    }
}

/// Host and ports.
fn split(text: &str) -> Result<(&str, RangeInclusive<u16>), String> {
    // An IPv6 address without brackets has colons of its own, and no port.
    if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() {
        return Ok((text, ALL_PORTS));
    }
    match text.rsplit_once(':') {
        Some((host, ports)) if !ports.contains(']') => Ok((host, parse_ports(ports)?)),
        _ => Ok((text, ALL_PORTS)),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("'{text}' is no port; write 1 to 65535, or a range such as 8000-8999")),
    };
    if text == "*" {
        return Ok(ALL_PORTS);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ports = port(first)?..=port(last)?;
    if ports.is_empty() { Err(format!("'{text}' is an empty range of ports")) } else { Ok(ports) }
}

fn parse_host(text: &str) -> Result<Host, String> {
    if text == "*" {
        return Ok(Host::Any);
    }
    let plain = text.replace(['[', ']'], "");
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return Ok(Host::Net(ip.to_canonical().into()));
    }
    if let Ok(net) = plain.parse::<IpNet>() {
        return Ok(Host::Net(net.trunc()));
    }
    if let Some(parent) = text.strip_prefix("*.") {
        return Ok(Host::Below(parse_name(parent)?));
    }
    parse_name(text).map(Host::Name)
}

/// A name as rules and queries have it: in small letters, without the dot at its end.
///
/// # Errors
/// What is wrong with it: characters that no host name has, or an end that other programs take for an address (`0x7f.1`, `017.1`).
pub fn parse_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        plain && (1..=63).contains(&label.len())
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("'{}' is neither a name nor an address", text.escape_debug()));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("'{text}' looks like an address in an unusual form; write it as 192.0.2.1"));
    }
    Ok(name)
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By this rule.
    Allowed(String),
    /// For this reason.
    Denied(String),
}

/// All rules of a sandbox.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What `--allow-net` says.
    pub allow: Vec<Rule>,
    /// What `--deny-net` says; it counts for more.
    pub deny: Vec<Rule>,
    /// `--network=host`: whatever is not denied.
    pub everything: bool,
}

impl Rules {
    /// Whether a connection to `to` is allowed. `names` are those that the address was found under, `own` are the host's
    /// addresses.
    pub fn judge(&self, to: SocketAddr, names: &[String], own: &[IpAddr]) -> Verdict {
        let by_name = |rule: &&Rule| rule.has_port(to.port()) && names.iter().any(|name| rule.has_name(name));
        let denies = |rule: &&Rule| match &rule.host {
            Host::Net(net) => rule.has_port(to.port()) && net.contains(&to.ip()),
            Host::Any => rule.has_port(to.port()),
            _ => by_name(rule),
        };
        if let Some(rule) = self.deny.iter().find(denies) {
            return Verdict::Denied(format!("--deny-net {rule}"));
        }
        if self.everything {
            return Verdict::Allowed("--network=host".into());
        }
        let by_address = |rule: &&Rule| rule.has_port(to.port()) && rule.has_address(to.ip(), own);
        // Of names that a wildcard rule covers, special addresses were never handed out.
        let allows = |rule: &&Rule| by_address(rule) || rule.host != Host::Any && by_name(rule);
        if let Some(rule) = self.allow.iter().find(allows) {
            return Verdict::Allowed(rule.to_string());
        }
        Verdict::Denied(match special(to.ip(), own) {
            _ if !names.is_empty() => format!("no rule allows port {} of {}", to.port(), names.join(", ")),
            Some(range) => format!("{} address, which no rule names", range.what),
            None => "no rule names this address".into(),
        })
    }

    /// Whether a name may be looked up: some port of it is allowed.
    pub fn judge_name(&self, name: &str) -> Verdict {
        let everything = |rule: &&Rule| rule.ports == ALL_PORTS && rule.has_name(name);
        if let Some(rule) = self.deny.iter().find(everything) {
            return Verdict::Denied(format!("--deny-net {rule}"));
        }
        if self.everything {
            return Verdict::Allowed("--network=host".into());
        }
        match self.allow.iter().find(|rule| rule.has_name(name)) {
            Some(rule) => Verdict::Allowed(rule.to_string()),
            None => Verdict::Denied("no rule names it".into()),
        }
    }

    /// Whether an address that a name was found to have may be told: not a special one, unless a rule names it.
    pub fn may_tell(&self, ip: IpAddr, own: &[IpAddr]) -> bool {
        self.everything
            || special(ip, own).is_none()
            || self.allow.iter().any(|rule| rule.has_address(ip, own))
    }

    /// Whether some rule is about the host's own loopback interface.
    pub fn reach_loopback(&self) -> bool {
        let is_loopback = |rule: &Rule| matches!(&rule.host, Host::Net(net) if net.addr().is_loopback());
        self.everything || self.allow.iter().any(is_loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(allow: &[&str], deny: &[&str]) -> Rules {
        let parse = |texts: &[&str]| texts.iter().flat_map(|text| Rule::parse(text).expect(text)).collect();
        Rules { allow: parse(allow), deny: parse(deny), everything: false }
    }

    fn allowed(rules: &Rules, to: &str, names: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let verdict =
            rules.judge(to.parse().expect("a place"), &names, &["203.0.113.9".parse().expect("ip")]);
        matches!(verdict, Verdict::Allowed(_))
    }

    #[test]
    fn ports_are_part_of_a_rule() {
        let rules = rules(&["example.com:443", "8.8.0.0/16:1000-2000", "[2a00::1]:80", "2a00::2"], &[]);
        assert!(allowed(&rules, "9.9.9.9:443", &["example.com"]));
        assert!(!allowed(&rules, "9.9.9.9:80", &["example.com"]));
        assert!(!allowed(&rules, "9.9.9.9:443", &["www.example.com"]));
        assert!(!allowed(&rules, "9.9.9.9:443", &[]));
        assert!(allowed(&rules, "8.8.4.4:1500", &[]) && !allowed(&rules, "8.8.4.4:2001", &[]));
        assert!(allowed(&rules, "[2a00::1]:80", &[]) && !allowed(&rules, "[2a00::1]:81", &[]));
        assert!(allowed(&rules, "[2a00::2]:81", &[]));
    }

    #[test]
    fn a_wildcard_covers_what_is_below_a_name_and_not_the_name() {
        let rules = rules(&["*.example.com"], &["bad.example.com"]);
        assert!(allowed(&rules, "9.9.9.9:1", &["a.b.example.com"]));
        for name in ["example.com", "badexample.com", "example.com.evil.net", "bad.example.com"] {
            assert!(!allowed(&rules, "9.9.9.9:1", &[name]), "{name}");
        }
    }

    #[test]
    fn special_addresses_need_a_rule_that_is_about_them() {
        let wide = rules(&["*", "0.0.0.0/0", "::/0", "128.0.0.0/1"], &[]);
        let inner = [
            "127.0.0.1:80",
            "10.1.2.3:80",
            "192.168.0.1:80",
            "172.16.0.1:80",
            "169.254.169.254:80",
            "100.64.0.1:80",
            "0.0.0.0:80",
            "255.255.255.255:80",
            "224.0.0.1:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[fd00::1]:80",
            "[64:ff9b::7f00:1]:80",
            "[2002:7f00:1::]:80",
            "[::7f00:1]:80",
            "203.0.113.9:80",
        ];
        for to in inner {
            assert!(!allowed(&wide, to, &[]), "{to}");
        }
        assert!(allowed(&wide, "9.9.9.9:80", &[]) && allowed(&wide, "[2a00::1]:80", &[]));
        let named =
            rules(&["127.0.0.1:80", "10.0.0.0/8", "169.254.169.254", "203.0.113.9"], &["10.9.0.0/16"]);
        for to in ["127.0.0.1:80", "10.1.2.3:80", "169.254.169.254:80", "203.0.113.9:1"] {
            assert!(allowed(&named, to, &[]), "{to}");
        }
        for to in ["127.0.0.1:81", "127.0.0.2:80", "10.9.0.1:80"] {
            assert!(!allowed(&named, to, &[]), "{to}");
        }
    }

    #[test]
    fn unusual_forms_of_addresses_are_no_names() {
        for text in [
            "0x7f.1",
            "127.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "a..b",
            "",
            "a b",
            "x:0",
            "x:99999",
            "x:9-8",
        ] {
            assert!(Rule::parse(text).is_err(), "{text}");
        }
        let mapped = rules(&["::ffff:127.0.0.1"], &[]);
        assert!(allowed(&mapped, "127.0.0.1:80", &[]));
    }

    #[test]
    fn localhost_is_its_two_addresses() {
        let rules = rules(&["localhost:8080"], &[]);
        assert!(allowed(&rules, "127.0.0.1:8080", &[]) && allowed(&rules, "[::1]:8080", &[]));
        assert!(!allowed(&rules, "127.0.0.1:80", &[]) && rules.reach_loopback());
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Rule::parse(&text);
        }

        #[test]
        fn nothing_is_allowed_without_a_rule(ip in any::<u32>(), port in 1u16..) {
            let to = SocketAddr::new(std::net::Ipv4Addr::from(ip).into(), port);
            prop_assert!(matches!(Rules::default().judge(to, &[], &[]), Verdict::Denied(_)));
        }
    }
}
