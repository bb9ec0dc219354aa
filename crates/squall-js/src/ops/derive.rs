//! Keys from keys and from passwords.

use hkdf::Hkdf;
use hmac::Hmac;

use super::hash::{Hash, with_hash};
use super::{Arguments, Refusal, operation_error};
use crate::Value;

/// Bytes that PBKDF2 gives at most.
const LENGTH_MAX: usize = 1 << 20;
/// Bytes that HKDF hashes at most: a millisecond. It is called and not started.
const HASHED_BYTES_MAX: usize = 1 << 20;
/// Rounds times blocks of one derivation: some seconds on one core. OWASP recommends
/// 600,000 rounds for one block.
const WORK_MAX: u64 = 10_000_000;

/// `(hash, key, salt, info, length)`
pub(super) fn hkdf(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let hash = Hash::read(arguments)?;
    let (key, salt, info) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    let length = arguments.size()?;
    let block = hash.of(&[]).len();
    // RFC 5869, section 2.3.
    if length > 255 * block {
        let message = format!("HKDF with this hash derives {} bytes at most", 255 * block);
        return Err(operation_error(message));
    }
    let hashed = key.len() + salt.len() + length.div_ceil(block) * info.len();
    if hashed > HASHED_BYTES_MAX {
        return Err(operation_error("HKDF over so much key, salt and info takes too long"));
    }
    let mut derived = vec![0; length];
    let done = with_hash!(hash, H => Hkdf::<H>::new(Some(&salt), &key).expand(&info, &mut derived));
    done.map_err(|_| operation_error("HKDF can not derive so many bytes"))?;
    Ok(Value::Bytes(derived))
}

/// `(hash, password, salt, iterations, length)`
pub(super) fn pbkdf2(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let hash = Hash::read(arguments)?;
    let (password, salt) = (arguments.bytes()?, arguments.bytes()?);
    let (iterations, length) = (arguments.size()?, arguments.size()?);
    let iterations = u32::try_from(iterations).unwrap_or(u32::MAX);
    if iterations == 0 {
        return Err(operation_error("PBKDF2 needs at least one iteration"));
    }
    let block = hash.of(&[]).len();
    // The first round of each block hashes the salt.
    let rounds = u64::from(iterations) + salt.len() as u64 / 64;
    let work = rounds.saturating_mul(length.div_ceil(block) as u64);
    if length > LENGTH_MAX || work > WORK_MAX {
        return Err(operation_error(format!(
            "PBKDF2 with {iterations} iterations for {length} bytes takes too long: iterations \
             times blocks of {block} bytes may be {WORK_MAX} at most"
        )));
    }
    let mut derived = vec![0; length];
    with_hash!(hash, H => {
        pbkdf2::pbkdf2::<Hmac<H>>(&password, &salt, iterations, &mut derived)
            .map_err(|_| operation_error("PBKDF2 failed"))?;
    });
    Ok(Value::Bytes(derived))
}
