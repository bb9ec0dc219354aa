//! What a guest may send that the web layer never would.

use proptest::prelude::*;

use super::*;

/// All numbers of operations that exist, and some that do not.
fn operations() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 30..160_u32, 1 => any::<u32>()]
}

/// Values that come near to what operations expect.
fn arguments() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "SHA-1",
        "SHA-256",
        "SHA-384",
        "SHA-512",
        "P-256",
        "P-384",
        "pkcs1",
        "pss",
        "brotli",
        "deflate",
        "deflate-raw",
        "gzip",
        "utf-8",
        "utf-16le",
        "big5",
        "replacement",
        "hash",
        "hostname",
        "http://u:p@h:1/p?q#f",
        "mailto:x",
        "",
        "YQ==",
        "\u{1f600}",
    ]);
    // Lengths of keys, nonces, points, signatures and blocks.
    let length = prop::sample::select(vec![
        0, 1, 12, 16, 20, 24, 32, 33, 48, 49, 64, 65, 96, 97, 270, 1_191, 70_000,
    ]);
    let keys = prop::sample::select(vec![
        include_bytes!("../testdata/rsa-2048-private.der").to_vec(),
        include_bytes!("../testdata/rsa-2048-public.der").to_vec(),
        // Of small order on Ed25519's curve; the point at infinity; the order of P-256.
        [vec![1], vec![0; 31]].concat(),
        vec![0],
        hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
        hex("1f0900f8270082840000"),
    ]);
    let leaf = prop_oneof![
        3 => names.prop_map(Value::from),
        3 => (length, any::<u8>()).prop_map(|(length, byte)| Value::Bytes(vec![byte; length])),
        2 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Value::Bytes),
        2 => keys.prop_map(Value::Bytes),
        3 => (-3..40_i32).prop_map(Value::Int),
        // Without lengths that RSA_GENERATE takes: it has a test of its own.
        1 => prop_oneof![any::<i32>(), Just(i32::MAX), Just(i32::MIN)]
            .prop_filter("a length of a modulus", |number| !(2_048..=4_096).contains(number))
            .prop_map(Value::Int),
        1 => any::<f64>().prop_map(Value::Float),
        3 => any::<bool>().prop_map(Value::Bool),
        1 => Just(Value::Null),
        1 => Just(Value::Undefined),
        1 => ".{0,20}".prop_map(Value::String),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::Array))
}

/// What the program can see: an exception that JavaScript knows, with words.
fn check_refusal(result: Result<Value, Refusal>) {
    let Err(refusal) = result else { return };
    let names = ["TypeError", "RangeError", "DataError", "OperationError", "NotSupportedError"];
    assert!(names.contains(&refusal.name), "{refusal:?}");
    assert!(!refusal.message.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_arguments_are_worked_on_or_refused(
        operation in operations(),
        values in prop::collection::vec(arguments(), 0..8),
    ) {
        check_refusal(perform(operation, values, &mut chance()));
    }

    #[test]
    fn any_use_of_streams_is_accounted_for(
        steps in prop::collection::vec(
            (40..53_u32, 0..3_u32, prop::collection::vec(arguments(), 0..5), any::<bool>()),
            0..30,
        ),
    ) {
        let bytes_max = 24 << 20;
        let mut streams = Streams::new(bytes_max);
        let mut away = Vec::new();
        for (operation, request, values, elsewhere) in steps {
            if elsewhere {
                match streams.begin_write(operation, values) {
                    Ok(write) => away.push(write),
                    Err(refusal) => check_refusal(Err(refusal)),
                }
            } else {
                check_refusal(streams.perform(request, operation, values));
            }
            if operation == 52 {
                streams.end_request(request);
                away.pop().map(|write| streams.end_write(write.run()));
            }
            prop_assert!(streams.bytes() <= bytes_max);
            prop_assert!(streams.count() > 0 || streams.bytes() == 0);
        }
        for write in away {
            check_refusal(streams.end_write(write.run()));
        }
        (0..3).for_each(|request| streams.end_request(request));
        prop_assert_eq!((streams.count(), streams.bytes()), (0, 0));
    }
}

#[test]
fn a_call_is_refused_where_it_would_hold_up_a_core() {
    let short = 100;
    // What is only started in `ops.ts`.
    for operation in [
        op::PBKDF2,
        op::RSA_GENERATE,
        op::RSA_CHECK,
        op::RSA_SIGN,
        op::RSA_VERIFY,
        op::EC_GENERATE,
        op::ECDSA_SIGN,
        op::ECDSA_VERIFY,
    ] {
        assert!(!may_be_called(operation, short));
        assert!(is_for_another_thread(operation, short));
    }
    // What is `either`.
    for operation in
        (op::DIGEST..=op::AES_GCM_DECRYPT).chain([op::ED25519_SIGN, op::ED25519_VERIFY])
    {
        check_either(operation, 65_536);
    }
    check_either(op::COMPRESSION_WRITE, 16_384);
    // What is only called.
    for operation in [op::DECODE, op::DECODER_WRITE, op::BASE64_DECODE, op::URL_PARSE, op::HKDF] {
        assert!(may_be_called(operation, 100 << 20));
        assert!(!is_for_another_thread(operation, short));
    }
}

/// With data of the length that the web layer still calls with.
fn check_either(operation: u32, data_len: usize) {
    let message_len = |data_len| {
        let mut message = Vec::new();
        let data = Value::Bytes(vec![0; data_len]);
        Value::Array(vec![Value::Int(1), data, Value::Bool(true)]).encode(&mut message);
        message.len()
    };
    assert!(may_be_called(operation, message_len(data_len)));
    assert!(!is_for_another_thread(operation, 1_000));
    assert!(is_for_another_thread(operation, message_len(data_len + 1)));
    assert!(!may_be_called(operation, message_len(200_000)));
}
