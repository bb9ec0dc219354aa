//! Digests and HMAC.

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{Arguments, Refusal, wrong};
use crate::Value;

/// The hashes of WebCrypto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) fn read(arguments: &mut Arguments) -> Result<Self, Refusal> {
        Ok(match arguments.str()?.as_str() {
            "SHA-1" => Hash::Sha1,
            "SHA-256" => Hash::Sha256,
            "SHA-384" => Hash::Sha384,
            "SHA-512" => Hash::Sha512,
            _ => return Err(wrong()),
        })
    }

    pub(super) fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => Sha1::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha384 => Sha384::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }
}

/// Runs code with the type that a `Hash` names.
macro_rules! with_hash {
    ($hash:expr, $name:ident => $code:expr) => {
        match $hash {
            $crate::ops::hash::Hash::Sha1 => {
                type $name = sha1::Sha1;
                $code
            }
            $crate::ops::hash::Hash::Sha256 => {
                type $name = sha2::Sha256;
                $code
            }
            $crate::ops::hash::Hash::Sha384 => {
                type $name = sha2::Sha384;
                $code
            }
            $crate::ops::hash::Hash::Sha512 => {
                type $name = sha2::Sha512;
                $code
            }
        }
    };
}
pub(super) use with_hash;

/// `(hash, data)`
pub(super) fn digest(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let hash = Hash::read(arguments)?;
    Ok(Value::Bytes(hash.of(&arguments.bytes()?)))
}

/// `(hash, key, data)`
pub(super) fn hmac_sign(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let hash = Hash::read(arguments)?;
    let (key, data) = (arguments.bytes()?, arguments.bytes()?);
    Ok(Value::Bytes(with_hash!(hash, H => {
        let mut mac = <Hmac<H> as Mac>::new_from_slice(&key).map_err(|_| wrong())?;
        mac.update(&data);
        mac.finalize().into_bytes().to_vec()
    })))
}

/// `(hash, key, signature, data)`
pub(super) fn hmac_verify(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let hash = Hash::read(arguments)?;
    let (key, signature, data) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    Ok(Value::Bool(with_hash!(hash, H => {
        let mut mac = <Hmac<H> as Mac>::new_from_slice(&key).map_err(|_| wrong())?;
        mac.update(&data);
        mac.verify_slice(&signature).is_ok()
    })))
}
