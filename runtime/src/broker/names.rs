//! The name server that the sandbox sees: it answers for names that the rules allow, with addresses that may be told, and
//! remembers them, so that a connection is judged by the name that its address was found under.

use super::rules::{Rules, Verdict, parse_name};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Addresses whose names are remembered; the oldest is forgotten for one more.
const ADDRESSES_MAX: usize = 4096;
/// Names of one address that are remembered.
const NAMES_MAX: usize = 32;
/// Addresses in an answer: with them it fits a datagram that everybody takes (RFC 1035, section 4.2.1).
const ANSWERS_MAX: usize = 12;
/// How long programs may keep an answer, in seconds.
const LIFETIME: u32 = 30;

/// Which names an address was found under.
#[derive(Default)]
struct Found {
    names: HashMap<IpAddr, Vec<String>>,
    order: VecDeque<IpAddr>,
}

impl Found {
    fn note(&mut self, ip: IpAddr, name: &str) {
        if !self.names.contains_key(&ip) {
            self.order.push_back(ip);
            if self.order.len() > ADDRESSES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.names.remove(&oldest);
            }
        }
        let names = self.names.entry(ip).or_default();
        names.retain(|known| known != name);
        names.push(name.to_owned());
        if names.len() > NAMES_MAX {
            names.remove(0);
        }
    }
}

/// The name server.
pub struct Names {
    /// `--resolve`: these names have these addresses, whatever else is said of them.
    hosts: Vec<(String, IpAddr)>,
    /// `None` where the host has no name servers.
    resolver: Option<TokioResolver>,
    found: RefCell<Found>,
}

/// What became of a query, for the log.
pub struct Looked {
    /// The name, as far as it could be read.
    pub name: String,
    /// The type of the records that were asked for.
    pub kind: String,
    /// What was decided.
    pub verdict: Verdict,
    /// What was found.
    pub addresses: Vec<IpAddr>,
    /// What was found and may not be told.
    pub withheld: Vec<IpAddr>,
    /// The answer, if there is to be one.
    pub answer: Option<Vec<u8>>,
}

impl Names {
    /// Reads the host's resolv.conf(5) and hosts(5).
    pub fn new(hosts: Vec<(String, IpAddr)>) -> Names {
        let resolver = TokioResolver::builder_tokio().ok().and_then(|mut builder| {
            configure(builder.options_mut());
            builder.build().ok()
        });
        // Without a resolv.conf, hosts(5) alone.
        let resolver = resolver.or_else(|| {
            let nothing = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
            let mut builder = TokioResolver::builder_with_config(nothing, TokioRuntimeProvider::default());
            configure(builder.options_mut());
            builder.build().ok()
        });
        Names { hosts, resolver, found: RefCell::default() }
    }

    /// The names that an address was found under; those of `--resolve` always.
    pub fn of(&self, ip: IpAddr) -> Vec<String> {
        let mut names = self.found.borrow().names.get(&ip).cloned().unwrap_or_default();
        let given = self.hosts.iter().filter(|(name, given)| *given == ip && !names.contains(name));
        let given: Vec<String> = given.map(|(name, _)| name.clone()).collect();
        names.extend(given);
        names
    }

    /// Answers a query. What cannot be read as one is answered by nothing.
    pub async fn answer(&self, query: &[u8], rules: &Rules, own: &[IpAddr]) -> Looked {
        let mut looked = Looked {
            name: String::new(),
            kind: String::new(),
            verdict: Verdict::Denied("no query that can be read".into()),
            addresses: Vec::new(),
            withheld: Vec::new(),
            answer: None,
        };
        let Ok(message) = Message::from_vec(query) else { return looked };
        if message.metadata.message_type != MessageType::Query {
            return looked;
        }
        let (code, records) = match (message.metadata.op_code, message.queries.as_slice()) {
            (OpCode::Query, [question]) if question.query_class() == DNSClass::IN => {
                self.look_up(question, rules, own, &mut looked).await
            }
            (OpCode::Query, _) => (ResponseCode::FormErr, Vec::new()),
            _ => (ResponseCode::NotImp, Vec::new()),
        };
        let mut answer = Message::response(message.metadata.id, message.metadata.op_code);
        answer.metadata.recursion_desired = message.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.response_code = code;
        answer.add_queries(message.queries.iter().take(1).cloned());
        answer.add_answers(records);
        looked.answer = answer.to_vec().ok();
        looked
    }

