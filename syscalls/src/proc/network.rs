//! `/proc/net` (proc(5)). Nothing is counted that has no packets: counters are zero.

use super::nodes::{Entry, text_entry};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_INET, AF_INET6};
use netstack::{inet, interfaces, unix};

const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device\n";
/// There are no UDP-lite sockets.
const UDPLITE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
const UDPLITE6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when \
                        retrnsmt   uid  timeout inode ref pointer drops\n";
const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer \
                   drops\n";
const RAW6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr \
                    tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
const NETLINK: &str =
    "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n";
const PACKET: &str = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";

/// Groups of counters: what each is called, and values that are not zero (the constants that RFC 4022 and RFC 4293 have among
/// the counters).
type Group = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const SNMP: &[Group] = &[
    (
        "Ip",
        "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers \
         OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates",
        &[("Forwarding", "2"), ("DefaultTTL", "64")],
    ),
    (
        "Icmp",
        "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps \
         InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost \
         OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps \
         OutTimestampReps OutAddrMasks OutAddrMaskReps",
        &[],
    ),
    (
        "Tcp",
        "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs \
         RetransSegs InErrs OutRsts InCsumErrors",
        &[("RtoAlgorithm", "1"), ("RtoMin", "200"), ("RtoMax", "120000"), ("MaxConn", "-1")],
    ),
    (
        "Udp",
        "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
        &[],
    ),
    (
        "UdpLite",
        "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors",
        &[],
    ),
];

const NETSTAT: &[Group] = &[
    (
        "TcpExt",
        "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps \
         LockDroppedIcmps ArpFilter TW TWRecycled TWKilled ListenOverflows ListenDrops TCPHPHits TCPPureAcks TCPHPAcks \
         TCPLostRetransmit TCPFastRetrans TCPTimeouts TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout \
         TCPAbortOnLinger TCPAbortFailed",
        &[],
    ),
    (
        "IpExt",
        "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets \
         OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps",
        &[],
    ),
];

/// A line of names and one of values for each group.
fn counters(groups: &[Group]) -> Vec<u8> {
    let mut text = String::new();
    for (group, names, constants) in groups {
        let value = |name| constants.iter().find(|(own, _)| *own == name).map_or("0", |(_, value)| value);
        let values: Vec<&str> = names.split_whitespace().map(value).collect();
        let names: Vec<&str> = names.split_whitespace().collect();
        text.push_str(&format!("{group}: {}\n{group}: {}\n", names.join(" "), values.join(" ")));
    }
    text.into_bytes()
}

fn sockstat() -> Vec<u8> {
    let (tcp, tcp6) = inet::counts(6);
    let (udp, udp6) = inet::counts(17);
    let used = tcp + tcp6 + udp + udp6 + unix::count();
    let text = format!(
        "sockets: used {used}\nTCP: inuse {tcp} orphan 0 tw 0 alloc {} mem 0\nUDP: inuse {udp} mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse 0\nFRAG: inuse 0 memory 0\n",
        tcp + tcp6
    );
    text.into_bytes()
}

fn sockstat6() -> Vec<u8> {
    let ((_, tcp), (_, udp)) = (inet::counts(6), inet::counts(17));
    let text = format!(
        "TCP6: inuse {tcp}\nUDP6: inuse {udp}\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
    );
    text.into_bytes()
}

/// The entries.
pub fn entries() -> Vec<Entry> {
    alloc::vec![
        text_entry("arp", || Ok(ARP.into())),
        text_entry("dev", || Ok(interfaces::devices().into_bytes())),
        text_entry("icmp", || Ok(RAW.into())),
        text_entry("icmp6", || Ok(RAW6.into())),
        text_entry("if_inet6", || Ok(interfaces::addresses_v6().into_bytes())),
        text_entry("ipv6_route", || Ok(interfaces::routes_v6().into_bytes())),
        text_entry("netlink", || Ok(NETLINK.into())),
        text_entry("netstat", || Ok(counters(NETSTAT))),
        text_entry("packet", || Ok(PACKET.into())),
        text_entry("raw", || Ok(RAW.into())),
        text_entry("raw6", || Ok(RAW6.into())),
        text_entry("route", || Ok(interfaces::routes_v4().into_bytes())),
        text_entry("snmp", || Ok(counters(SNMP))),
        text_entry("sockstat", || Ok(sockstat())),
        text_entry("sockstat6", || Ok(sockstat6())),
        text_entry("tcp", || Ok(inet::tcp_table(AF_INET).into_bytes())),
        text_entry("tcp6", || Ok(inet::tcp_table(AF_INET6).into_bytes())),
        text_entry("udp", || Ok(inet::udp_table(AF_INET).into_bytes())),
        text_entry("udplite", || Ok(format!("{UDPLITE:<127}\n").into_bytes())),
        text_entry("udplite6", || Ok(UDPLITE6.into())),
        text_entry("udp6", || Ok(inet::udp_table(AF_INET6).into_bytes())),
        text_entry("unix", || Ok(unix::proc_table().into_bytes())),
    ]
}
