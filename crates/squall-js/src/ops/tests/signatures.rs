use ::rsa::BigUint;
use ::rsa::pkcs1::der::Encode as _;
use ::rsa::pkcs1::{RsaPrivateKey, RsaPublicKey, UintRef};

use super::*;

const HASHES: [&str; 4] = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"];

/// A key as it is written down.
struct Key {
    curve: &'static str,
    scalar: Vec<u8>,
    point: Vec<u8>,
    compressed: Vec<u8>,
}

/// Those of RFC 6979, A.2.5 and A.2.6.
fn keys() -> [Key; 2] {
    [
        Key {
            curve: "P-256",
            scalar: hex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721"),
            point: hex("0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6
                 7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"),
            compressed: hex("0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"),
        },
        Key {
            curve: "P-384",
            scalar: hex("6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d8
                 96d5724e4c70a825f872c9ea60d2edf5"),
            point: hex("04ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64
                 def8f0ea9055866064a254515480bc13
                 8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1
                 288b231c3ae0d4fe7344fd2533264720"),
            compressed: hex("02ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64
                 def8f0ea9055866064a254515480bc13"),
        },
    ]
}

fn ecdsa_verify(curve: &str, hash: &str, point: &[u8], signature: &[u8], data: &str) -> Value {
    let arguments = [curve.into(), hash.into(), bytes(point), bytes(signature), bytes(data)];
    run(op::ECDSA_VERIFY, arguments)
}

#[test]
fn ecdsa_signs_as_rfc_6979() {
    // With the hash of the curve's size the secret number is the one that the RFC derives.
    let expected = [
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716
         f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
        "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c
         81a648152e44acf96e36dd1e80fabe46
         99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94f
         a329c145786e679e7b82c71a38628ac8",
    ];
    for ((key, hash), expected) in keys().iter().zip(["SHA-256", "SHA-384"]).zip(expected) {
        let arguments = [key.curve.into(), hash.into(), bytes(&key.scalar), bytes("sample")];
        assert_eq!(run_bytes(op::ECDSA_SIGN, arguments), hex(expected));
    }
}

#[test]
fn ecdsa_verifies_what_others_signed() {
    // By OpenSSL, over "sample": digests shorter and longer than the order.
    let check = |key: usize, hash, signature| {
        let Key { curve, point, .. } = &keys()[key];
        let mut signature = hex(signature);
        assert_eq!(ecdsa_verify(curve, hash, point, &signature, "sample"), Value::Bool(true));
        assert_eq!(ecdsa_verify(curve, hash, point, &signature, "Sample"), Value::Bool(false));
        signature[5] ^= 1;
        assert_eq!(ecdsa_verify(curve, hash, point, &signature, "sample"), Value::Bool(false));
    };
    check(
        0,
        "SHA-1",
        "b2b4fde5095562012da4733acde4803dad9ed2be73389ea0cc782b78f5efc9ec
         222ac5f7ee6405da26d3716f54bb9b5b64b387f189ede66533d59c7bf928381d",
    );
    check(
        0,
        "SHA-512",
        "ad4bff126550ceb603c2fe627bbeeeb7c515edbb4cdbd6f36d4da8a0157996c2
         612aff4a7a806d88cb80d4d906072cae614e077d3eec74a3bd58a358cb2b1f98",
    );
    check(
        1,
        "SHA-1",
        "e4e74be43ab859f2a2759babb747fdf9a86f06d2e8a7ebd98e8b1d60b28ddc33
         5afb1f382470e0781562d35ccce83e8e8ec268bf318e2c83df09d86134cbd209
         1875b551ce3de525327f806bcfcf71f36b8546b6e4575433eaf02fee78680e99",
    );
    check(
        1,
        "SHA-256",
        "f425111044f176d5a391f1a9d8a642284c1e634b64e08a12914abba9cd018175
         37118ee876a4760d48c5982872e2a272366822d2a908b91b8e55b89426c00e37
         5749385eed284ae9add891959e495cef73b8e57d4b363f7a35faa06bce18a4fc",
    );
    check(
        1,
        "SHA-512",
        "a98ce194851f1fe501ecaf92632a154fb8c625c5ef845f47deb838d82e0a4b5a
         a28ac48a07d76e372401437629fbb84ce4ecb6564ed6222e3054d2f2dd07fbd7
         b54dc6a333a9d928d0f1ec2be9081f45aa779e5a8c29bf4e73510045a283fcd7",
    );
}

#[test]
fn ecdsa_verifies_what_it_signs() {
    for Key { curve, scalar, point, .. } in keys() {
        for hash in HASHES {
            let arguments = [curve.into(), hash.into(), bytes(&scalar), bytes("data")];
            let signature = run_bytes(op::ECDSA_SIGN, arguments);
            assert_eq!(signature.len(), 2 * scalar.len());
            assert_eq!(ecdsa_verify(curve, hash, &point, &signature, "data"), Value::Bool(true));
        }
        for wrong in [vec![], vec![0; 2 * scalar.len()], vec![0xff; 2 * scalar.len()], vec![1; 7]] {
            let valid = ecdsa_verify(curve, "SHA-256", &point, &wrong, "data");
            assert_eq!(valid, Value::Bool(false));
        }
    }
}

#[test]
fn keys_of_curves_are_made_and_checked() {
    for Key { curve, scalar, point, compressed } in keys() {
        assert_eq!(run_bytes(op::EC_PUBLIC, [curve.into(), bytes(&scalar)]), point);
        for encoded in [&point, &compressed] {
            assert_eq!(run_bytes(op::EC_POINT, [curve.into(), bytes(encoded)]), point);
        }
        let Value::Array(pair) = run(op::EC_GENERATE, [curve.into()]) else { panic!("{curve}") };
        assert_eq!(run(op::EC_PUBLIC, [curve.into(), pair[1].clone()]), pair[0]);

        let size = scalar.len();
        let private = |scalar: Vec<u8>| refused(op::EC_PUBLIC, [curve.into(), bytes(scalar)]);
        assert_eq!(private(vec![0; size]), "DataError");
        assert_eq!(private(vec![0xff; size]), "DataError");
        assert_eq!(private(vec![1; size - 1]), "DataError");
        assert_eq!(private(vec![1; size + 1]), "DataError");

        let public = |point: Vec<u8>| refused(op::EC_POINT, [curve.into(), bytes(point)]);
        let changed = |at: usize, to: u8| {
            let mut changed = point.clone();
            changed[at] = to;
            changed
        };
        assert_eq!(public(changed(size, point[size] ^ 1)), "DataError");
        // The tags of the point at infinity, the compact form, and the hybrid forms of X9.62.
        for tag in [0, 5, 6, 7] {
            assert_eq!(public(changed(0, tag)), "DataError");
        }
        assert_eq!(public(vec![0]), "DataError");
        assert_eq!(public(vec![]), "DataError");
        assert_eq!(public(point[..size + 1].to_vec()), "DataError");
    }
    assert_eq!(refused(op::EC_GENERATE, ["P-521".into()]), "TypeError");
}

#[test]
fn ed25519_signs_as_rfc_8032() {
    // Section 7.1, tests 1 to 3.
    let check = |seed, public, data, signature| {
        let (seed, public) = (bytes(hex(seed)), bytes(hex(public)));
        let (data, signature) = (bytes(hex(data)), hex(signature));
        assert_eq!(run(op::ED25519_PUBLIC, [seed.clone()]), public);
        assert_eq!(run_bytes(op::ED25519_SIGN, [seed, data.clone()]), signature);
        let verify = |signature: &[u8]| {
            run(op::ED25519_VERIFY, [public.clone(), bytes(signature), data.clone()])
        };
        assert_eq!(verify(&signature), Value::Bool(true));
        assert_eq!(verify(&signature[1..]), Value::Bool(false));
        for at in [0, 31, 32, 63] {
            let mut other = signature.clone();
            other[at] ^= 1;
            assert_eq!(verify(&other), Value::Bool(false));
        }
    };
    check(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    check(
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    check(
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
         18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    );
    let Value::Array(pair) = run(op::ED25519_GENERATE, []) else { panic!("no pair") };
    assert_eq!(run(op::ED25519_PUBLIC, [pair[1].clone()]), pair[0]);
}

#[test]
fn ed25519_takes_one_form_of_a_signature_only() {
    let verify = |public: &[u8], signature: &[u8]| {
        run(op::ED25519_VERIFY, [bytes(public), bytes(signature), bytes([])])
    };
    // The second half plus the order of the group stands for the same number.
    let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    let larger = hex("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
         4c8c7872aa064e049dbb3013fbf29380d25bf5f0595bbe24655141438e7a101b");
    assert_eq!(verify(&public, &larger), Value::Bool(false));
    // The neutral element verifies everything with a neutral signature, where it is taken: as
    // 1, and as 1 plus the prime of the field.
    for neutral in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let neutral = hex(neutral);
        let signature = [&neutral[..], &[0; 32]].concat();
        assert_eq!(verify(&neutral, &signature), Value::Bool(false));
    }
    assert_eq!(refused(op::ED25519_VERIFY, [bytes([1]), bytes([]), bytes([])]), "TypeError");
    assert_eq!(refused(op::ED25519_SIGN, [bytes([1; 33]), bytes([])]), "TypeError");
}

/// `openssl genrsa -traditional 2048`, made for these tests.
const RSA_PRIVATE: &[u8] = include_bytes!("../testdata/rsa-2048-private.der");
const RSA_PUBLIC: &[u8] = include_bytes!("../testdata/rsa-2048-public.der");

fn rsa_sign(padding: &str, hash: &str, key: &[u8], salt: usize) -> Result<Value, Refusal> {
    let arguments = vec![padding.into(), hash.into(), bytes(key), int(salt), bytes("sample")];
    perform(op::RSA_SIGN, arguments, &mut chance())
}

fn rsa_verify(padding: &str, hash: &str, key: &[u8], salt: usize, signature: &[u8]) -> bool {
    let [padding, hash, key] = [padding.into(), hash.into(), bytes(key)];
    let arguments = [padding, hash, key, int(salt), bytes(signature), bytes("sample")];
    run(op::RSA_VERIFY, arguments) == Value::Bool(true)
}

#[test]
fn rsa_signs_and_verifies_as_openssl() {
    let pkcs1 = hex("096f1ca8cce5f1eda065c215b8b7a0a48ad080032b3bda55d0632a8e93efba50
         a11bfec549346ebf42435d6b232bce17906cf1458eea6184207c929bce79ce49
         deeef2c102ae194faafb7db013ac0be3983c951e902f65bbdafc970f778a5cb5
         54f6a98f36ab81870c27bde5482662f968a869d00cb6dc28094ac868315213c6
         86f9df232848822ba50018d0f4b5ef6358d63b2a5aa39e6faabe532118f137d4
         1b3d516ac5fa66ca41463b65439a9b9c849b829934fddfcf16bd6a62af597a04
         cb758e908975f54819b26773809ac23f20d96041f2b2fa8f9d54d9c8e1013afa
         e8b0f251802dc0afabea3ec54531bdb89ad49c3b847f66ab5096b743b1621022");
    let pss = hex("0d31289ad44ee180f394b88b52cded18edef07e63c2ff823b8d8a28b1dfa1731
         0a25237ae1b77552f1c0f60920bcdee509deb9451b7ab605514b8a2d7d1f6549
         245ce370351e1c49be8d244579d2384b4d82e5cf5c14769b5118f08e548f0947
         8303bf5f83085358fdfb3917fb1603adaee39ae8a0d8d156b64f133cc9793b01
         055f9e6603f63dada4aea1fdb92717da4104e36e7bc80cb5a0e04dd9579ea0b6
         f1cc69e075d088192a69756cb1c9d0ffa5270d712a795353cdd0f2bd0c194eb8
         9fcd7b8704159766f9140e49de5b8e5857d6a705119736e2a7b3b28dc54cc0b9
         14218a50c76410c25ed0e15f008223520464837c97badf02590717bcc372b6e4");
    assert_eq!(rsa_sign("pkcs1", "SHA-256", RSA_PRIVATE, 0), Ok(bytes(&pkcs1)));
    assert!(rsa_verify("pkcs1", "SHA-256", RSA_PUBLIC, 0, &pkcs1));
    assert!(rsa_verify("pss", "SHA-256", RSA_PUBLIC, 20, &pss));
    assert!(!rsa_verify("pss", "SHA-256", RSA_PUBLIC, 32, &pss));
    assert!(!rsa_verify("pss", "SHA-512", RSA_PUBLIC, 20, &pss));
    assert!(!rsa_verify("pkcs1", "SHA-256", RSA_PUBLIC, 0, &pss));
    assert!(!rsa_verify("pkcs1", "SHA-1", RSA_PUBLIC, 0, &pkcs1));
}

#[test]
fn rsa_verifies_what_it_signs() {
    for hash in HASHES {
        for (padding, salt) in [("pkcs1", 0), ("pss", 0), ("pss", 32), ("pss", 190)] {
            let signature = into_bytes(rsa_sign(padding, hash, RSA_PRIVATE, salt).unwrap());
            assert!(rsa_verify(padding, hash, RSA_PUBLIC, salt, &signature));
            let mut other = signature.clone();
            other[100] ^= 1;
            assert!(!rsa_verify(padding, hash, RSA_PUBLIC, salt, &other));
            assert!(!rsa_verify(padding, hash, RSA_PUBLIC, salt, &signature[1..]));
        }
    }
    for salt in [223, 100_000, i32::MAX as usize] {
        let refusal = rsa_sign("pss", "SHA-256", RSA_PRIVATE, salt).unwrap_err();
        assert_eq!(refusal.name, "OperationError");
        assert!(!rsa_verify("pss", "SHA-256", RSA_PUBLIC, salt, &[1; 256]));
    }
    assert!(!rsa_verify("pkcs1", "SHA-256", RSA_PUBLIC, 0, &[]));
    assert!(!rsa_verify("pkcs1", "SHA-256", RSA_PUBLIC, 0, &[0xff; 256]));
}

#[test]
fn a_signature_plus_the_modulus_is_none() {
    // Blinded signing differs each time, so one below 2^2048 less the modulus is found soon.
    let modulus = &RSA_PUBLIC[9..265];
    let mut chance = chance();
    let larger = (0..100).find_map(|_| {
        let arguments =
            vec!["pss".into(), "SHA-256".into(), bytes(RSA_PRIVATE), int(32), bytes("sample")];
        let signature = into_bytes(perform(op::RSA_SIGN, arguments, &mut chance).unwrap());
        let sum = BigUint::from_bytes_be(&signature) + BigUint::from_bytes_be(modulus);
        Some(sum.to_bytes_be()).filter(|sum| sum.len() == 256)
    });
    assert!(!rsa_verify("pss", "SHA-256", RSA_PUBLIC, 32, &larger.unwrap()));
}

#[test]
fn rsa_keys_are_made() {
    let Value::Array(pair) = run(op::RSA_GENERATE, [int(2_048), bytes([1, 0, 1])]) else {
        panic!("no pair")
    };
    let [public, private] = <[Value; 2]>::try_from(pair).unwrap().map(into_bytes);
    assert_eq!(run(op::RSA_CHECK, [Value::Bool(true), bytes(&private)]), Value::Null);
    assert_eq!(run(op::RSA_CHECK, [Value::Bool(false), bytes(&public)]), Value::Null);
    let signature = into_bytes(rsa_sign("pss", "SHA-384", &private, 48).unwrap());
    assert!(rsa_verify("pss", "SHA-384", &public, 48, &signature));

    let refuse = |bits, exponent: &[u8]| {
        assert_eq!(refused(op::RSA_GENERATE, [int(bits), bytes(exponent)]), "OperationError");
    };
    for bits in [0, 512, 1_024, 2_047, 2_052, 4_104, 16_384, i32::MAX as usize] {
        refuse(bits, &[1, 0, 1]);
    }
    for exponent in [&[][..], &[0], &[1], &[2], &[1, 0, 0], &[0xff; 300]] {
        refuse(2_048, exponent);
    }
}

/// PKCS#1 of any numbers.
fn private_key(numbers: [&BigUint; 8]) -> Vec<u8> {
    let numbers = numbers.map(BigUint::to_bytes_be);
    let [n, e, d, p, q, dp, dq, qi] =
        numbers.each_ref().map(|number| UintRef::new(number).unwrap());
    let key = RsaPrivateKey {
        modulus: n,
        public_exponent: e,
        private_exponent: d,
        prime1: p,
        prime2: q,
        exponent1: dp,
        exponent2: dq,
        coefficient: qi,
        other_prime_infos: None,
    };
    key.to_der().unwrap()
}

/// The numbers of the key for the tests.
fn numbers() -> [BigUint; 8] {
    let key = RsaPrivateKey::try_from(RSA_PRIVATE).unwrap();
    [
        key.modulus,
        key.public_exponent,
        key.private_exponent,
        key.prime1,
        key.prime2,
        key.exponent1,
        key.exponent2,
        key.coefficient,
    ]
    .map(|number| BigUint::from_bytes_be(number.as_bytes()))
}

fn check_refuses(is_private: bool, key: &[u8]) {
    assert_eq!(refused(op::RSA_CHECK, [Value::Bool(is_private), bytes(key)]), "DataError");
}

#[test]
fn unsound_rsa_keys_are_refused() {
    let sound = numbers();
    assert_eq!(private_key(sound.each_ref()), RSA_PRIVATE);
    assert_eq!(run(op::RSA_CHECK, [Value::Bool(true), bytes(RSA_PRIVATE)]), Value::Null);
    assert_eq!(run(op::RSA_CHECK, [Value::Bool(false), bytes(RSA_PUBLIC)]), Value::Null);
    // Each number as it must not be.
    for at in 0..8 {
        for wrong in [&sound[at] + 2_u8, BigUint::from(0_u8), BigUint::from(1_u8)] {
            let mut numbers = sound.clone();
            numbers[at] = wrong;
            let key = private_key(numbers.each_ref());
            check_refuses(true, &key);
            assert!(rsa_sign("pkcs1", "SHA-256", &key, 0).is_err());
        }
    }
    for wrong in [&[][..], &RSA_PUBLIC[1..], &RSA_PUBLIC[..200], RSA_PRIVATE] {
        check_refuses(false, wrong);
    }
    check_refuses(true, RSA_PUBLIC);
    check_refuses(true, &[RSA_PRIVATE, &[0]].concat());
    check_refuses(true, &vec![0x30; 1 << 20]);
}

#[test]
fn rsa_keys_have_lengths() {
    let public = |bits: usize| {
        let modulus = ((BigUint::from(1_u8) << (bits - 1)) + 1_u8).to_bytes_be();
        let key = RsaPublicKey {
            modulus: UintRef::new(&modulus).unwrap(),
            public_exponent: UintRef::new(&[1, 0, 1]).unwrap(),
        };
        key.to_der().unwrap()
    };
    for bits in [1_024, 2_047, 4_096, 8_192] {
        assert_eq!(run(op::RSA_CHECK, [Value::Bool(false), bytes(public(bits))]), Value::Null);
    }
    for bits in [512, 1_023, 2_049, 8_193, 16_384] {
        check_refuses(false, &public(bits));
    }
}

#[test]
fn an_rsa_key_that_would_take_for_ever_is_refused() {
    // 3 and a large q that goes with it: e * d is 1 modulo 2 and modulo q - 1.
    let one = BigUint::from(1_u8);
    let (p, e) = (BigUint::from(3_u8), BigUint::from(3_u8));
    let q = (&one << 1_200) + 1_u8;
    assert_eq!(&q % 3_u8, BigUint::from(2_u8));
    let d = ((&q - 1_u8) * 2_u8 + 1_u8) / 3_u8;
    let n = &p * &q;
    let key = private_key([&n, &e, &d, &p, &q, &one, &(&d % (&q - 1_u8)), &BigUint::from(2_u8)]);
    check_refuses(true, &key);
    assert_eq!(rsa_sign("pkcs1", "SHA-256", &key, 0).unwrap_err().name, "DataError");
}