    async fn look_up(
        &self,
        question: &Query,
        rules: &Rules,
        own: &[IpAddr],
        looked: &mut Looked,
    ) -> (ResponseCode, Vec<Record>) {
        looked.name = question.name().to_ascii();
        looked.kind = question.query_type().to_string();
        let name = match parse_name(&looked.name) {
            Ok(name) => name,
            Err(reason) => {
                looked.verdict = Verdict::Denied(reason);
                return (ResponseCode::NXDomain, Vec::new());
            }
        };
        looked.name.clone_from(&name);
        looked.verdict = rules.judge_name(&name);
        if matches!(looked.verdict, Verdict::Denied(_)) {
            return (ResponseCode::NXDomain, Vec::new());
        }
        let wanted = question.query_type();
        if !matches!(wanted, RecordType::A | RecordType::AAAA) {
            // Other records would be a way to the outside that no rule speaks of.
            return (ResponseCode::NoError, Vec::new());
        }
        let of_kind = |ip: &IpAddr| ip.is_ipv4() == (wanted == RecordType::A);
        let given = || self.hosts.iter().filter(|(given, _)| *given == name).map(|(_, ip)| *ip);
        let code = if given().next().is_some() {
            looked.addresses = given().filter(of_kind).collect();
            ResponseCode::NoError
        } else {
            let (code, found) = self.ask(&name, wanted).await;
            // A name that somebody else has made to point inside.
            let (told, withheld) = found.into_iter().filter(of_kind).partition(|ip| rules.may_tell(*ip, own));
            (looked.addresses, looked.withheld) = (told, withheld);
            code
        };
        looked.addresses.truncate(ANSWERS_MAX);
        let mut remembered = self.found.borrow_mut();
        let record = |ip: &IpAddr| {
            remembered.note(*ip, &name);
            let data = match *ip {
                IpAddr::V4(ip) => RData::A(ip.into()),
                IpAddr::V6(ip) => RData::AAAA(ip.into()),
            };
            Record::from_rdata(question.name().clone(), LIFETIME, data)
        };
        (code, looked.addresses.iter().map(record).collect())
    }

    /// Asks the host's name servers.
    async fn ask(&self, name: &str, kind: RecordType) -> (ResponseCode, Vec<IpAddr>) {
        let Some(resolver) = &self.resolver else { return (ResponseCode::ServFail, Vec::new()) };
        // With a dot at its end: the search list is the program's own matter.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else {
            return (ResponseCode::FormErr, Vec::new());
        };
        match resolver.lookup(name, kind).await {
            Ok(lookup) => {
                let address = |record: &Record| match &record.data {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
                    _ => None,
                };
                (ResponseCode::NoError, lookup.answers().iter().filter_map(address).collect())
            }
            Err(error) => (code_of(&error), Vec::new()),
        }
    }
}

fn configure(options: &mut ResolverOpts) {
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = options.timeout.min(std::time::Duration::from_secs(5));
}

fn code_of(error: &NetError) -> ResponseCode {
    if error.is_nx_domain() {
        ResponseCode::NXDomain
    } else if error.is_no_records_found() {
        ResponseCode::NoError
    } else {
        ResponseCode::ServFail
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rule;
    use super::*;
    use proptest::prelude::*;

    fn ask(names: &Names, rules: &Rules, name: &str, kind: RecordType) -> (ResponseCode, Vec<IpAddr>) {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        let query = message.to_vec().expect("a query");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let looked = runtime.block_on(names.answer(&query, rules, &[]));
        let answer = Message::from_vec(&looked.answer.expect("an answer")).expect("readable");
        assert_eq!(answer.metadata.id, message.metadata.id);
        (answer.metadata.response_code, looked.addresses)
    }

    fn rules(allow: &str) -> Rules {
        Rules { allow: Rule::parse(allow).expect("a rule"), ..Rules::default() }
    }

    fn names() -> Names {
        let hosts = vec![("inner.test".to_owned(), "127.0.0.1".parse().expect("an address"))];
        Names { hosts, resolver: None, found: RefCell::default() }
    }

    #[test]
    fn only_allowed_names_are_answered() {
        let (names, rules) = (names(), rules("inner.test:80"));
        let inner = "127.0.0.1".parse().expect("an address");
        assert_eq!(ask(&names, &rules, "INNER.test.", RecordType::A), (ResponseCode::NoError, vec![inner]));
        assert_eq!(ask(&names, &rules, "inner.test.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
        assert_eq!(ask(&names, &rules, "inner.test.", RecordType::TXT), (ResponseCode::NoError, vec![]));
        assert_eq!(ask(&names, &rules, "other.test.", RecordType::A), (ResponseCode::NXDomain, vec![]));
        assert_eq!(names.of(inner), ["inner.test"]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut found = Found::default();
        for number in 0..3 * ADDRESSES_MAX as u32 {
            found.note(IpAddr::V4(number.into()), "a.test");
            found.note(IpAddr::V4(1.into()), &format!("n{number}.test"));
        }
        assert!(found.names.len() <= ADDRESSES_MAX && found.order.len() <= ADDRESSES_MAX);
        assert!(found.names.values().all(|names| names.len() <= NAMES_MAX));
    }

    proptest! {
        #[test]
        fn whatever_comes_as_a_query_does_no_harm(query in proptest::collection::vec(any::<u8>(), 0..600)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let looked = runtime.block_on(names().answer(&query, &rules("*"), &[]));
            prop_assert!(looked.addresses.is_empty() || looked.name == "inner.test");
        }
    }
}
