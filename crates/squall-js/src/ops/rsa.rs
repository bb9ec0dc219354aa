//! RSA signatures (RFC 8017). Keys are PKCS#1 in DER.
//!
//! The guest may bring any numbers as a key: what would take long or for ever is refused
//! before the library sees it. Nothing here decrypts.

use rsa::pkcs1::{self, EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey};

use super::hash::{Hash, with_hash};
use super::{Arguments, Chance, Generator, Refusal, data_error, operation_error, wrong};
use crate::Value;

/// A longer modulus takes the better part of a minute to find.
const GENERATED_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 1_024..=8_192;
/// A private key of 8,192 bits has less than 5 KB.
const KEY_BYTES_MAX: usize = 6_000;

/// `(modulus in bits, public exponent)`
pub(super) fn generate(
    arguments: &mut Arguments,
    chance: &mut Chance<'_>,
) -> Result<Value, Refusal> {
    let bits = arguments.size()?;
    let exponent = arguments.bytes()?;
    if !GENERATED_BITS.contains(&bits) || !bits.is_multiple_of(8) {
        return Err(operation_error("the modulus has 2048 to 4096 bits, a multiple of 8"));
    }
    let exponent = BigUint::from_bytes_be(&exponent);
    if exponent != BigUint::from(3_u8) && exponent != BigUint::from(65_537_u32) {
        return Err(operation_error("the public exponent is 3 or 65537"));
    }
    let failed = || operation_error("no key was found");
    let key = RsaPrivateKey::new_with_exp(&mut Generator(chance), bits, &exponent)
        .map_err(|_| failed())?;
    let public = key.to_public_key().to_pkcs1_der().map_err(|_| failed())?;
    let private = key.to_pkcs1_der().map_err(|_| failed())?;
    Ok(Value::Array(vec![
        Value::Bytes(public.as_bytes().to_vec()),
        Value::Bytes(private.as_bytes().to_vec()),
    ]))
}

/// `(isPrivate, key)`
pub(super) fn check(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let is_private = arguments.bool()?;
    let key = arguments.bytes()?;
    if is_private {
        private_key(&key)?;
    } else {
        public_key(&key)?;
    }
    Ok(Value::Null)
}

fn number(integer: pkcs1::UintRef<'_>) -> BigUint {
    BigUint::from_bytes_be(integer.as_bytes())
}

fn check_modulus(modulus: &BigUint) -> Result<(), Refusal> {
    let bits = modulus.bits();
    // With one bit in its first byte the library misreads the padding of PSS.
    if MODULUS_BITS.contains(&bits) && bits % 8 != 1 {
        return Ok(());
    }
    Err(data_error(format!("the modulus has {bits} bits: 1024 to 8192 are possible")))
}

fn unsound<E>(_: E) -> Refusal {
    data_error("the key is no sound RSA key")
}

fn public_key(der: &[u8]) -> Result<RsaPublicKey, Refusal> {
    if der.len() > KEY_BYTES_MAX {
        return Err(unsound(()));
    }
    let key = pkcs1::RsaPublicKey::try_from(der).map_err(unsound)?;
    let modulus = number(key.modulus);
    check_modulus(&modulus)?;
    RsaPublicKey::new_with_max_size(modulus, number(key.public_exponent), *MODULUS_BITS.end())
        .map_err(unsound)
}

fn private_key(der: &[u8]) -> Result<RsaPrivateKey, Refusal> {
    if der.len() > KEY_BYTES_MAX {
        return Err(unsound(()));
    }
    let key = pkcs1::RsaPrivateKey::try_from(der).map_err(unsound)?;
    if key.version() != pkcs1::Version::TwoPrime {
        return Err(data_error("RSA keys of more than two primes are not supported"));
    }
    let modulus = number(key.modulus);
    check_modulus(&modulus)?;
    let primes = vec![number(key.prime1), number(key.prime2)];
    // The library subtracts the larger from a multiple of the smaller, step by step.
    if primes[0].bits().abs_diff(primes[1].bits()) > 8 {
        return Err(unsound(()));
    }
    let [dp, dq, qinv] = [key.exponent1, key.exponent2, key.coefficient].map(number);
    let (exponent, secret) = (number(key.public_exponent), number(key.private_exponent));
    let key = RsaPrivateKey::from_components(modulus, exponent, secret, primes).map_err(unsound)?;
    let fits = key.dp() == Some(&dp)
        && key.dq() == Some(&dq)
        && key.crt_coefficient().is_some_and(|coefficient| coefficient == qinv);
    if fits { Ok(key) } else { Err(unsound(())) }
}

enum Padding {
    Pkcs1,
    Pss,
}

impl Padding {
    fn read(arguments: &mut Arguments) -> Result<Self, Refusal> {
        match arguments.str()?.as_str() {
            "pkcs1" => Ok(Padding::Pkcs1),
            "pss" => Ok(Padding::Pss),
            _ => Err(wrong()),
        }
    }
}

/// Whether a salt and a digest have room in a signature of PSS (RFC 8017, section 9.1.1).
fn salt_fits(salt_len: usize, digest: &[u8], modulus: &BigUint) -> bool {
    let encoded_len = (modulus.bits() - 1).div_ceil(8);
    salt_len <= encoded_len && digest.len() + salt_len + 2 <= encoded_len
}

/// `(padding, hash, key, salt length, data)`. The private operation is blinded: it works on a
/// number that an observer of its time can not know.
pub(super) fn sign(arguments: &mut Arguments, chance: &mut Chance<'_>) -> Result<Value, Refusal> {
    let (padding, hash) = (Padding::read(arguments)?, Hash::read(arguments)?);
    let key = private_key(&arguments.bytes()?)?;
    let salt_len = arguments.size()?;
    let digest = hash.of(&arguments.bytes()?);
    let generator = &mut Generator(chance);
    let signature = with_hash!(hash, H => match padding {
        Padding::Pkcs1 => key.sign_with_rng(generator, Pkcs1v15Sign::new::<H>(), &digest),
        Padding::Pss if !salt_fits(salt_len, &digest, key.n()) => {
            return Err(operation_error("the key is too short for the hash and the salt"));
        }
        Padding::Pss => {
            key.sign_with_rng(generator, Pss::new_blinded_with_salt::<H>(salt_len), &digest)
        }
    });
    signature.map(Value::Bytes).map_err(|_| operation_error("the key can not sign this"))
}

/// `(padding, hash, key, salt length, signature, data)`
pub(super) fn verify(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (padding, hash) = (Padding::read(arguments)?, Hash::read(arguments)?);
    let key = public_key(&arguments.bytes()?)?;
    let salt_len = arguments.size()?;
    let signature = arguments.bytes()?;
    let digest = hash.of(&arguments.bytes()?);
    // The library takes some that stand for the same number: RFC 8017, section 5.2.2.
    let is_below_modulus =
        signature.len() == key.size() && BigUint::from_bytes_be(&signature) < *key.n();
    let is_valid = is_below_modulus
        && with_hash!(hash, H => match padding {
            Padding::Pkcs1 => key.verify(Pkcs1v15Sign::new::<H>(), &digest, &signature).is_ok(),
            Padding::Pss => {
                salt_fits(salt_len, &digest, key.n())
                    && key.verify(Pss::new_with_salt::<H>(salt_len), &digest, &signature).is_ok()
            }
        });
    Ok(Value::Bool(is_valid))
}
