use crate::manifest::Manifest;

const SHOP: &str = r#"
name = "shop"
hosts = ["shop.example.com", "*.shop.example.com"]

[gateway]
revision_header = "x-revision"
sticky = { cookie = "side" }

[gateway.policy]
https = "redirect"
hsts = { max_age_s = 31536000 }
auth = ["partners", "main"]
rate_limits = [{ limit = 100, per = "second" }]
access_log = { sample = 0.1 }

[identity.partners.api_key]

[identity.main.jwt]
issuer = "https://id.example.com"
audience = ["shop"]

[identity.staff.basic]
users = { alice = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc" }

[plans.gold]
rate_limits = [{ limit = 10, per = "second", by = ["client"] }]
requests_per_day = 100000

[upstreams.users]
targets = ["http://10.0.0.1:8080", { url = "http://10.0.0.2:8080", weight = 2 }]
allow_private = true
balance = "hash"
hash_on = "header:x-tenant"
health = { path = "/healthz" }

[[routes]]
name = "user"
paths = ["/users/{id}"]
methods = ["GET"]
headers = { x-beta = "*", x-kind = { regex = "a|b" } }
query = { v = "2" }
upstream = "users"
rewrite = { path = "/v2/users/{id}" }
request_headers = { set = { x-from = "gateway" }, remove = ["cookie"] }
policy = { scopes = ["users:read"], cors = { origins = ["https://app.example.com"] } }

[[routes]]
paths = ["/old/*"]
redirect = { prefix = "/new", status = 308 }

[[routes]]
path_regex = "/img/(?P<name>[a-z]+)\\.png"
response = { status = 410, body = "gone" }
policy = { auth = [], compression = {} }

[[routes]]
split = [{ upstream = "users", weight = 9 }, { upstream = "users", weight = 1 }]
sticky = { header = "x-user" }
"#;

#[test]
fn a_gateway_without_functions_is_an_app() {
    let manifest = Manifest::parse(SHOP).unwrap();
    assert_eq!(manifest.routes.len(), 4);
    let again: Manifest = toml::from_str(&toml::to_string(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
}

#[test]
fn a_route_s_policy_takes_the_place_of_the_app_s_one_by_one() {
    let manifest = Manifest::parse(SHOP).unwrap();
    let app = &manifest.gateway.policy;
    let merged = manifest.routes[2].policy.over(app);
    assert_eq!(merged.auth.as_deref(), Some(&[][..]));
    assert_eq!(merged.rate_limits, app.rate_limits);
    assert!(merged.compression.is_some());
}

#[track_caller]
fn refused(change: (&str, &str), expected: &str) {
    let (from, to) = change;
    assert!(SHOP.contains(from), "{from}");
    let error = Manifest::parse(&SHOP.replacen(from, to, 1)).unwrap_err();
    assert!(error.message.contains(expected), "{}: {}", to, error.message);
}

#[test]
fn what_can_not_work_is_refused_with_its_place_and_the_fix() {
    refused(("upstream = \"users\"\nrewrite", "upstream = \"user\"\nrewrite"), "[upstreams.user]");
    refused(("[\"partners\", \"main\"]", "[\"nobody\"]"), "[identity.nobody]");
    refused(("\"/users/{id}\"]", "\"users\"]"), "is not a path");
    refused(("/v2/users/{id}", "/v2/{name}"), "{name} is no parameter");
    refused(("regex = \"a|b\"", "regex = \"a(\""), "routes.user.headers.x-kind.regex");
    refused(("methods = [\"GET\"]", "methods = [\"get\"]"), "not a method");
    refused(("hash_on = \"header:x-tenant\"", ""), "hash_on is missing");
    refused(("header:x-tenant", "header:a b"), "upstreams.users.hash_on");
    refused(("header:x-tenant", "cookie:a b"), "upstreams.users.hash_on");
    refused(("\"x-revision\"", "\"host\""), "gateway.revision_header");
    let by_plan = "per = \"second\", by = [\"header:X-Squall-Plan\"]";
    refused(("per = \"second\"", by_plan), "what the caller wrote; count by \"client\"");
    refused(("header = \"x-user\"", "header = \"x-squall-client\""), "keep callers by a cookie");
    refused(("[\"shop\"]", "[\"shop\", \"\"]"), "identity.main.jwt.audience");
    refused(("[\"shop\"]", "[\"shop\"]\nscopes_claim = \"\""), "identity.main.jwt.scopes_claim");
    refused(("users = { alice", "scopes = [\"a b\"]\nusers = { alice"), "\"a b\" is no scope");
    refused(("status = 308", "port = 0"), "redirect.port must be at least 1");
    refused(
        ("health = {", "timeouts = { total_ms = 0 }\nhealth = {"),
        "users.timeouts.total_ms must be at least 1",
    );
    refused(
        ("policy = { scopes", "policy = { timeouts = { response_ms = 0 }, scopes"),
        "routes.user.policy.timeouts.response_ms must be at least 1",
    );
    refused(("status = 308", "status = 200"), "301, 302");
    refused(("status = 410", "status = 101"), "200 to 599");
    refused(("status = 410", "status = 205"), "has no body");
    refused(("x-from = \"gateway\"", "host = \"a\""), "rewrite.host");
    refused(("x-from = \"gateway\"", "x-squall-client = \"a\""), "set by the gateway");
    refused(("audience = [\"shop\"]", "audience = []"), "audience is empty");
    refused(("https://id.example.com", "http://id.example.com"), "https URL");
    refused(("audience = [\"shop\"]", "audience = [\"shop\"]\nleeway_s = 3600"), "more than 600");
    refused(("c29tZXNhbHQ$", "c29tZXNhbHQ"), "hash-password");
    refused(("alice =", "\"al:ice\" ="), "no colons");
    refused(("[\"users:read\"]", "[\"users:read users:write\"]"), "one word");
    refused(("{ scopes = [", "{ auth = [], scopes = ["), "auth is empty");
    refused(
        ("[identity.partners.api_key]", "[identity.partners.api_key]\nheader = \"Authorization\""),
        "x-api-key",
    );
    for header in ["Host", "cookie", "content-length", "x-squall-client", "X-Forwarded-For"] {
        let to = format!("[identity.partners.api_key]\nheader = {header:?}");
        refused(("[identity.partners.api_key]", &to), "identity.partners.api_key.header");
    }
    refused(("sample = 0.1", "sample = 2.0"), "from 0 to 1");
    refused(("limit = 100", "limit = 0"), "at least 1");
    refused(("name = \"user\"", "name = \"assets\""), "routes.assets: two routes are named assets");
    refused(("limit = 100", "limit = 1000001"), "at most 1000000");
    refused(("limit = 100", "burst = 4000000000, limit = 100"), "more than a year");
    let twice = "rate_limits = [{ limit = 1, per = \"day\" }, { limit = 100";
    refused(("rate_limits = [{ limit = 100", twice), "two are named \"default\"");
    refused(("limit = 100", "by = [\"ip\", \"ip\"], limit = 100"), "names ip twice");
    refused(("limit = 100", "name = \"a b\", limit = 100"), "letters, digits");
    refused(("by = [\"client\"]", "by = [\"ip\"]"), "does not count by \"client\"");
    refused(("requests_per_day = 100000", "requests_per_day = 0"), "at least 1");
    refused(("by = [\"client\"]", "by = [\"cookie\"]"), "nothing to count by");
    refused(("prefix = \"/new\"", "prefix = \"/new\", path = \"/x\""), "path and prefix");
    refused(("weight = 2", "weight = 0"), "from 1 to 1000");
    refused(("weight = 9 }", "weight = 4294967295 }"), "sum of all weights");
    for target in
        ["10.0.0.1:99999", "10.0.0.1:80x", "10.0.0.1:-5", "10.0.0.1:0", ":80", "a/#b", "a/%zz"]
    {
        refused(("10.0.0.1:8080", target), "is not a base URL");
    }
    for path in ["/a HTTP/1.1\\r\\nX-Evil: 1", "/a b", "healthz", "/a#b", "/é"] {
        refused(("/healthz", path), "upstreams.users.health.path");
    }
    refused(("\"/old/*\"", "\"/caf%c3%a9/*\""), "routes[2].paths");
    refused(("/v2/users/{id}", "/v2/a<b/{id}"), "is not a path, percent-encoded");
    refused(("/v2/users/{id}", "/v2/../{id}"), "dot segments");
    refused(("body = \"gone\"", "headers = { content-length = \"3\" }"), "set by the gateway");
    refused(("x-from = \"gateway\"", "proxy-connection = \"a\""), "set by the gateway");
    refused(("x-kind =", "x-squall-plan ="), "what the caller wrote; ask for scopes");
    refused(("name = \"user\"", "name = \"\\u001b[2J\""), "is no name");
    refused(("[plans.gold]", "[plans.\"\"]"), "is no name");
    refused(("regex = \"a|b\"", "regex = \"a)|(?:b\""), "routes.user.headers.x-kind.regex");
    refused(("methods = [\"GET\"]", "method = [\"GET\"]"), "did you mean `methods`");
    refused(("redirect = {", "assets = true\nredirect = {"), "one of them");
    refused(("issuer = ", "issuers = "), "unknown key `issuers`");
}

#[test]
fn files_are_not_served_to_everybody_where_scopes_are_asked_for() {
    let text = "name = \"files\"\n[assets]\ndir = \"public\"\n[gateway.policy]\nscopes = [\"a\"]\n";
    let error = Manifest::parse(text).unwrap_err();
    assert!(error.message.starts_with("gateway.policy asks for scopes"), "{}", error.message);
    let known = "auth = [\"keys\"]\n[identity.keys.api_key]\n";
    Manifest::parse(&format!("{text}{known}")).unwrap();
}

#[test]
fn expressions_are_read_as_they_would_be_alone() {
    for (pattern, value, matches) in [
        ("a|b", "ab", false),
        ("(?i)/straße", "/STRASSE", false),
        ("(?i)/api", "/API", true),
        ("(?x) /a # the way in", "/a", true),
        ("a$|^b", "b", true),
    ] {
        let regex = super::compile_regex(pattern).unwrap();
        assert_eq!(regex.is_match(value), matches, "{pattern}");
    }
    assert!(super::compile_regex("/a)|(?:/b").is_err());
}
