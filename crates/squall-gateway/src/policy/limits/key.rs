//! What requests are counted together by, as one number.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName};
use squall_types::gateway::{LIMIT_KEYS_MAX, LimitKey};
use squall_types::rate::RateKey;

/// Who makes a request, as far as limits care.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) address: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    /// Who was verified: where that was done, and the name there.
    pub(crate) identity: Option<(&'a str, &'a str)>,
}

/// Makes the keys of one limit.
pub(super) struct KeyRule {
    /// Belongs to the limit alone: keys of different limits never meet.
    scope: [u8; 32],
    parts: Box<[Part]>,
    /// Where nothing of the request is part of the key.
    constant: RateKey,
}

enum Part {
    Ip,
    Client,
    Header(HeaderName),
}

/// Values that are longer than this go into the key as their hash.
const INLINE_BYTES: usize = 31;
/// Of each part at most a tag and two values, each with its length.
const INPUT_BYTES: usize = LIMIT_KEYS_MAX * (1 + 2 * (1 + 32));

impl KeyRule {
    /// `scope` says to which limit the keys belong, `route` is its route.
    pub(super) fn new(seed: &[u8; 32], scope: &[&str], route: &str, keys: &[LimitKey]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        scope.iter().for_each(|text| add(text));
        let mut parts = Vec::new();
        for key in keys {
            add(&key.to_string());
            match key {
                LimitKey::Ip => parts.push(Part::Ip),
                LimitKey::Client => parts.push(Part::Client),
                // It is known now.
                LimitKey::Route => add(route),
                LimitKey::Header(name) => {
                    // The configuration was checked: every name is one.
                    parts.extend(HeaderName::try_from(name.as_str()).ok().map(Part::Header));
                }
            }
        }
        let scope = *hasher.finalize().as_bytes();
        Self { scope, parts: parts.into(), constant: hashed(&scope, &[]) }
    }

    pub(super) fn key(&self, caller: &Caller<'_>) -> RateKey {
        if self.parts.is_empty() {
            return self.constant;
        }
        let mut input = Input { bytes: [0; INPUT_BYTES], used: 0 };
        for part in &self.parts {
            match part {
                Part::Ip => input.address(caller.address),
                Part::Client => match caller.identity {
                    Some((source, name)) => {
                        input.byte(b'i');
                        input.value(source.as_bytes());
                        input.value(name.as_bytes());
                    }
                    None => input.address(caller.address),
                },
                Part::Header(name) => input.header(caller.headers, name),
            }
        }
        hashed(&self.scope, &input.bytes[..input.used])
    }
}

pub(super) fn hashed(scope: &[u8; 32], input: &[u8]) -> RateKey {
    let hash = blake3::keyed_hash(scope, input);
    let (head, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    RateKey(u128::from_le_bytes(*head))
}

/// What a key is the hash of. Every value has a tag or a length in front, so that no two
/// requests that differ look the same.
struct Input {
    bytes: [u8; INPUT_BYTES],
    used: usize,
}

impl Input {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.used] = byte;
        self.used += 1;
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    fn value(&mut self, value: &[u8]) {
        if value.len() <= INLINE_BYTES {
            self.byte(value.len() as u8);
            self.raw(value);
        } else {
            self.byte(0xff);
            self.raw(blake3::hash(value).as_bytes());
        }
    }

    fn address(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                self.byte(b'4');
                self.raw(&address.octets());
            }
            // One subscriber has a whole /64 and could use each address of it once.
            IpAddr::V6(address) => {
                self.byte(b'6');
                self.raw(&address.octets()[..8]);
            }
        }
    }

    /// All lines of a header together; none of them is a value of its own.
    fn header(&mut self, headers: &HeaderMap, name: &HeaderName) {
        let mut lines = headers.get_all(name).iter();
        match (lines.next(), lines.next()) {
            (None, _) => self.byte(b'-'),
            (Some(line), None) => {
                self.byte(b'h');
                self.value(line.as_bytes());
            }
            (Some(_), Some(_)) => {
                let mut hasher = blake3::Hasher::new();
                for line in headers.get_all(name) {
                    hasher.update(&(line.len() as u64).to_le_bytes());
                    hasher.update(line.as_bytes());
                }
                self.byte(b'm');
                self.raw(hasher.finalize().as_bytes());
            }
        }
    }
}

