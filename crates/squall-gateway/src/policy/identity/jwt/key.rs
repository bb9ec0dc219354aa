//! A public key of an issuer (RFC 7517, RFC 7518 section 6, RFC 8037), and the signatures
//! that it accepts: those of its own type, curve, algorithm and use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Map, Value};
use squall_types::gateway::JwtAlgorithm;

const RSA_BITS_MIN: usize = 2048;
const RSA_BITS_MAX: usize = 8192;
const RSA_BITS_QUICK: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    /// The one algorithm that the issuer uses it with, when it says so.
    algorithm: Option<JwtAlgorithm>,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    /// # Errors
    /// Why no signature of this key is ever accepted.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or_else(|| format!("{name} is missing or malformed"))
        };
        if jwk.contains_key("d") || jwk.contains_key("k") {
            return Err("it is no public key".into());
        }
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures".into());
        }
        if let Some(operations) = jwk.get("key_ops") {
            let verifies = |list: &Vec<Value>| list.iter().any(|one| one == "verify");
            if !operations.as_array().is_some_and(verifies) {
                return Err("it is not for checking signatures".into());
            }
        }
        let material = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => rsa(bytes("n")?, bytes("e")?)?,
            (Some("EC"), Some("P-256")) => Material::P256(point(bytes("x")?, bytes("y")?, 32)?),
            (Some("EC"), Some("P-384")) => Material::P384(point(bytes("x")?, bytes("y")?, 48)?),
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519(edwards_point(bytes("x")?)?),
            (kind, curve) => {
                let (kind, curve) = (kind.unwrap_or("no type"), curve.unwrap_or("no curve"));
                return Err(format!("keys of {kind} with {curve} are not supported"));
            }
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(name) => {
                let known = name.as_str().and_then(super::token::named);
                Some(known.ok_or_else(|| format!("its algorithm {name} is not supported"))?)
            }
        };
        if algorithm.is_some_and(|algorithm| !material.fits(algorithm)) {
            return Err("its algorithm is not for its type".into());
        }
        let id = match jwk.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().ok_or("its kid is not a text")?.to_owned()),
        };
        Ok(Self { id, algorithm, material })
    }

    /// Whether signatures of `algorithm` may be this key's at all.
    pub(crate) fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.fits(algorithm)
    }

    /// Whether a check takes longer than a request core may be held up.
    pub(super) fn is_costly(&self) -> bool {
        match &self.material {
            Material::Rsa { modulus, .. } => modulus.len() * 8 > RSA_BITS_QUICK,
            Material::P384(_) => true,
            Material::P256(_) | Material::Ed25519(_) => false,
        }
    }

    pub(super) fn verifies(&self, algorithm: JwtAlgorithm, signed: &[u8], given: &[u8]) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        match &self.material {
            Material::Rsa { modulus, exponent } => rsa_parameters(algorithm).is_some_and(|rsa| {
                RsaPublicKeyComponents { n: modulus, e: exponent }
                    .verify(rsa, signed, given)
                    .is_ok()
            }),
            Material::P256(point) => {
                ecdsa(&signature::ECDSA_P256_SHA256_FIXED, point, signed, given)
            }
            Material::P384(point) => {
                ecdsa(&signature::ECDSA_P384_SHA384_FIXED, point, signed, given)
            }
            Material::Ed25519(point) => {
                UnparsedPublicKey::new(&signature::ED25519, point).verify(signed, given).is_ok()
            }
        }
    }
}

impl Material {
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        match self {
            Self::Rsa { .. } => rsa_parameters(algorithm).is_some(),
            Self::P256(_) => algorithm == JwtAlgorithm::ES256,
            Self::P384(_) => algorithm == JwtAlgorithm::ES384,
            Self::Ed25519(_) => algorithm == JwtAlgorithm::EdDSA,
        }
    }
}

fn rsa_parameters(algorithm: JwtAlgorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        JwtAlgorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        JwtAlgorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        JwtAlgorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        JwtAlgorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        JwtAlgorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        JwtAlgorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        JwtAlgorithm::ES256 | JwtAlgorithm::ES384 | JwtAlgorithm::EdDSA => None,
    }
}

fn ecdsa(
    algorithm: &'static EcdsaVerificationAlgorithm,
    point: &[u8],
    signed: &[u8],
    given: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, point).verify(signed, given).is_ok()
}

fn rsa(mut modulus: Vec<u8>, mut exponent: Vec<u8>) -> Result<Material, String> {
    // RFC 7518, section 6.3.1.1 warns of encoders that write a leading zero.
    for number in [&mut modulus, &mut exponent] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number.drain(..zeros);
    }
    let first = modulus.first().map_or(8, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(first);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!("its {bits} bits are not from {RSA_BITS_MIN} to {RSA_BITS_MAX}"));
    }
    Ok(Material::Rsa { modulus, exponent })
}

fn point(x: Vec<u8>, y: Vec<u8>, bytes: usize) -> Result<Vec<u8>, String> {
    if x.len() != bytes || y.len() != bytes {
        return Err("its coordinates are of the wrong length".into());
    }
    Ok([&[4], x.as_slice(), &y].concat())
}

/// Points of small order accept signatures that nobody made.
fn edwards_point(x: Vec<u8>) -> Result<Vec<u8>, String> {
    if x.len() != 32 {
        return Err("its coordinate is of the wrong length".into());
    }
    let mut unsigned = x.clone();
    unsigned[31] &= 0x7f;
    if SMALL_ORDER.iter().any(|point| *point == unsigned[..]) {
        return Err("its point is of small order".into());
    }
    Ok(x)
}

/// The y coordinates of points whose order divides 8, in every encoding that decodes to
/// them; the top bit, the sign of x, is left out. Their orders: 4, 1, 8, 8, 2, and the
/// last two are the first two once more, not reduced modulo 2^255 - 19.
const SMALL_ORDER: [[u8; 32]; 7] = {
    const fn ending(first: u8) -> [u8; 32] {
        let mut bytes = [0xff; 32];
        bytes[0] = first;
        bytes[31] = 0x7f;
        bytes
    }
    let mut one = [0; 32];
    one[0] = 1;
    [
        [0; 32],
        one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
        ending(0xec),
        ending(0xed),
        ending(0xee),
    ]
};
