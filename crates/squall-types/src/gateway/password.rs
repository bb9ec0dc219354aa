//! Hashed passwords: Argon2id (RFC 9106) in the PHC string format
//! (<https://github.com/P-H-C/phc-string-format>), as `squall gateway hash-password`
//! prints them. Only the text is read and written here; hashing is the gateway's.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Most memory that checking one password may take: it is taken for every wrong one, too.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub salt: Vec<u8>,
    pub hash: Vec<u8>,
}

impl PasswordHash {
    /// # Errors
    /// What keeps `text` from being used.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || {
            "is not of the form $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH; make it with `squall gateway hash-password`"
                .to_owned()
        };
        let parts: Vec<&str> = text.split('$').collect();
        let ["", "argon2id", "v=19", cost, salt, hash] = parts[..] else {
            return Err(form());
        };
        let mut costs = cost.split(',');
        let mut number = |key: &str| {
            let digits = costs.next()?.strip_prefix(key)?.strip_prefix('=')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
        };
        let read = (number("m"), number("t"), number("p"));
        let (Some(memory_kib), Some(passes), Some(lanes)) = read else { return Err(form()) };
        if costs.next().is_some() {
            return Err(form());
        }
        let bytes = |text: &str| STANDARD_NO_PAD.decode(text).map_err(|_| form());
        let (salt, hash) = (bytes(salt)?, bytes(hash)?);
        if !(8..=64).contains(&salt.len()) || !(16..=64).contains(&hash.len()) {
            return Err("has a salt or a hash of an unusual length; hash the password anew".into());
        }
        let sensible = (1..=PASSES_MAX).contains(&passes)
            && (1..=LANES_MAX).contains(&lanes)
            && (8 * lanes..=MEMORY_KIB_MAX).contains(&memory_kib);
        if !sensible {
            return Err(format!(
                "costs too little or too much to check; at most m={MEMORY_KIB_MAX},t={PASSES_MAX},p={LANES_MAX}"
            ));
        }
        Ok(Self { memory_kib, passes, lanes, salt, hash })
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_kib, passes, lanes, salt, hash } = self;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn a_hash_is_read_and_written_the_same() {
        let hash = PasswordHash::parse(GOOD).unwrap();
        assert_eq!((hash.memory_kib, hash.passes, hash.lanes), (19_456, 2, 1));
        assert_eq!(hash.salt, b"somesalt");
        assert_eq!(hash.to_string(), GOOD);
    }

    #[test]
    fn what_can_not_be_checked_is_refused() {
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=19456,t=2,p=1", "t=2,m=19456,p=1"),
            ("m=19456,t=2,p=1", "m=19456,t=2,p=1,x=1"),
            ("m=19456", "m=+19456"),
            ("m=19456", "m=4194304"),
            ("m=19456", "m=4"),
            ("t=2", "t=0"),
            ("t=2", "t=1000"),
            ("p=1", "p=64"),
            ("c29tZXNhbHQ", "c29tZXNhbHQ="),
            ("c29tZXNhbHQ", "c29t"),
            ("c29tZXNhbHQ", ""),
            ("GRPPc", "GRPPc$"),
            ("$argon2id", "argon2id"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert!(PasswordHash::parse(&GOOD.replacen(from, to, 1)).is_err(), "{to}");
        }
        assert!(PasswordHash::parse("secret").is_err());
        assert!(PasswordHash::parse("").is_err());
    }
}
