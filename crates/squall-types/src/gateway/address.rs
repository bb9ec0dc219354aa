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
    /// A network, or an address as a network of one.
    pub fn parse_network(text: &str) -> Option<IpNet> {
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
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
