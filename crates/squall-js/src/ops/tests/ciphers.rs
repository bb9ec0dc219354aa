use proptest::prelude::*;

use super::*;

#[test]
fn cbc_encrypts_as_nist_sp_800_38a() {
    let iv = hex("000102030405060708090a0b0c0d0e0f");
    let data = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    // F.2.1, F.2.3 and F.2.5, and a block of padding by OpenSSL.
    let check = |key, encrypted| {
        let (key, encrypted) = (bytes(hex(key)), hex(encrypted));
        let arguments = [key.clone(), bytes(&iv), bytes(&data)];
        assert_eq!(run_bytes(op::AES_CBC_ENCRYPT, arguments), encrypted);
        let arguments = [key, bytes(&iv), bytes(encrypted)];
        assert_eq!(run_bytes(op::AES_CBC_DECRYPT, arguments), data);
    };
    check(
        "2b7e151628aed2a6abf7158809cf4f3c",
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2
         73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7
         8cb82807230e1321d3fae00d18cc2012",
    );
    check(
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a
         571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd
         612ccd79224b350935d45dd6a98f8176",
    );
    check(
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d
         39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b
         3f461796d6b0d6b2e0c2a72b4d80e644",
    );
}

#[test]
fn cbc_refuses_what_it_can_not_decrypt() {
    let decrypt =
        |data: &[u8]| refused(op::AES_CBC_DECRYPT, [bytes([1; 16]), bytes([2; 16]), bytes(data)]);
    assert_eq!(decrypt(&[]), "OperationError");
    assert_eq!(decrypt(&[0; 15]), "OperationError");
    assert_eq!(decrypt(&[0; 32]), "OperationError");
    for (key_len, iv_len) in [(0, 16), (15, 16), (17, 16), (16, 0), (16, 12), (16, 17)] {
        let arguments =
            [Value::Bytes(vec![1; key_len]), Value::Bytes(vec![2; iv_len]), bytes([0; 16])];
        assert_eq!(refused(op::AES_CBC_ENCRYPT, arguments.clone()), "TypeError");
        assert_eq!(refused(op::AES_CBC_DECRYPT, arguments), "TypeError");
    }
}

#[test]
fn gcm_seals_as_its_specification() {
    // McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 4 to 6, 10 and 16.
    let key = "feffe9928665731c6d6a8f9467308308";
    let data = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let additional = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let check = |key: &str, nonce, sealed| {
        check_gcm(&hex(key), &hex(nonce), &data, &additional, &hex(sealed))
    };
    check(
        key,
        "cafebabefacedbaddecaf888",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
         5bc94fbc3221a5db94fae95ae7121a47",
    );
    check(
        key,
        "cafebabefacedbad",
        "61353b4c2806934a777ff51fa22a4755699b2a714fcdc6f83766e5f97b6c7423
         73806900e49f24b22b097544d4896b424989b5e1ebac0f07c23f4598
         3612d2e79e3b0785561be14aaca2fccb",
    );
    check(
        key,
        "9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728
         c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b",
        "8ce24998625615b603a033aca13fb894be9112a5c3a211a8ba262a3cca7e2ca7
         01e4a9a4fba43c90ccdcb281d48c7c6fd62875d2aca417034c34aee5
         619cc5aefffe0bfa462af43c1699d050",
    );
    check(
        "feffe9928665731c6d6a8f9467308308feffe9928665731c",
        "cafebabefacedbaddecaf888",
        "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c
         7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710
         2519498e80f1478f37ba55bd6d27618c",
    );
    check(
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
         76fc6ece0f4e1768cddf8853bb2d551b",
    );
}

#[test]
fn the_counter_of_gcm_begins_anew_behind_its_last_value() {
    // A nonce that was computed so that the first counter is fffffffe; sealed by OpenSSL.
    let sealed = hex("0efd8c685ba4937973fa23b65b24a81994995196c0e92f71ea041508b1a235c5
         f0c4014dffc0279414044f5f0725732e6fbdbae110ae4053f37ac2743b458642
         3890c2f9287342aaf827db9248dbc78d53dcdbb26983dcd14ffd490b797d4ef2
         df27d2e28a990ebe602175d7b2620b3f5f05ad94");
    let data: Vec<u8> = (0..100).collect();
    let nonce = hex("7aefb2a1276c674c995d8175b1000d4b");
    check_gcm(&hex("feffe9928665731c6d6a8f9467308308"), &nonce, &data, &[], &sealed);
}

/// Both ways, and with every tag that is shorter.
fn check_gcm(key: &[u8], nonce: &[u8], data: &[u8], additional: &[u8], sealed: &[u8]) {
    for tag in [4, 8, 12, 13, 14, 15, 16] {
        let sealed = &sealed[..data.len() + tag];
        let arguments =
            |data: &[u8]| [bytes(key), bytes(nonce), bytes(data), bytes(additional), int(tag)];
        assert_eq!(run_bytes(op::AES_GCM_ENCRYPT, arguments(data)), sealed);
        assert_eq!(run_bytes(op::AES_GCM_DECRYPT, arguments(sealed)), data);
        for at in [0, data.len() - 1, data.len(), sealed.len() - 1] {
            let mut other = sealed.to_vec();
            other[at] ^= 0x40;
            assert_eq!(refused(op::AES_GCM_DECRYPT, arguments(&other)), "OperationError");
        }
        assert_eq!(refused(op::AES_GCM_DECRYPT, arguments(&sealed[..tag - 1])), "OperationError");
    }
}

#[test]
fn gcm_has_tags_and_keys_of_some_lengths_only() {
    let arguments =
        |key_len, tag| [Value::Bytes(vec![0; key_len]), bytes([]), bytes([]), bytes([]), tag];
    for tag in [int(0), int(3), int(5), int(11), int(17), int(128), Value::Int(-4), Value::Null] {
        assert_eq!(refused(op::AES_GCM_ENCRYPT, arguments(16, tag.clone())), "TypeError");
        assert_eq!(refused(op::AES_GCM_DECRYPT, arguments(16, tag)), "TypeError");
    }
    assert_eq!(refused(op::AES_GCM_ENCRYPT, arguments(20, int(16))), "TypeError");
    assert_eq!(refused(op::AES_GCM_DECRYPT, arguments(0, int(16))), "TypeError");
    assert_eq!(run_bytes(op::AES_GCM_ENCRYPT, arguments(16, int(16))).len(), 16);
}

proptest! {
    #[test]
    fn what_is_encrypted_is_decrypted(
        key in prop::sample::select(vec![16, 24, 32]),
        nonce in prop::collection::vec(any::<u8>(), 0..40),
        data in prop::collection::vec(any::<u8>(), 0..200),
        additional in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let key = Value::Bytes(vec![0x55; key]);
        let gcm = |data: &[u8]| {
            [key.clone(), bytes(&nonce), bytes(data), bytes(&additional), int(16)]
        };
        let sealed = run_bytes(op::AES_GCM_ENCRYPT, gcm(&data));
        prop_assert_eq!(&run_bytes(op::AES_GCM_DECRYPT, gcm(&sealed)), &data);
        let cbc = |data: &[u8]| [key.clone(), bytes([0xaa; 16]), bytes(data)];
        let encrypted = run_bytes(op::AES_CBC_ENCRYPT, cbc(&data));
        prop_assert_eq!(run_bytes(op::AES_CBC_DECRYPT, cbc(&encrypted)), data);
    }
}
