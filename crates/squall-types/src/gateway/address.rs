use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Which client addresses are let in: networks (`10.0.0.0/8`) or single addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AddressRules {
    /// Empty allows every address that `deny` does not name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Wins over `allow`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl AddressRules {
    /// A network, or an address as a network of one. One of IPv4 in IPv6 (`::ffff:10.0.0.0/104`)
    /// is that of IPv4: addresses are compared so.
    pub fn parse_network(text: &str) -> Option<IpNet> {
        const MAPPED_BITS: u8 = 96;
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse::<IpNet>().ok().or_else(address)?;
        match network.addr().to_canonical() {
            IpAddr::V4(inner) if network.addr().is_ipv6() => {
                let length = network.prefix_len().checked_sub(MAPPED_BITS)?;
                IpNet::new(inner.into(), length).ok()
            }
            _ => Some(network),
        }
    }

    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        let lists = [("allow", &self.allow), ("deny", &self.deny)];
        for (list, networks) in lists {
            if let Some(wrong) = networks.iter().find(|one| Self::parse_network(one).is_none()) {
                return Err(format!(
                    "{at}.{list}: {wrong:?} is not a network such as \"10.0.0.0/8\" or an address"
                ));
            }
        }
        Ok(())
    }
}
