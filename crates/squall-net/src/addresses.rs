//! Which addresses are public, by the IANA special-purpose address registries
//! (RFC 6890 and its successors, as of 2026).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one on the public Internet. Addresses that carry another one
/// (IPv4-mapped, NAT64, 6to4, Teredo) are judged by what they carry.
///
/// ```
/// # use squall_net::is_public;
/// assert!(is_public("93.184.215.14".parse().unwrap()));
/// assert!(!is_public("::ffff:127.0.0.1".parse().unwrap()));
/// ```
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        // "This network" (RFC 791); Linux connects 0.0.0.0 to itself.
        [0, ..] => true,
        // Private use (RFC 1918).
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
        // Shared address space of carriers (RFC 6598).
        [100, 64..=127, ..] => true,
        // Loopback (RFC 1122).
        [127, ..] => true,
        // Link-local (RFC 3927), where clouds answer metadata requests.
        [169, 254, ..] => true,
        // Azure's host agent, a public address that only exists inside.
        [168, 63, 129, 16] => true,
        // IETF protocol assignments (RFC 6890).
        [192, 0, 0, _] => true,
        // Documentation (RFC 5737).
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // 6to4 relay anycast, deprecated (RFC 7526).
        [192, 88, 99, _] => true,
        // Benchmarking (RFC 2544).
        [198, 18..=19, ..] => true,
        // Multicast (RFC 5771), reserved (RFC 1112) and broadcast (RFC 919).
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // IPv4-mapped (RFC 4291, section 2.5.5.2).
        [0, 0, 0, 0, 0, 0xffff, high, low] => is_public_v4(embedded(high, low)),
        // NAT64, well-known prefix (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(embedded(high, low)),
        // Teredo (RFC 4380, section 4): the server, and the client with its bits inverted.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            is_public_v4(embedded(server_high, server_low)) && is_public_v4(embedded(!high, !low))
        }
        // AS112 and AMT are the parts of the next block that the Internet reaches
        // (RFC 7535, RFC 7450).
        [0x2001, 3, ..] | [0x2001, 4, 0x112, ..] => true,
        // IETF protocol assignments: benchmarking, ORCHID, drone tags (RFC 2928 and others).
        [0x2001, 0..=0x1ff, ..] => false,
        // Documentation (RFC 3849, RFC 9637).
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => is_public_v4(embedded(high, low)),
        // Only this eighth of the space is global unicast (RFC 4291, section 2.4). What is
        // outside: unspecified, loopback, IPv4-compatible and -translated, local NAT64
        // (RFC 8215), discard, SRv6, unique local, link-local, site-local, multicast.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(public: bool, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn special_ipv4_addresses_are_not_public() {
        check(
            false,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "10.0.0.0",
                "10.255.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "100.100.100.200",
                "127.0.0.1",
                "127.255.255.254",
                "169.254.0.0",
                "169.254.169.254",
                "168.63.129.16",
                "172.16.0.0",
                "172.31.255.255",
                "192.0.0.1",
                "192.0.0.170",
                "192.0.2.1",
                "192.88.99.1",
                "192.168.0.1",
                "192.168.255.255",
                "198.18.0.0",
                "198.19.255.255",
                "198.51.100.7",
                "203.0.113.9",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
            ],
        );
    }

    #[test]
    fn special_ipv6_addresses_are_not_public() {
        check(
            false,
            &[
                "::",
                "::1",
                "::127.0.0.1",
                "::8.8.8.8",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::ffff:169.254.169.254",
                "::ffff:0:8.8.8.8",
                "64:ff9b::127.0.0.1",
                "64:ff9b::10.1.2.3",
                "64:ff9b::169.254.169.254",
                "64:ff9b:1::1",
                "64:ff9b:1::8.8.8.8",
                "100::1",
                "100:0:0:1::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:30::1",
                "2001:db8::1",
                "2001::1",
                "2001:0:a00:1::f7f7:f7f7",
                "2001:0:808:808::f5ff:fffe",
                "2002:7f00:1::",
                "2002:a00:1::1",
                "2002:a9fe:a9fe::1",
                "2002:c0a8:1::1",
                "3fff::1",
                "3fff:fff:ffff::1",
                "4000::1",
                "5f00::1",
                "fc00::1",
                "fd00::1",
                "fd00:ec2::254",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "ff02::1",
                "ff0e::1",
            ],
        );
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        check(
            true,
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.1",
                "169.253.255.255",
                "169.255.0.1",
                "172.15.255.255",
                "172.32.0.0",
                "192.0.1.1",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "::ffff:8.8.8.8",
                "64:ff9b::8.8.8.8",
                "2001:4860:4860::8888",
                "2001:200::1",
                "2001:3::1",
                "2001:4:112::1",
                "2001:0:808:808::f7f7:f7f7",
                "2002:808:808::1",
                "2606:4700::1111",
                "2a00:1450::1",
                "3ffe:ffff::1",
            ],
        );
    }
}
