//! Nothing that a caller can say, and that is not part of the key, changes what others get.

use bytes::Bytes;

use super::{Reply, Seen, ask, front, get, numbered, status};
use crate::harness::request;

/// An origin that puts whatever it is told into its answer.
fn reflecting(seen: &Seen) -> Reply {
    let mut told: Vec<String> = seen
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "traceparent" | "x-request-id" | "user-agent"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    told.sort();
    Reply::new(200, format!("{} {}\n{}", seen.method, seen.path, told.join("\n")))
        .with("cache-control", "max-age=60")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_outside_of_the_key_do_not_reach_what_others_get() {
    let (node, _origin) = front("", reflecting).await;
    for (number, (name, value)) in [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-scheme", "evil"),
        ("x-forwarded-proto", "evil"),
        ("x-forwarded-port", "6666"),
        ("x-forwarded-server", "evil.example"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-for", "evil"),
        ("forwarded", "host=evil.example"),
        ("x-host", "evil.example"),
        ("x-http-host-override", "evil.example"),
        ("x-original-url", "/evil"),
        ("x-original-host", "evil.example"),
        ("x-rewrite-url", "/evil"),
        ("x-http-method-override", "EVIL"),
        ("x-http-method", "EVIL"),
        ("x-method-override", "EVIL"),
        ("x-squall-client", "evil"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        ask(&node, "GET", &path, &[(name, value)]).await;
        let victim = get(&node, &path).await;
        let text = victim.text().to_ascii_lowercase();
        let evil = text.contains("evil") || text.contains("6666");
        assert!(!evil, "{name}: {}\n{text}", status(&victim));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_get_is_not_what_others_get() {
    let (node, origin) = front("", numbered).await;
    let body = Bytes::from_static(b"q=evil");
    let fat = node.request("GET", "front", "/fat", &[], body).await;
    assert!(status(&fat).contains("fwd=bypass"), "{}", status(&fat));
    assert_eq!(get(&node, "/fat").await.text(), "answer 2");
    assert_eq!(origin.asked(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_schemes_are_parts_of_the_key() {
    let (node, origin) = front("", numbered).await;
    let first = get(&node, "/").await.text().to_owned();
    // The only app answers on any host, and each of them is another URL.
    for host in ["evil.example", "front.localhost.evil.example", "FRONT.localhost"] {
        let other = request(node.gateway(), host, "GET", "/", &[], Bytes::new()).await.unwrap();
        let same = host.eq_ignore_ascii_case("front.localhost");
        assert_eq!(other.text() == first, same, "{host}");
    }
    assert_eq!(origin.asked(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_look_alike_are_told_apart() {
    let (node, _origin) = front("", numbered).await;
    let account = get(&node, "/account").await.text().to_owned();
    for path in
        ["/account/", "/account/x.css", "/account%2Fx.css", "/account;x.css", "/account%3Fx"]
    {
        assert_ne!(get(&node, path).await.text(), account, "{path}");
    }
    // What is the same path is the same entry.
    assert_eq!(get(&node, "/x/../account").await.text(), account);
    assert_eq!(get(&node, "/%61ccount").await.text(), account);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_outside_of_the_key_do_not_reach_the_origin() {
    let (node, origin) = front("key = { query_only = ['page'] }", reflecting).await;
    for path in ["/a?page=1&evil=1", "/b?page=1&%65vil=1", "/c?utm=1;page=evil&page=1"] {
        ask(&node, "GET", path, &[]).await;
        let clean = format!("{}?page=1", &path[..2]);
        let victim = get(&node, &clean).await;
        assert!(!victim.text().contains("evil"), "{path}: {}", victim.text());
    }
    assert!(origin.asked() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_breaks_in_parameters_are_no_headers() {
    let (node, _origin) = front("", reflecting).await;
    let path = "/a?x=1%0d%0aSet-Cookie:%20evil=1%0d%0aCache-Control:%20max-age=9";
    let answer = get(&node, path).await;
    assert!(!answer.headers.contains_key("set-cookie"));
    assert!(get(&node, "/a?x=1").await.text().starts_with("GET /a?x=1\n"));
}

/// A field that the target does not see can not choose among what is stored, and put there what
/// others get who are seen to say it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_target_does_not_see_selects_no_variant() {
    let (node, origin) = front("", |seen| {
        let name = if seen.path == "/who" { "x-squall-client" } else { "x-tenant" };
        let said = seen.headers.get(name).map_or("nobody", String::as_str);
        Reply::new(200, format!("for {said}"))
            .with("cache-control", "max-age=60")
            .with("vary", name)
    })
    .await;
    let tenant = ("x-tenant", "victim");
    let hidden = [tenant, ("connection", "keep-alive, X-Tenant")];
    assert_eq!(ask(&node, "GET", "/", &hidden).await.text(), "for nobody");
    assert_eq!(ask(&node, "GET", "/", &[tenant]).await.text(), "for victim");
    assert_eq!(get(&node, "/").await.text(), "for nobody");
    assert_eq!(origin.asked(), 2);
    // Who calls is said by the gateway alone.
    ask(&node, "GET", "/who", &[("x-squall-client", "bob")]).await;
    assert!(status(&get(&node, "/who").await).starts_with("Squall; hit"));
}

/// The gateway writes them anew, so what is known beforehand can not select by them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_for_each_client_is_not_stored() {
    let (node, origin) = front("", |seen| numbered(seen).with("vary", "X-Forwarded-For")).await;
    for _ in 0..2 {
        assert!(status(&get(&node, "/").await).contains("fwd="));
    }
    assert_eq!(origin.asked(), 2);
}
