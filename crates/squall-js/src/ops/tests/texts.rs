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

/// What `ops.ts` calls a parsed URL.
fn parsed(href: &str, offsets: [i32; 8]) -> Value {
    let offsets = offsets.into_iter().map(Value::Int);
    Value::Array([Value::from(href)].into_iter().chain(offsets).collect())
}

#[test]
fn urls_are_parsed_into_their_places() {
    let check = |text: &str, base: Option<&str>, href: &str, offsets| {
        let base = base.map_or(Value::Null, Value::from);
        assert_eq!(run(op::URL_PARSE, [text.into(), base]), parsed(href, offsets), "{text}");
    };
    // As the test host over Node.js gives them.
    check(
        "HTTPS://user:pass@EXAMPLE.com:8080/a/../b?q#f",
        None,
        "https://user:pass@example.com:8080/b?q#f",
        [6, 12, 18, 29, 8080, 34, 36, 38],
    );
    check("https://example.com:443", None, "https://example.com/", [6, 8, 8, 19, -1, 19, -1, -1]);
    check("//h/x?", Some("http://a/b"), "http://h/x?", [5, 7, 7, 8, -1, 8, 10, -1]);
    check("#", Some("http://a/b?c"), "http://a/b?c#", [5, 7, 7, 8, -1, 8, 10, 12]);
    check("data:text/plain,x#y", None, "data:text/plain,x#y", [5, 5, 5, 5, -1, 5, -1, 17]);
    check("file:///x", None, "file:///x", [5, 7, 7, 7, -1, 7, -1, -1]);
    check("web+demo:/.//p", None, "web+demo:/.//p", [9, 9, 9, 9, -1, 11, -1, -1]);
    check(
        "http://ü.example/é",
        None,
        "http://xn--tda.example/%C3%A9",
        [5, 7, 7, 22, -1, 22, -1, -1],
    );
    for wrong in ["", "x", "http://", "http://a b/", "http://[1]/", "http://a:99999/"] {
        assert_eq!(run(op::URL_PARSE, [wrong.into(), Value::Null]), Value::Null, "{wrong}");
    }
    assert_eq!(run(op::URL_PARSE, ["x".into(), "mailto:a@b".into()]), Value::Null);
}

#[test]
fn parts_of_urls_are_set() {
    let check = |property: &str, text: &str, href: &str| {
        let arguments = ["https://u:p@h.example:8/p?q#f".into(), property.into(), text.into()];
        let Value::Array(values) = run(op::URL_SET, arguments) else { panic!("{property}") };
        assert_eq!(values[0], href.into(), "{property}");
    };
    check("protocol", "http", "http://u:p@h.example:8/p?q#f");
    check("protocol", "mailto", "https://u:p@h.example:8/p?q#f");
    check("username", "ü", "https://%C3%BC:p@h.example:8/p?q#f");
    check("password", "", "https://u@h.example:8/p?q#f");
    check("host", "x:9", "https://u:p@x:9/p?q#f");
    check("hostname", "x", "https://u:p@x:8/p?q#f");
    check("port", "443", "https://u:p@h.example/p?q#f");
    check("port", "x", "https://u:p@h.example:8/p?q#f");
    check("pathname", "a b", "https://u:p@h.example:8/a%20b?q#f");
    check("search", "", "https://u:p@h.example:8/p#f");
    check("hash", "é", "https://u:p@h.example:8/p?q#%C3%A9");
    assert_eq!(refused(op::URL_SET, ["http://h/".into(), "href".into(), "x".into()]), "TypeError");
    assert_eq!(refused(op::URL_SET, ["no".into(), "hash".into(), "x".into()]), "TypeError");
}