/// A map from keys. They are keyed hashes: their own bits are as good as any hash of them.
pub(super) type ByKey<V> = HashMap<u128, V, BuildHasherDefault<OwnBits>>;

#[derive(Default)]
pub(super) struct OwnBits(u64);

impl Hasher for OwnBits {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    fn rule(keys: &[LimitKey]) -> KeyRule {
        KeyRule::new(&SEED, &["shop", "app", "default"], "route-1", keys)
    }

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (HeaderName::from_static("x-tenant"), line.parse().unwrap()))
            .collect()
    }

    fn key(
        rule: &KeyRule,
        address: &str,
        lines: &[&'static str],
        identity: Option<(&str, &str)>,
    ) -> u128 {
        let address = address.parse().unwrap();
        rule.key(&Caller { address, headers: &headers(lines), identity }).0
    }

    #[test]
    fn addresses_are_counted_by_what_a_subscriber_has() {
        let rule = rule(&[LimitKey::Ip]);
        let of = |address: &str| key(&rule, address, &[], None);
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }

    #[test]
    fn a_client_is_its_identity_and_without_one_its_address() {
        let rule = rule(&[LimitKey::Client]);
        let known = Some(("main", "alice"));
        assert_eq!(key(&rule, "192.0.2.1", &[], known), key(&rule, "192.0.2.2", &[], known));
        assert_ne!(key(&rule, "192.0.2.1", &[], None), key(&rule, "192.0.2.2", &[], None));
        let others = [Some(("main", "bob")), Some(("staff", "alice")), Some(("mai", "nalice"))];
        for other in others {
            assert_ne!(key(&rule, "192.0.2.1", &[], known), key(&rule, "192.0.2.1", &[], other));
        }
    }

    #[test]
    fn headers_differ_in_every_way_that_they_can() {
        let rule = rule(&[LimitKey::Header("x-tenant".into()), LimitKey::Ip]);
        let long = "a value that is much longer than what fits into a key by itself";
        let cases: [&[&'static str]; 7] =
            [&[], &[""], &["a"], &["b"], &["a", "b"], &["ab"], &[long]];
        let keys = cases.map(|lines| key(&rule, "192.0.2.1", lines, None));
        for (at, one) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(one), "{:?}", cases[at]);
            assert_eq!(*one, key(&rule, "192.0.2.1", cases[at], None));
        }
    }

    #[test]
    fn limits_and_routes_have_keys_of_their_own() {
        let caller = Caller {
            address: "192.0.2.1".parse().unwrap(),
            headers: &HeaderMap::new(),
            identity: None,
        };
        let of = |seed: &[u8; 32], scope: &[&str], route: &str, keys: &[LimitKey]| {
            KeyRule::new(seed, scope, route, keys).key(&caller).0
        };
        let scope = ["shop", "app", "default"];
        let by_route = of(&SEED, &scope, "route-1", &[LimitKey::Route]);
        assert_ne!(by_route, of(&SEED, &scope, "route-2", &[LimitKey::Route]));
        let by_ip = of(&SEED, &scope, "route-1", &[LimitKey::Ip]);
        assert_eq!(by_ip, of(&SEED, &scope, "route-2", &[LimitKey::Ip]));
        assert_ne!(by_ip, of(&SEED, &["shop", "app", "other"], "route-1", &[LimitKey::Ip]));
        assert_ne!(by_ip, of(&[8; 32], &scope, "route-1", &[LimitKey::Ip]));
        let longest = ["x-a", "x-b", "x-c"].map(|name| LimitKey::Header(name.into()));
        of(&SEED, &scope, "r", &[&longest[..], &[LimitKey::Client]].concat());
    }
}
