//! Which addresses the server process connects to, decided after the name is resolved.
//!
//! A foreign server's address is chosen by a database user, and the name in it by whoever runs its domain. This machine
//! stands where neither may: inside of its network, next to the services that hand out a machine's own credentials. So
//! link-local addresses and known addresses of such services are refused, in whatever notation they come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Services of cloud providers at addresses that are not link-local.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Why an address is refused; None if it may be connected to. Without encryption, only this machine may.
pub fn refusal(address: IpAddr, encrypted: bool) -> Option<&'static str> {
    let address = plain(address);
    let refused = match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    };
    match refused {
        None if !encrypted && !address.is_loopback() => Some("is on another machine, which needs \"https\""),
        refused => refused,
    }
}

/// The IPv4 address that an IPv6 address stands for, where it does.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let low = |v6: Ipv6Addr| IpAddr::V4(Ipv4Addr::from_bits(v6.to_bits() as u32));
    match v6.segments() {
        // Mapped, and the old form of it, which ::1 and :: look like.
        [0, 0, 0, 0, 0, 0xffff, ..] => low(v6),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => low(v6),
        // Translated by the network (NAT64), or on its way there.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => low(v6),
        // Tunnelled (6to4).
        [0x2002, high, low, ..] => IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        _ => address,
    }
}

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let first = address.octets()[0];
    match () {
        () if first == 0 => Some("is unspecified"),
        () if address.is_link_local() => Some("is link-local"),
        () if address.is_multicast() => Some("is multicast"),
        () if first >= 240 => Some("is reserved"),
        () if METADATA_V4.contains(&address) => Some("belongs to a metadata service"),
        () => None,
    }
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    match () {
        () if address.is_unspecified() => Some("is unspecified"),
        () if address.is_unicast_link_local() => Some("is link-local"),
        () if address.is_multicast() => Some("is multicast"),
        () if METADATA_V6.contains(&address) => Some("belongs to a metadata service"),
        // Which address it stands for, only the network knows.
        () if address.segments().starts_with(&[0x64, 0xff9b, 1]) => Some("is translated by the local network"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, encrypted: bool) -> Option<&'static str> {
        refusal(address.parse().unwrap(), encrypted)
    }

    #[test]
    fn addresses_of_the_machines_own_network_are_refused_in_every_notation() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::ffff:0:169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
        ] {
            assert_eq!(told(address, true), Some("is link-local"), "{address}");
        }
        for address in ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"] {
            assert_eq!(told(address, true), Some("is unspecified"), "{address}");
        }
        for address in ["224.0.0.1", "ff02::1", "::ffff:239.1.1.1"] {
            assert_eq!(told(address, true), Some("is multicast"), "{address}");
        }
        for address in ["255.255.255.255", "240.0.0.1"] {
            assert_eq!(told(address, true), Some("is reserved"), "{address}");
        }
        assert_eq!(told("64:ff9b:1::a9fe:a9fe", true), Some("is translated by the local network"));
        for address in ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "::ffff:100.100.100.200"] {
            assert_eq!(told(address, true), Some("belongs to a metadata service"), "{address}");
        }
    }

    #[test]
    fn other_addresses_are_not_and_without_encryption_only_this_machine() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!((told(address, true), told(address, false)), (None, None), "{address}");
        }
        for address in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "fd00::1", "2606:2800:220:1::1"] {
            assert_eq!(told(address, true), None, "{address}");
            assert!(told(address, false).is_some(), "{address}");
        }
    }
}
