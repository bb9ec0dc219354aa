use super::*;

#[test]
fn digests_are_those_of_fips_180() {
    let check = |hash: &str, digest| {
        assert_eq!(run_bytes(op::DIGEST, [hash.into(), bytes("abc")]), hex(digest), "{hash}");
    };
    check("SHA-1", "a9993e364706816aba3e25717850c26c9cd0d89d");
    check("SHA-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check(
        "SHA-384",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
         8086072ba1e7cc2358baeca134c825a7",
    );
    check(
        "SHA-512",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    );
    assert_eq!(refused(op::DIGEST, ["MD5".into(), bytes("abc")]), "TypeError");
}

#[test]
fn hmacs_are_those_of_rfc_4231() {
    // Test case 2; that of SHA-1 is in RFC 2202.
    let check = |hash: &str, mac| {
        let mac = hex(mac);
        let data = bytes("what do ya want for nothing?");
        assert_eq!(run_bytes(op::HMAC_SIGN, [hash.into(), bytes("Jefe"), data.clone()]), mac);
        let verify = |mac: &[u8]| {
            run(op::HMAC_VERIFY, [hash.into(), bytes("Jefe"), bytes(mac), data.clone()])
        };
        assert_eq!(verify(&mac), Value::Bool(true));
        assert_eq!(verify(&mac[1..]), Value::Bool(false));
        assert_eq!(verify(&[]), Value::Bool(false));
        let mut other = mac;
        other[3] ^= 1;
        assert_eq!(verify(&other), Value::Bool(false));
    };
    check("SHA-1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    check("SHA-256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(
        "SHA-384",
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e
         8e2240ca5e69e2c78b3239ecfab21649",
    );
    check(
        "SHA-512",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554
         9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    );
}

#[test]
fn hkdf_derives_as_rfc_5869() {
    let check = |hash: &str, key: &[u8], salt: &str, info: &str, length, derived| {
        let arguments = [hash.into(), bytes(key), bytes(hex(salt)), bytes(hex(info)), int(length)];
        assert_eq!(run_bytes(op::HKDF, arguments), hex(derived));
    };
    let (salt, info) = ("000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9");
    // Test cases 1, 3 and 4.
    check(
        "SHA-256",
        &[0x0b; 22],
        salt,
        info,
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    );
    check(
        "SHA-256",
        &[0x0b; 22],
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    );
    check(
        "SHA-1",
        &[0x0b; 11],
        salt,
        info,
        42,
        "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896",
    );
}

#[test]
fn hkdf_has_limits() {
    let derive = |length, info_len: usize| {
        let arguments = vec![
            "SHA-256".into(),
            bytes([1; 32]),
            bytes([]),
            Value::Bytes(vec![0; info_len]),
            int(length),
        ];
        perform(op::HKDF, arguments, &mut chance()).map(into_bytes).map_err(|refusal| refusal.name)
    };
    assert_eq!(derive(255 * 32, 0).unwrap().len(), 255 * 32);
    assert_eq!(derive(255 * 32 + 1, 0), Err("OperationError"));
    assert_eq!(derive(32, 1_000_000).unwrap().len(), 32);
    // As little to derive, from as much data in every block.
    assert_eq!(derive(255 * 32, 1_000_000), Err("OperationError"));
}

#[test]
fn pbkdf2_derives_as_rfc_6070_and_7914() {
    let check = |hash: &str, password: &str, salt: &str, iterations, length, derived| {
        let arguments = [hash.into(), bytes(password), bytes(salt), int(iterations), int(length)];
        assert_eq!(run_bytes(op::PBKDF2, arguments), hex(derived));
    };
    check("SHA-1", "password", "salt", 2, 20, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957");
    check("SHA-1", "password", "salt", 4096, 20, "4b007901b765489abead49d926f721d065a429c1");
    check(
        "SHA-1",
        "passwordPASSWORDpassword",
        "saltSALTsaltSALTsaltSALTsaltSALTsalt",
        4096,
        25,
        "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
    );
    check(
        "SHA-256",
        "passwd",
        "salt",
        1,
        64,
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc
         49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
    );
    // By OpenSSL: more than one block of SHA-512.
    check(
        "SHA-512",
        "password",
        "salt",
        3,
        70,
        "b6b07cb2cebf4ad84468391a543824fccffe0e0769dbe6bddf10a65673c4b648e612d449
         18f9ce9a19a1294cf5140628084ba994c3b21a4ef4741220b811c633cfc0641fccbc",
    );
}

#[test]
fn pbkdf2_is_refused_when_it_takes_too_long() {
    let derive = |salt_len: usize, iterations, length| {
        let salt = Value::Bytes(vec![0; salt_len]);
        ["SHA-256".into(), bytes("password"), salt, Value::Float(iterations), int(length)]
    };
    assert_eq!(refused(op::PBKDF2, derive(8, 0.0, 32)), "OperationError");
    assert_eq!(refused(op::PBKDF2, derive(8, 4_294_967_295.0, 32)), "OperationError");
    assert_eq!(refused(op::PBKDF2, derive(8, 5_000_000.0, 96)), "OperationError");
    assert_eq!(refused(op::PBKDF2, derive(8, 1.0, 2_000_000)), "OperationError");
    // Every block of the result hashes the salt.
    assert_eq!(refused(op::PBKDF2, derive(1 << 20, 1.0, 1 << 20)), "OperationError");
    assert_eq!(refused(op::PBKDF2, derive(8, 1.5, 32)), "TypeError");
    assert_eq!(refused(op::PBKDF2, derive(8, -1.0, 32)), "TypeError");
    assert_eq!(refused(op::PBKDF2, derive(8, f64::NAN, 32)), "TypeError");
}
