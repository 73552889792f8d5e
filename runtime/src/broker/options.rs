//! The network's part of the command line.

use super::{Published, Rule, Rules, Settings, parse_host};
use std::fs::File;
use std::path::PathBuf;

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// Loopback alone.
    None,
    /// What --allow-net names.
    Broker,
    /// An interface of this network namespace, which must not be the host's own: the sandbox takes its addresses and routes over,
    /// and has every destination that it leads to. Needs CAP_NET_ADMIN and CAP_NET_RAW.
    Stack,
    /// EVERYTHING that this host can reach, its own loopback services and private networks included.
    Host,
}

/// Options of the network.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
// Its own name would be that of the command's options, too.
#[group(id = "network-options")]
pub struct Options {
    /// Which network the program gets. Its own loopback interface is there in any case [default: none; broker with
    /// --allow-net or --publish].
    #[arg(long, value_name = "KIND", value_enum)]
    network: Option<Network>,

    /// With --network=stack: the interface to take over [default: the only one that is up].
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,

    /// Let the program connect to HOST: a name, *.NAME (what is below it), an address, a network such as 192.0.2.0/24, or * for
    /// all public ones; IPv6 in brackets if ports follow. Private, link-local and loopback addresses must be named themselves
    /// (may be given again).
    #[arg(long, value_name = "HOST[:PORT[-PORT]]")]
    allow_net: Vec<String>,

    /// Do not let the program connect to HOST, whatever else allows it (may be given again).
    #[arg(long, value_name = "HOST[:PORT[-PORT]]")]
    deny_net: Vec<String>,

    /// Let the program find NAME at ADDRESS, and connect to it there if --allow-net has NAME (may be given again).
    #[arg(long, value_name = "NAME:ADDRESS")]
    resolve: Vec<String>,

    /// Pass TCP connections, or datagrams of UDP, to HOSTPORT of this host on to PORT of the sandbox. Without ADDRESS, of the host's
    /// loopback interface; 0.0.0.0 means all (may be given again).
    #[arg(long, value_name = "[ADDRESS:]HOSTPORT:PORT[/udp]")]
    publish: Vec<String>,

    /// Write each decision about the network to FILE, as one line of JSON [default: with --log info, standard error].
    #[arg(long, value_name = "FILE")]
    net_log: Option<PathBuf>,
}

fn each<T>(
    option: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<Vec<T>> {
    let parse = |text: &String| {
        parse(text).map_err(|reason| anyhow::anyhow!("{option} {}: {reason}", text.escape_debug()))
    };
    texts.iter().map(parse).collect()
}

impl Options {
    /// Which network it is to be.
    fn network(&self) -> Network {
        let asked = !self.allow_net.is_empty() || !self.publish.is_empty();
        self.network.unwrap_or(if asked { Network::Broker } else { Network::None })
    }

    /// Whether there is to be a broker.
    pub fn has_broker(&self) -> bool {
        matches!(self.network(), Network::Broker | Network::Host)
    }

    /// Whether the sandbox is to have a network stack of its own.
    pub fn has_stack(&self) -> bool {
        self.network() == Network::Stack
    }

    /// The interface that was named for it.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// What the broker is to do; `None` for no broker. Decisions go to standard error if `informed` and nothing else was said.
    ///
    /// # Errors
    /// An option that cannot be read, or makes no sense with the others.
    pub fn settings(&self, informed: bool) -> anyhow::Result<Option<Settings>> {
        let network = self.network();
        let rules = |option, texts| -> anyhow::Result<Vec<Rule>> {
            Ok(each(option, texts, Rule::parse)?.into_iter().flatten().collect())
        };
        let rules = Rules {
            allow: rules("--allow-net", &self.allow_net)?,
            deny: rules("--deny-net", &self.deny_net)?,
            everything: network == Network::Host,
        };
        let hosts = each("--resolve", &self.resolve, parse_host)?;
        let published = each("--publish", &self.publish, Published::parse)?;
        anyhow::ensure!(
            self.interface.is_none() || network == Network::Stack,
            "--interface: only a network stack takes one over; use --network=stack"
        );
        if !self.has_broker() {
            let none =
                rules.allow.is_empty() && rules.deny.is_empty() && hosts.is_empty() && published.is_empty();
            anyhow::ensure!(
                none,
                "without a broker there is nothing to allow, deny, resolve or publish; use --network=broker"
            );
            return Ok(None);
        }
        let log = match &self.net_log {
            Some(path) => Some(File::create(path).map_err(|error| {
                anyhow::anyhow!("--net-log {}: cannot be written: {error}; name another file", path.display())
            })?),
            None if informed => Some(nix::unistd::dup(std::io::stderr())?.into()),
            None => None,
        };
        Ok(Some(Settings { rules, hosts, published, log }))
    }
}
