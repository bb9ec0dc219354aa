use proptest::prelude::*;

use super::*;

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

fn href(url: Value) -> Option<String> {
    let Value::Array(parts) = url else { return None };
    let Value::String(href) = &parts[0] else { panic!("{parts:?}") };
    Some(href.clone())
}

fn parse(text: &str, base: Option<&str>) -> Option<String> {
    href(run(op::URL_PARSE, [text.into(), base.map_or(Value::Null, Value::from)]))
}

#[test]
fn references_are_resolved() {
    let check = |text: &str, base: &str, expected: &str| {
        assert_eq!(parse(text, Some(base)).as_deref(), Some(expected), "{text} on {base}");
    };
    // RFC 3986, section 5.4, where browsers agree with it.
    let base = "http://a/b/c/d;p?q";
    for (text, expected) in [
        ("g:h", "g:h"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g/"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y#s", "http://a/b/c/g?y#s"),
        ("", "http://a/b/c/d;p?q"),
        ("#s", "http://a/b/c/d;p?q#s"),
        (".", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../..", "http://a/"),
        ("../../../g", "http://a/g"),
        ("./../g", "http://a/b/g"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("%2E%2e/g", "http://a/b/g"),
        ("http:g", "http://a/b/c/g"),
        ("http:///g", "http://g/"),
    ] {
        check(text, base, expected);
    }
    check("////g", "http://a/b", "http://g/");
    check("\\\\g", "http://a/b", "http://g/");
    check("#s", "data:x,y?z", "data:x,y?z#s");
    check("C|/x", "file://host/D:/y", "file://host/C:/x");
    check("/x", "file://host/D:/y", "file://host/D:/x");
    check("..", "file:///C:/", "file:///C:/");
    check("//host/x", "file:///y", "file://host/x");
    check("..", "abc://x/y/C:/", "abc://x/y/");
    assert_eq!(parse("x", Some("data:x")), None);
    assert_eq!(parse("x", Some("no URL")), None);
}

#[test]
fn odd_urls_are_parsed() {
    let check = |text: &str, expected: &str| {
        assert_eq!(parse(text, None).as_deref(), Some(expected), "{text}");
    };
    check("  \u{1}http://a\n/b\tc ", "http://a/bc");
    check("http:a", "http://a/");
    check("http://a@b@c:80/", "http://a%40b@c/");
    check("http://:@h/", "http://h/");
    check("http://h:/", "http://h/");
    check("http://h:00080/", "http://h/");
    check("http://[::FFFF:1.2.3.4]:8/", "http://[::ffff:102:304]:8/");
    check("http://0x7f.1/", "http://127.0.0.1/");
    check("http://%41.example/", "http://a.example/");
    check("file:////x", "file:////x");
    check("file://localhost/C|/../x", "file:///C:/x");
    check("non-special:x  ?y", "non-special:x %20?y");
    check("non-special://H%20\u{e9}/\u{e9}", "non-special://H%20%C3%A9/%C3%A9");
    check("non-special:///", "non-special:///");
    check("http://h/'?'#'", "http://h/'?%27#'");
    check("x://h/'?'#'", "x://h/'?'#'");
    for wrong in ["http://@/", "x://a@/", "x://:8/", "http://h:65536/", "http://h:8x/", "1x:", "x"]
    {
        assert_eq!(parse(wrong, None), None, "{wrong}");
    }
}

/// Texts of the characters that mean something.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "/",
        "\\",
        ":",
        "@",
        "?",
        "#",
        ".",
        "..",
        "%2e",
        "//",
        "a",
        "b",
        "C:",
        "c|",
        "[::1]",
        "[",
        "]",
        "1",
        "80",
        "443",
        "\u{e9}",
        "%",
        "%41",
        " ",
        "\t",
        "|",
        "localhost",
        "x:",
        "file:",
        "http:",
        "https://",
        "ws://",
        "'",
        "^",
    ]);
    let scheme =
        prop::sample::select(vec!["", "http://", "https://h/", "file:", "x:", "x://", "x:/"]);
    (scheme, prop::collection::vec(piece, 0..9))
        .prop_map(|(scheme, pieces)| scheme.to_owned() + &pieces.concat())
}

const PROPERTIES: [&str; 9] =
    ["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// What is written is read as the same URL, and by the `url` crate too: it is what looks
    /// at the destination of a fetch.
    #[test]
    fn a_url_stays_as_it_is_written(
        text in texts(),
        base in prop::option::of(texts()),
        changes in prop::collection::vec((prop::sample::select(PROPERTIES.to_vec()), texts()), 0..4),
    ) {
        let base = base.and_then(|base| parse(&base, None));
        let Some(mut url) = parse(&text, base.as_deref()) else { return Ok(()) };
        for (property, text) in changes {
            // The standard's one exception: "localhost", a host elsewhere, is none for files.
            if property == "protocol" && text.starts_with("file") {
                continue;
            }
            let set = run(op::URL_SET, [url.as_str().into(), property.into(), text.as_str().into()]);
            prop_assert_eq!(href(set.clone()), parse(&href(set.clone()).unwrap(), None));
            url = href(set).unwrap();
        }
        prop_assert!(url.is_ascii());
        prop_assert_eq!(parse(&url, None), Some(url.clone()));
        if ["http:", "https:", "ws:", "wss:"].iter().any(|scheme| url.starts_with(scheme)) {
            prop_assert_eq!(String::from(::url::Url::parse(&url).unwrap()), url);
        }
    }

    #[test]
    fn any_text_is_a_url_or_none(text in ".{0,40}", base in "[a-z]{1,5}:.{0,20}") {
        parse(&text, Some(&base));
        parse(&base, None);
    }
}
