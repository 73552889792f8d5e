//! Names of socket constants, for `--strace`.

use crate::table::Show;
use linux_raw_sys::net;

/// `AF_*`.
pub const FAMILY: Show = Show::OneOf(&[
    (net::AF_UNSPEC as u64, "AF_UNSPEC"),
    (net::AF_UNIX as u64, "AF_UNIX"),
    (net::AF_INET as u64, "AF_INET"),
    (net::AF_INET6 as u64, "AF_INET6"),
    (net::AF_NETLINK as u64, "AF_NETLINK"),
    (net::AF_PACKET as u64, "AF_PACKET"),
    (net::AF_VSOCK as u64, "AF_VSOCK"),
    (net::AF_ALG as u64, "AF_ALG"),
]);

/// `SOCK_*`, the flags included.
pub const KIND: Show = Show::OneOf(&[
    (1, "SOCK_STREAM"),
    (2, "SOCK_DGRAM"),
    (3, "SOCK_RAW"),
    (5, "SOCK_SEQPACKET"),
    (0o4001, "SOCK_STREAM|SOCK_NONBLOCK"),
    (0o4002, "SOCK_DGRAM|SOCK_NONBLOCK"),
    (0o4003, "SOCK_RAW|SOCK_NONBLOCK"),
    (0o4005, "SOCK_SEQPACKET|SOCK_NONBLOCK"),
    (0o2000001, "SOCK_STREAM|SOCK_CLOEXEC"),
    (0o2000002, "SOCK_DGRAM|SOCK_CLOEXEC"),
    (0o2000003, "SOCK_RAW|SOCK_CLOEXEC"),
    (0o2000005, "SOCK_SEQPACKET|SOCK_CLOEXEC"),
    (0o2004001, "SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK"),
    (0o2004002, "SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK"),
    (0o2004003, "SOCK_RAW|SOCK_CLOEXEC|SOCK_NONBLOCK"),
    (0o2004005, "SOCK_SEQPACKET|SOCK_CLOEXEC|SOCK_NONBLOCK"),
]);

/// Flags of accept4(2).
pub const ACCEPT: Show = Show::Flags(&[(0o2000000, "SOCK_CLOEXEC"), (0o4000, "SOCK_NONBLOCK")]);

/// Directions of shutdown(2).
pub const HOW: Show = Show::OneOf(&[(0, "SHUT_RD"), (1, "SHUT_WR"), (2, "SHUT_RDWR")]);

/// `MSG_*`.
pub const MESSAGE: Show = Show::Flags(&[
    (net::MSG_OOB as u64, "MSG_OOB"),
    (net::MSG_PEEK as u64, "MSG_PEEK"),
    (net::MSG_DONTROUTE as u64, "MSG_DONTROUTE"),
    (net::MSG_CTRUNC as u64, "MSG_CTRUNC"),
    (net::MSG_TRUNC as u64, "MSG_TRUNC"),
    (net::MSG_DONTWAIT as u64, "MSG_DONTWAIT"),
    (net::MSG_EOR as u64, "MSG_EOR"),
    (net::MSG_WAITALL as u64, "MSG_WAITALL"),
    (net::MSG_CONFIRM as u64, "MSG_CONFIRM"),
    (net::MSG_ERRQUEUE as u64, "MSG_ERRQUEUE"),
    (net::MSG_NOSIGNAL as u64, "MSG_NOSIGNAL"),
    (net::MSG_MORE as u64, "MSG_MORE"),
    (0x10000, "MSG_WAITFORONE"),
    (0x2000_0000, "MSG_FASTOPEN"),
    (net::MSG_CMSG_CLOEXEC as u64, "MSG_CMSG_CLOEXEC"),
]);

/// Levels of socket options.
pub const LEVEL: Show = Show::OneOf(&[
    (net::SOL_SOCKET as u64, "SOL_SOCKET"),
    (0, "SOL_IP"),
    (net::SOL_TCP as u64, "SOL_TCP"),
    (net::SOL_UDP as u64, "SOL_UDP"),
    (net::SOL_IPV6 as u64, "SOL_IPV6"),
    (net::SOL_NETLINK as u64, "SOL_NETLINK"),
]);
