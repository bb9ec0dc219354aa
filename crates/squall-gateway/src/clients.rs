//! How many connections each client has open, where that is limited.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;

/// Connections by client: an IPv4 address, or the /64 network that one gets with IPv6.
#[derive(Debug)]
pub(crate) struct Clients {
    most: u32,
    hasher: RandomState,
    open: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
}

/// A connection's place among those of its client.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Clients {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, hasher: RandomState::new(), open: Default::default() })
    }

    /// `None` when the client has as many connections as it may.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<ClientPlace> {
        let client = network(peer);
        let mut open = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.entry(client).or_default();
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(ClientPlace { clients: self.clone(), client })
    }

    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.open[self.hasher.hash_one(client) as usize % SHARDS]
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let shard = self.clients.shard(self.client);
        let mut open = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = open.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                open.remove(&self.client);
            }
        }
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(std::net::Ipv6Addr::from_bits(network))
        }
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_places_and_gets_them_back() {
        let clients = Clients::new(2);
        let admit = |address: &str| clients.admit(address.parse().unwrap());
        let first = admit("192.0.2.1");
        let second = admit("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(admit("192.0.2.1").is_none());
        assert!(admit("192.0.2.2").is_some(), "others have their own");
        drop(first);
        assert!(admit("192.0.2.1").is_some());
        let of_one_network = [admit("2001:db8::1"), admit("2001:db8::2:1")];
        assert!(of_one_network.iter().all(Option::is_some));
        assert!(admit("2001:db8::3").is_none());
        assert!(admit("2001:db8:0:1::3").is_some());
        drop((second, of_one_network));
        assert!(clients.open.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
