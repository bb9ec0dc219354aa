use super::*;

fn decode(encoding: &str, fatal: bool, keep_bom: bool, data: &[u8]) -> Value {
    run(op::DECODE, [encoding.into(), Value::Bool(fatal), Value::Bool(keep_bom), bytes(data)])
}

#[test]
fn encodings_are_decoded() {
    let check = |encoding, data, text: &str| {
        assert_eq!(decode(encoding, true, false, data), text.into(), "{encoding}");
    };
    check("windows-1252", b"caf\xe9 \x80", "café €");
    check("iso-8859-2", b"\xb1", "ą");
    check("koi8-r", b"\xf0\xf2", "ПР");
    check("shift_jis", b"\x93\xfa\x96{", "日本");
    check("euc-jp", b"\xc6\xfc", "日");
    check("iso-2022-jp", b"\x1b$BF|\x1b(B!", "日!");
    check("gb18030", b"\xc4\xe3\x81\x30\x81\x30", "你\u{80}");
    check("big5", b"\xa7A", "你");
    check("euc-kr", b"\xc7\xd1", "한");
    check("utf-16le", b"a\0\x3d\xd8\x00\xde", "a😀");
    check("utf-16be", b"\0a\xd8\x3d\xde\x00", "a😀");
    check("x-user-defined", b"a\xff", "a\u{f7ff}");
    check("utf-8", "ü".as_bytes(), "ü");
}

#[test]
fn byte_order_marks_are_kept_when_asked() {
    assert_eq!(decode("utf-16le", false, false, b"\xff\xfea\0"), "a".into());
    assert_eq!(decode("utf-16le", false, true, b"\xff\xfea\0"), "\u{feff}a".into());
    assert_eq!(decode("utf-8", false, false, b"\xef\xbb\xbfa"), "a".into());
    assert_eq!(decode("utf-8", false, true, b"\xef\xbb\xbfa"), "\u{feff}a".into());
    // Another encoding's mark is no reason to change to it.
    assert_eq!(decode("windows-1252", false, false, b"\xff\xfe"), "ÿþ".into());
}

#[test]
fn malformed_text_is_replaced_or_null() {
    for (encoding, data) in [
        ("utf-8", &b"a\xff"[..]),
        ("utf-16le", b"a\0\0"),
        ("shift_jis", b"a\x93"),
        ("big5", b"a\xff"),
    ] {
        assert_eq!(decode(encoding, false, false, data), "a\u{fffd}".into(), "{encoding}");
        assert_eq!(decode(encoding, true, false, data), Value::Null, "{encoding}");
    }
    let arguments = ["klingon".into(), Value::Bool(true), Value::Bool(true), bytes([])];
    assert_eq!(refused(op::DECODE, arguments), "TypeError");
}

#[test]
fn base64_is_encoded() {
    let encode = |data: &[u8], url| run(op::BASE64_ENCODE, [bytes(data), Value::Bool(url)]);
    assert_eq!(encode(b"", false), "".into());
    assert_eq!(encode(b"\xfb\xff", false), "+/8=".into());
    assert_eq!(encode(b"\xfb\xff", true), "-_8".into());
}

#[test]
fn base64_is_decoded_as_the_infra_standard_says() {
    let check = |text: &str, decoded: Option<&[u8]>| {
        let expected = decoded.map_or(Value::Null, bytes);
        assert_eq!(run(op::BASE64_DECODE, [text.into(), Value::Bool(false)]), expected, "{text:?}");
    };
    check("", Some(b""));
    check("YQ==", Some(b"a"));
    check("YQ", Some(b"a"));
    check(" Y\tQ\n=\x0c=\r", Some(b"a"));
    check("YR", Some(b"a"));
    check("YWI=", Some(b"ab"));
    check("YWJj", Some(b"abc"));
    check("+/+/", Some(b"\xfb\xff\xbf"));
    for wrong in
        ["Y", "YQ=", "YQ===", "Y===", "=", "==", "YQ=a", "YWJjZ", "Y-", "Y_", "Yü", "Y\x0bQ"]
    {
        check(wrong, None);
    }
}

#[test]
fn base64_is_decoded_as_by_node_when_lenient() {
    let check = |text: &str, decoded: &[u8]| {
        let found = run(op::BASE64_DECODE, [text.into(), Value::Bool(true)]);
        assert_eq!(found, bytes(decoded), "{text:?}");
    };
    check("", b"");
    check("YQ", b"a");
    check("Y*Q\u{fc}=", b"a");
    check("-_+/", b"\xfb\xff\xbf");
    check("YQ==YQ==", b"a");
    check("Y", b"");
    check("YWJjZ", b"abc");
}
