//! Which addresses are let in, compiled: a search in sorted ranges instead of a look at
//! each network.

use std::net::IpAddr;

use ipnet::IpNet;
use squall_types::ErrorCode;
use squall_types::gateway::AddressRules;

use crate::rejection::Rejection;

/// The rules of a route.
pub(crate) struct Addresses {
    allow: Option<Ranges>,
    deny: Ranges,
}

/// Sorted, apart from each other, both ends included. IPv4 and IPv6 have lists of their
/// own: an IPv4 address in IPv6 clothes is an IPv4 address, and `::/0` is every address
/// of IPv6 and none of IPv4.
#[derive(Default)]
struct Ranges {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Addresses {
    /// None when everybody is let in.
    pub(crate) fn compile(rules: &AddressRules) -> Option<Self> {
        let allow = (!rules.allow.is_empty()).then(|| Ranges::new(&rules.allow));
        if allow.is_none() && rules.deny.is_empty() {
            return None;
        }
        Some(Self { allow, deny: Ranges::new(&rules.deny) })
    }

    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Rejection> {
        if self.admits(address) {
            return Ok(());
        }
        // Which rule it was is the owner's business.
        Err(Rejection::new(ErrorCode::AddressDenied, ""))
    }

    fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        !self.deny.contain(address)
            && self.allow.as_ref().is_none_or(|allow| allow.contain(address))
    }
}

impl Ranges {
    fn new(networks: &[String]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        // The configuration was checked: every entry is a network.
        for network in networks.iter().filter_map(|text| AddressRules::parse_network(text)) {
            match network {
                IpNet::V4(network) => {
                    v4.push((network.network().to_bits(), network.broadcast().to_bits()));
                }
                IpNet::V6(network) => {
                    match (network.network().to_ipv4_mapped(), network.prefix_len()) {
                        (Some(first), 96..) => {
                            let last = network.broadcast().to_bits() as u32;
                            v4.push((first.to_bits(), last));
                        }
                        _ => v6.push((network.network().to_bits(), network.broadcast().to_bits())),
                    }
                }
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => contains(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.v6, address.to_bits()),
        }
    }
}

/// Sorts ranges and joins those that overlap.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

fn contains<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind > 0 && address <= ranges[behind - 1].1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(allow: &[&str], deny: &[&str]) -> AddressRules {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        AddressRules { allow: texts(allow), deny: texts(deny) }
    }

    #[track_caller]
    fn check(allow: &[&str], deny: &[&str], address: &str, admitted: bool) {
        let compiled = Addresses::compile(&rules(allow, deny));
        let is = compiled.is_none_or(|rules| rules.check(address.parse().unwrap()).is_ok());
        assert_eq!(is, admitted, "{address} with {allow:?} and {deny:?}");
    }

    #[test]
    fn deny_wins_and_an_empty_allow_is_everybody() {
        check(&[], &[], "192.0.2.1", true);
        check(&[], &["192.0.2.0/24"], "192.0.2.1", false);
        check(&[], &["192.0.2.0/24"], "192.0.3.0", true);
        check(&["10.0.0.0/8"], &[], "10.255.255.255", true);
        check(&["10.0.0.0/8"], &[], "11.0.0.0", false);
        check(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false);
        check(&["10.1.2.3"], &["10.0.0.0/8"], "10.1.2.3", false);
        check(&["10.1.2.3"], &[], "10.1.2.3", true);
        check(&["10.1.2.3"], &[], "10.1.2.4", false);
        check(&["0.0.0.0/0"], &[], "255.255.255.255", true);
        check(&["2001:db8::/32"], &[], "2001:db8:ffff::1", true);
        check(&["2001:db8::/32"], &[], "2001:db9::", false);
    }

    #[test]
    fn ipv4_addresses_stay_what_they_are_in_ipv6_clothes() {
        check(&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", true);
        check(&["::ffff:10.0.0.0/104"], &[], "10.1.2.3", true);
        check(&["::ffff:10.0.0.0/104"], &[], "11.1.2.3", false);
        check(&[], &["::/0"], "10.1.2.3", true);
        check(&[], &["::/0"], "::1", false);
        check(&["::/0"], &[], "::ffff:10.1.2.3", false);
    }

    proptest! {
        /// The ranges say what each network by itself would say.
        #[test]
        fn ranges_say_what_their_networks_say(
            v4 in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..60),
            v6 in proptest::collection::vec((any::<u128>(), 0u8..=128), 0..60),
            probes in proptest::collection::vec(any::<u128>(), 1..60),
        ) {
            let narrow = |bits: u32| bits & 0xff00_00ff;
            let mut networks: Vec<IpNet> = Vec::new();
            for (bits, prefix) in v4 {
                let address = std::net::Ipv4Addr::from(narrow(bits));
                networks.push(IpNet::new(address.into(), prefix).unwrap());
            }
            for (bits, prefix) in v6 {
                // Out of the way of what is IPv4.
                let address = std::net::Ipv6Addr::from(bits | 1 << 127);
                networks.push(IpNet::new(address.into(), prefix.max(1)).unwrap());
            }
            let texts: Vec<String> = networks.iter().map(IpNet::to_string).collect();
            let ranges = Ranges::new(&texts);
            let edges = networks.iter().flat_map(|one| [one.network(), one.broadcast()]);
            let v4 = probes.iter().map(|bits| IpAddr::from(narrow(*bits as u32).to_be_bytes()));
            let v6 = probes.iter().map(|bits| IpAddr::from((bits | 1 << 127).to_be_bytes()));
            for probe in edges.chain(v4).chain(v6) {
                let expected = networks.iter().any(|network| network.contains(&probe));
                prop_assert_eq!(ranges.contain(probe), expected, "{}", probe);
            }
        }
    }
}
