//! ECDSA over P-256 and P-384 (FIPS 186-5), and Ed25519 (RFC 8032).

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::elliptic_curve::sec1::ToEncodedPoint as _;

use super::hash::Hash;
use super::{Arguments, Chance, Generator, Refusal, data_error, wrong};
use crate::Value;

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn read(arguments: &mut Arguments) -> Result<Self, Refusal> {
        match arguments.str()?.as_str() {
            "P-256" => Ok(Curve::P256),
            "P-384" => Ok(Curve::P384),
            _ => Err(wrong()),
        }
    }

    /// Length in bytes of a scalar and of a coordinate.
    fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }
}

/// Runs code with the crate of a curve.
macro_rules! with_curve {
    ($curve:expr, $name:ident => $code:expr) => {
        match $curve {
            Curve::P256 => {
                use p256 as $name;
                $code
            }
            Curve::P384 => {
                use p384 as $name;
                $code
            }
        }
    };
}

fn not_on_curve() -> Refusal {
    data_error("the public key is no point of the curve")
}

/// `(curve)`
pub(super) fn generate(
    arguments: &mut Arguments,
    chance: &mut Chance<'_>,
) -> Result<Value, Refusal> {
    let curve = Curve::read(arguments)?;
    Ok(with_curve!(curve, crate_of_curve => {
        let secret = crate_of_curve::SecretKey::random(&mut Generator(chance));
        let point = secret.public_key().to_encoded_point(false);
        Value::Array(vec![
            Value::Bytes(point.as_bytes().to_vec()),
            Value::Bytes(secret.to_bytes().to_vec()),
        ])
    }))
}

/// `(curve, scalar)`
pub(super) fn public(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let curve = Curve::read(arguments)?;
    let scalar = scalar(arguments, curve)?;
    with_curve!(curve, crate_of_curve => {
        let secret = crate_of_curve::SecretKey::from_slice(&scalar).map_err(|_| not_a_scalar())?;
        Ok(Value::Bytes(secret.public_key().to_encoded_point(false).as_bytes().to_vec()))
    })
}

/// The library takes shorter ones too.
fn scalar(arguments: &mut Arguments, curve: Curve) -> Result<Vec<u8>, Refusal> {
    let scalar = arguments.bytes()?;
    if scalar.len() == curve.size() { Ok(scalar) } else { Err(not_a_scalar()) }
}

fn not_a_scalar() -> Refusal {
    data_error("the private key is no scalar of the curve")
}

/// `(curve, point)`
pub(super) fn point(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let curve = Curve::read(arguments)?;
    let point = arguments.bytes()?;
    // SEC 1, section 2.3.3. The library also knows the compact form, which nobody else does.
    if !matches!(point.first(), Some(2..=4)) {
        return Err(not_on_curve());
    }
    with_curve!(curve, crate_of_curve => {
        let key = crate_of_curve::PublicKey::from_sec1_bytes(&point).map_err(|_| not_on_curve())?;
        Ok(Value::Bytes(key.to_encoded_point(false).as_bytes().to_vec()))
    })
}

/// `(curve, hash, scalar, data)`. The number that must be secret and never come twice is
/// derived from the key and the data (RFC 6979), so a signature needs no chance.
pub(super) fn sign(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (curve, hash) = (Curve::read(arguments)?, Hash::read(arguments)?);
    let scalar = scalar(arguments, curve)?;
    let digest = digest_for(curve, hash, &arguments.bytes()?);
    with_curve!(curve, crate_of_curve => {
        let key = crate_of_curve::ecdsa::SigningKey::from_slice(&scalar).map_err(|_| not_a_scalar())?;
        let signature: crate_of_curve::ecdsa::Signature =
            key.sign_prehash(&digest).map_err(|_| super::operation_error("the data can not be signed"))?;
        Ok(Value::Bytes(signature.to_bytes().to_vec()))
    })
}

/// `(curve, hash, point, signature, data)`
pub(super) fn verify(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (curve, hash) = (Curve::read(arguments)?, Hash::read(arguments)?);
    let (point, signature) = (arguments.bytes()?, arguments.bytes()?);
    let digest = digest_for(curve, hash, &arguments.bytes()?);
    with_curve!(curve, crate_of_curve => {
        use crate_of_curve::ecdsa::{Signature, VerifyingKey};
        let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| not_on_curve())?;
        // Of the wrong length, or with numbers that are 0 or not below the order.
        let Ok(signature) = Signature::from_slice(&signature) else {
            return Ok(Value::Bool(false));
        };
        Ok(Value::Bool(key.verify_prehash(&digest, &signature).is_ok()))
    })
}

/// The library cuts a longer digest off as ECDSA asks, but refuses one that is shorter than
/// half of the order. With zeros in front it is the same number.
fn digest_for(curve: Curve, hash: Hash, data: &[u8]) -> Vec<u8> {
    let digest = hash.of(data);
    let mut padded = vec![0; curve.size().saturating_sub(digest.len())];
    padded.extend(digest);
    padded
}

/// `()`
pub(super) fn ed25519_generate(chance: &mut Chance<'_>) -> Value {
    let mut seed = [0; 32];
    chance(&mut seed);
    let public = SigningKey::from_bytes(&seed).verifying_key();
    Value::Array(vec![Value::Bytes(public.to_bytes().to_vec()), Value::Bytes(seed.to_vec())])
}

fn signing_key(arguments: &mut Arguments) -> Result<SigningKey, Refusal> {
    SigningKey::try_from(arguments.bytes()?.as_slice()).map_err(|_| wrong())
}

/// `(seed)`
pub(super) fn ed25519_public(arguments: &mut Arguments) -> Result<Value, Refusal> {
    Ok(Value::Bytes(signing_key(arguments)?.verifying_key().to_bytes().to_vec()))
}

/// `(seed, data)`
pub(super) fn ed25519_sign(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let key = signing_key(arguments)?;
    Ok(Value::Bytes(key.sign(&arguments.bytes()?).to_bytes().to_vec()))
}

/// `(public, signature, data)`
pub(super) fn ed25519_verify(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let public = <[u8; 32]>::try_from(arguments.bytes()?).map_err(|_| wrong())?;
    let signature = arguments.bytes()?;
    let data = arguments.bytes()?;
    let valid = || {
        // The strict check refuses points of small order, and in signatures what is not
        // canonical; public keys that are not it takes.
        let key = VerifyingKey::from_bytes(&public).ok().filter(|_| is_canonical(&public))?;
        key.verify_strict(&data, &Signature::from_slice(&signature).ok()?).ok()
    };
    Ok(Value::Bool(valid().is_some()))
}

/// Whether the coordinate y is below the prime 2^255 - 19. The highest bit is x's sign.
fn is_canonical(point: &[u8; 32]) -> bool {
    let all_ones = point[31] & 0x7f == 0x7f && point[1..31].iter().all(|byte| *byte == 0xff);
    !(all_ones && point[0] >= 0xed)
}
