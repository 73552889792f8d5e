//! Published ports of UDP. One socket takes what comes from those who have sent nothing yet. Each of them gets one more, at the same port
//! and connected to the sender, so that the host passes on to it what the sender sends from then on (the closest match wins), and it
//! can be given to the sandbox, which cannot address anything.

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    bind as bind_socket, connect, recvmsg, setsockopt, socket, sockopt,
};
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Longest datagram there is.
const LENGTH_MAX: usize = 1 << 16;

fn at_port(family: AddressFamily, at: &SockaddrStorage) -> nix::Result<OwnedFd> {
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // Only with sockets of the same owner (socket(7)): nobody else takes a part of what comes.
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    bind_socket(socket.as_raw_fd(), at)?;
    Ok(socket)
}

/// The socket for those who have sent nothing yet.
pub fn bind(host: SocketAddr) -> std::io::Result<UdpSocket> {
    // With the option, the port of another one with it would be shared, not refused.
    drop(UdpSocket::bind(host)?);
    let family = if host.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = at_port(family, &host.into())?;
    match host {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(socket.into())
}

/// A datagram, who sent it, and the address it was sent to.
pub fn receive(socket: impl AsFd) -> std::io::Result<(Vec<u8>, SockaddrStorage, IpAddr)> {
    let mut bytes = vec![0; LENGTH_MAX];
    let (length, from, to) = {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = socket.as_fd().as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let to = message.cmsgs()?.find_map(|one| match one {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr))))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        });
        (message.bytes, message.address, to)
    };
    let (Some(from), Some(to)) = (from, to) else { return Err(std::io::ErrorKind::InvalidData.into()) };
    bytes.truncate(length);
    Ok((bytes, from, to))
}

/// A socket between the address that was sent to and the sender. It blocks: whoever has it decides call by call.
pub fn connected(from: &SockaddrStorage, to: IpAddr, port: u16) -> nix::Result<OwnedFd> {
    let family = from.family().ok_or(nix::errno::Errno::EAFNOSUPPORT)?;
    let own = match to {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, port)),
        IpAddr::V6(ip) => {
            // An address of a link is one together with its number.
            let scope = from.as_sockaddr_in6().map_or(0, |from| SocketAddrV6::from(*from).scope_id());
            SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
        }
    };
    let socket = at_port(family, &own.into())?;
    connect(socket.as_raw_fd(), from)?;
    super::serve::block(&socket)?;
    Ok(socket)
}
