//! Names that become DNS labels, folders and metric labels, so they are strict.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest app name, in bytes. With a revision and `--` before it, a preview
/// label stays within the 63 bytes of RFC 1035, section 2.3.4.
pub const APP_NAME_MAX_BYTES: usize = 40;
/// Longest function name, in bytes.
pub const FUNCTION_NAME_MAX_BYTES: usize = 40;
/// Length of a revision id, in bytes.
pub const REVISION_ID_BYTES: usize = 10;

/// Why a name was refused; the text says what a good one looks like.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{kind} name {name:?} {reason}")]
pub struct NameError {
    pub kind: &'static str,
    pub name: String,
    pub reason: &'static str,
}

fn check_label(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > max {
        "is longer than 40 characters"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "may hold only a-z, 0-9 and -"
    } else if !name.as_bytes()[0].is_ascii_lowercase() {
        "must begin with a letter"
    } else if name.ends_with('-') {
        "must not end with -"
    } else if name.contains("--") {
        "must not contain -- (it separates a revision from its app in preview URLs)"
    } else {
        return Ok(());
    };
    Err(NameError { kind, name: name.to_owned(), reason })
}

macro_rules! label {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and takes a name.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(name)?;
                Ok(Self(Arc::from(name)))
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(&name)
            }
        }
        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.to_string()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

label!(
    /// The name of an app: a DNS label of a-z, 0-9 and single dashes, beginning with a letter.
    AppName,
    "app",
    |name| check_label("app", name, APP_NAME_MAX_BYTES)
);
label!(
    /// The name of a function inside its app; the same alphabet as an app name.
    FunctionName,
    "function",
    |name| check_label("function", name, FUNCTION_NAME_MAX_BYTES)
);
label!(
    /// The content address of a revision, shortened to a DNS label: ten characters
    /// of lowercase base 32 (a-z, 2-7), the first always a letter.
    RevisionId,
    "revision",
    |name| {
        let good = name.len() == REVISION_ID_BYTES
            && name.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
            && name.as_bytes()[0].is_ascii_lowercase();
        if good {
            Ok(())
        } else {
            Err(NameError {
                kind: "revision",
                name: name.to_owned(),
                reason: "is not a revision id (ten characters of a-z and 2-7)",
            })
        }
    }
);

impl RevisionId {
    /// The id of the revision whose canonical description hashes to `digest`:
    /// 50 bits of it, five per character.
    pub fn from_digest(digest: &blake3::Hash) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let bytes = digest.as_bytes();
        let mut bits = u64::from_be_bytes(bytes[..8].try_into().expect("a digest has 32 bytes"));
        let mut id = String::with_capacity(REVISION_ID_BYTES);
        for position in 0..REVISION_ID_BYTES {
            let index = (bits >> 59) as usize;
            // Only 24 letters serve as the first character: a label that starts with a
            // digit is legal but reads like a port or an address.
            let index = if position == 0 { index % 26 } else { index };
            id.push(ALPHABET[index] as char);
            bits <<= 5;
        }
        Self(Arc::from(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, good: bool) {
        assert_eq!(AppName::parse(name).is_ok(), good, "{name:?}");
    }

    #[test]
    fn app_names_are_dns_labels_without_double_dash() {
        check("hello", true);
        check("a1-b2", true);
        check("", false);
        check("Hello", false);
        check("1a", false);
        check("a-", false);
        check("a--b", false);
        check("a.b", false);
        check(&"a".repeat(40), true);
        check(&"a".repeat(41), false);
    }

    #[test]
    fn revision_ids_come_from_digests_and_parse_again() {
        for n in 0..2000u32 {
            let id = RevisionId::from_digest(&blake3::hash(&n.to_le_bytes()));
            assert_eq!(RevisionId::parse(id.as_str()), Ok(id));
        }
        assert!(RevisionId::parse("short").is_err());
        assert!(RevisionId::parse("2bcdefghij").is_err());
    }
}
