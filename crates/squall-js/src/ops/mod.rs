//! The host's operations that only compute. Their arguments and results are those of
//! `guest/web/src/ops.ts`, whose numbers they go by.
//!
//! The guest is hostile: arguments of the wrong kind are refused, and nothing here takes
//! more time or memory than its arguments justify.

mod aes;
mod base64;
mod compression;
mod derive;
mod elliptic;
mod hash;
mod place;
mod rsa;
mod streams;
mod text;
mod url;

pub use place::{is_for_another_thread, may_be_called};
pub use streams::{Streams, Write, Written, is_of_streams};

use crate::{Value, Writer, op};

/// Fills a buffer with random bytes. All randomness comes this way, so that it can be
/// recorded.
pub type Chance<'a> = dyn FnMut(&mut [u8]) + 'a;

/// What can not be done, as the exception that the program sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The name of a `DOMException`, or TypeError, RangeError, Error.
    pub name: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }

    pub fn type_error(message: impl Into<String>) -> Self {
        Self::new("TypeError", message)
    }

    /// As it crosses to the guest: `[name, message]`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer { out };
        writer.array(2);
        writer.str(self.name);
        writer.str(&self.message);
    }
}

fn operation_error(message: impl Into<String>) -> Refusal {
    Refusal::new("OperationError", message)
}

fn data_error(message: impl Into<String>) -> Refusal {
    Refusal::new("DataError", message)
}

fn wrong() -> Refusal {
    Refusal::new("TypeError", "an operation of the host was given arguments of the wrong kind")
}

/// Arguments in their order.
struct Arguments(std::vec::IntoIter<Value>);

impl Arguments {
    fn bytes(&mut self) -> Result<Vec<u8>, Refusal> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(bytes),
            _ => Err(wrong()),
        }
    }
    fn str(&mut self) -> Result<String, Refusal> {
        match self.0.next() {
            Some(Value::String(text)) => Ok(text),
            _ => Err(wrong()),
        }
    }
    fn str_or_null(&mut self) -> Result<Option<String>, Refusal> {
        match self.0.next() {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Null | Value::Undefined) => Ok(None),
            _ => Err(wrong()),
        }
    }
    fn bool(&mut self) -> Result<bool, Refusal> {
        match self.0.next() {
            Some(Value::Bool(value)) => Ok(value),
            _ => Err(wrong()),
        }
    }
    /// The name of a stream; numbers of other kinds name none.
    fn handle(&mut self) -> Result<i32, Refusal> {
        match self.0.next() {
            Some(Value::Int(handle)) => Ok(handle),
            _ => Err(wrong()),
        }
    }
    /// A whole number that is not below zero.
    fn size(&mut self) -> Result<usize, Refusal> {
        match self.0.next() {
            Some(Value::Int(value)) => usize::try_from(value).map_err(|_| wrong()),
            Some(Value::Float(value)) if value >= 0.0 && value.fract() == 0.0 && value < 1e15 => {
                Ok(value as usize)
            }
            _ => Err(wrong()),
        }
    }
}

/// Performs an operation that needs no state.
///
/// # Errors
/// Refuses what the standards refuse, arguments of the wrong kind, and numbers that are
/// none of these.
pub fn perform(
    operation: u32,
    values: Vec<Value>,
    chance: &mut Chance<'_>,
) -> Result<Value, Refusal> {
    let arguments = &mut Arguments(values.into_iter());
    match operation {
        op::DECODE => text::decode(arguments),
        op::BASE64_ENCODE => base64::encode(arguments),
        op::BASE64_DECODE => base64::decode(arguments),
        op::URL_PARSE => url::parse(arguments),
        op::URL_SET => url::set(arguments),
        op::DIGEST => hash::digest(arguments),
        op::HMAC_SIGN => hash::hmac_sign(arguments),
        op::HMAC_VERIFY => hash::hmac_verify(arguments),
        op::AES_CBC_ENCRYPT => aes::cbc_encrypt(arguments),
        op::AES_CBC_DECRYPT => aes::cbc_decrypt(arguments),
        op::AES_GCM_ENCRYPT => aes::gcm_encrypt(arguments),
        op::AES_GCM_DECRYPT => aes::gcm_decrypt(arguments),
        op::HKDF => derive::hkdf(arguments),
        op::PBKDF2 => derive::pbkdf2(arguments),
        op::RSA_GENERATE => rsa::generate(arguments, chance),
        op::RSA_CHECK => rsa::check(arguments),
        op::RSA_SIGN => rsa::sign(arguments, chance),
        op::RSA_VERIFY => rsa::verify(arguments),
        op::EC_GENERATE => elliptic::generate(arguments, chance),
        op::EC_PUBLIC => elliptic::public(arguments),
        op::EC_POINT => elliptic::point(arguments),
        op::ECDSA_SIGN => elliptic::sign(arguments),
        op::ECDSA_VERIFY => elliptic::verify(arguments),
        op::ED25519_GENERATE => Ok(elliptic::ed25519_generate(chance)),
        op::ED25519_PUBLIC => elliptic::ed25519_public(arguments),
        op::ED25519_SIGN => elliptic::ed25519_sign(arguments),
        op::ED25519_VERIFY => elliptic::ed25519_verify(arguments),
        _ => {
            Err(Refusal::new("NotSupportedError", format!("the host has no operation {operation}")))
        }
    }
}

/// The generator that libraries ask for randomness.
struct Generator<'a, 'b>(&'a mut Chance<'b>);

impl rand_core::RngCore for Generator<'_, '_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        (self.0)(bytes);
        Ok(())
    }
}

impl rand_core::CryptoRng for Generator<'_, '_> {}

#[cfg(test)]
mod tests;
