use super::*;

const SMALLEST: &str = r#"
name = "hello"

[functions.api]
component = "api.wasm"
routes = ["/*"]
"#;

#[track_caller]
fn check_error(text: &str, says: &str) -> ManifestError {
    let error = Manifest::parse(text).expect_err("this manifest is wrong");
    assert!(error.message.contains(says), "{:?} does not say {says:?}", error.message);
    error
}

#[test]
fn the_smallest_manifest_has_sane_defaults() {
    let manifest = Manifest::parse(SMALLEST).unwrap();
    let api = &manifest.functions["api"];
    assert_eq!(api.instances, InstanceMode::PerRequest);
    assert_eq!(api.limits, Limits::default());
    assert!(api.allowed_hosts.is_empty() && !api.allow_private);
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion_and_a_position() {
    let error = check_error(&SMALLEST.replace("routes", "rutes"), "did you mean `routes`?");
    assert_eq!(error.position.map(|(line, _)| line), Some(6));
    check_error(
        &format!("{SMALLEST}\n[functions.api.limits]\nmemory_byte = 1\n"),
        "did you mean `memory_bytes`?",
    );
    check_error(&format!("zebra = 1\n{SMALLEST}"), "the keys here are");
}

#[test]
fn contradictions_are_refused() {
    check_error("name = \"x\"", "neither functions nor assets");
    check_error(&SMALLEST.replace("/*", "api"), "is not a path");
    check_error(&SMALLEST.replace("/*", "/a/../b"), "dot segments");
    check_error(&SMALLEST.replace("api.wasm", "../api.wasm"), "inside the manifest's folder");
    check_error(&SMALLEST.replace("hello", "Hello"), "a-z");
    check_error(&format!("{SMALLEST}allowed_hosts = [\"https://x.y\"]"), "without scheme");
    check_error(
        &format!("{SMALLEST}[functions.b]\ncomponent = \"b.wasm\"\nroutes = [\"/*\"]"),
        "claimed by functions.api and by functions.b",
    );
    check_error(&format!("{SMALLEST}limits.wall_time_ms = 0"), "is 0");
}

#[test]
fn allowed_hosts_take_names_wildcards_ports_and_addresses() {
    for good in
        ["*", "api.example.com", "*.example.com", "localhost:3000", "127.0.0.1:9", "[::1]:9"]
    {
        let text = format!("{SMALLEST}allowed_hosts = [{good:?}]");
        Manifest::parse(&text).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[test]
fn a_manifest_survives_a_round_trip_through_json() {
    let manifest = Manifest::parse(SMALLEST).unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
}

#[test]
fn the_schema_names_every_key() {
    let schema = Manifest::json_schema().to_string();
    for key in ["memory_bytes", "allowed_hosts", "fall_through", "cache_control", "per-request"] {
        assert!(schema.contains(key), "{key}");
    }
}

#[test]
fn contradictions_have_a_place_where_a_key_is_to_blame() {
    let text = r#"name = "shop"
[upstreams.users]
targets = ["http://10.0.0.1"]
[[routes]]
name = "user"
paths = ["/users"]
upstream = "users"
[[routes]]
response = { status = 410 }
"#;
    let place = |change: (&str, &str)| {
        assert!(text.contains(change.0));
        Manifest::parse(&text.replace(change.0, change.1)).unwrap_err().position.unwrap()
    };
    assert_eq!(place(("http://10.0.0.1", "10.0.0.1")), (3, 1));
    assert_eq!(place(("\"/users\"", "\"users\"")), (6, 1));
    assert_eq!(place(("status = 410", "status = 1")), (9, 14));
    // The key is missing: the table that lacks it.
    assert_eq!(place(("upstream = \"users\"\n", "")), (4, 1));
    assert_eq!(place(("response = { status = 410 }", "")), (8, 1));
    // Nothing in particular.
    let nowhere = Manifest::parse("name = \"shop\"").unwrap_err();
    assert_eq!(nowhere.position, None);
}

#[test]
fn what_the_document_s_shape_lacks_names_its_key() {
    let says = |text: &str| {
        let error = Manifest::parse(&format!("name = \"shop\"\n{text}")).unwrap_err();
        let (line, column) = error.position.unwrap();
        format!("{line}:{column}: {}", error.message)
    };
    let cases = [
        (
            "[[routes]]\nname = 5\npaths = [\"/x\"]",
            "3:8: routes[1].name: invalid type: integer `5`, expected a string",
        ),
        (
            "[[routes]]\nname = \"user\"\nresponse = { status = \"200\" }",
            "4:23: routes.user.response.status: invalid type: string \"200\", expected a whole number from 0 to 65535",
        ),
        ("[[routes]]\nname = \"user\"\nweight = 1", "4:1: routes.user: unknown key `weight`; the"),
        (
            "[routes]\nname = \"user\"",
            "2:1: routes: is a list of tables; write [[routes]] for each",
        ),
        (
            "[identity.staff]\n[[routes]]\npaths = [\"/x\"]",
            "2:1: identity.staff: lacks its kind; it is a table of its own, such as [identity.staff.api_key]",
        ),
        (
            "[identity.staff.api_key]\n[identity.staff.basic]",
            "2:11: identity.staff: has more than one kind; give each a name of its own",
        ),
        (
            "[identity.staff.jwt]\naudience = [\"a\"]",
            "2:1: identity.staff.jwt: missing field `issuer`",
        ),
        (
            "upstreams.x.balance = \"best\"",
            "2:23: upstreams.x.balance: unknown variant `best`, expected one of `round-robin`",
        ),
        (
            "[[gateway]]\npolicy = {}",
            "2:1: gateway: is a table, not a list; write [gateway] once, with keys",
        ),
        (
            "upstreams.users.timeouts = [60]",
            "2:28: upstreams.users.timeouts: is a table, not a list",
        ),
        ("[identity.staff]\napi_key = []", "3:11: identity.staff.api_key: is a table, not a list"),
        (
            "[[routes]]\npaths = [\"/x\"]\nsplit = [[\"a\", 1]]",
            "4:10: routes[1].split: is a table, not a list",
        ),
        ("hosts = [1]", "2:10: hosts: invalid type: integer `1`, expected a string"),
        ("env = \"a", "2:9: invalid basic string, expected `\"`"),
        ("name = \"b\"", "2:1: duplicate key"),
    ];
    for (text, expected) in cases {
        let said = says(text);
        assert!(said.starts_with(expected), "{text}\n{said}\n{expected}");
    }
}
