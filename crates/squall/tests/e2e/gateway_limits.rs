//! What callers may use of an app: rates, requests at once, quotas, addresses.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::harness::{Answer, App, TestNode, wait_for};

/// Tests speak for many callers by X-Forwarded-For.
const BEHIND_A_PROXY: &str = "[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\n";

async fn from(node: &TestNode, app: &str, address: &str, path: &str) -> Answer {
    let headers = [("x-forwarded-for", address), ("accept", "application/json")];
    node.request("GET", app, path, &headers, Bytes::new()).await
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_are_kept_told_and_remembered_over_a_deployment() {
    let node = TestNode::start_with(BEHIND_A_PROXY);
    let app = App::probe("rated")
        .and("[gateway.policy]\nrate_limits = [{ limit = 20, per = \"minute\", burst = 3 }]");
    node.deploy(&app);
    let caller = "198.51.100.7";
    let mut retry_after_s = 0;
    for left in ["2", "1", "0", "none"] {
        let answer = from(&node, "rated", caller, "/count").await;
        assert_eq!(field(&answer, "ratelimit-policy"), "\"default\";q=20;w=60;squall-burst=3");
        if left == "none" {
            assert_eq!((answer.status, answer.code().as_str()), (429, "SQ0503"));
            retry_after_s = field(&answer, "retry-after").parse().unwrap();
            assert!((1..=3).contains(&retry_after_s), "{retry_after_s}");
            let standing = format!("\"default\";r=0;t={retry_after_s}");
            assert_eq!(field(&answer, "ratelimit"), standing);
        } else {
            assert_eq!(answer.status, 200);
            let standing = format!("\"default\";r={left};t=");
            assert!(field(&answer, "ratelimit").starts_with(&standing), "{:?}", answer.headers);
        }
    }
    // Others are not concerned; one subscriber's IPv6 addresses are one caller.
    assert_eq!(from(&node, "rated", "198.51.100.8", "/count").await.status, 200);
    for _ in 0..3 {
        assert_eq!(from(&node, "rated", "2001:db8::1", "/count").await.status, 200);
    }
    assert_eq!(from(&node, "rated", "2001:db8::2", "/count").await.status, 429);
    // What was promised is kept.
    tokio::time::sleep(Duration::from_secs(retry_after_s)).await;
    assert_eq!(from(&node, "rated", caller, "/count").await.status, 200);

    let hourly = "[gateway.policy]\nrate_limits = [{ limit = 2, per = \"hour\" }]";
    node.deploy(&App::probe("rated").and(hourly));
    for _ in 0..2 {
        assert_eq!(from(&node, "rated", caller, "/count").await.status, 200);
    }
    // Another configuration with the same limit, as often as you like.
    for round in 0..3 {
        let more =
            format!("{hourly}\n[[routes]]\npaths = [\"/{round}\"]\nresponse = {{ status = 204 }}");
        node.deploy(&App::probe("rated").and(&more));
        assert_eq!(from(&node, "rated", caller, &format!("/{round}")).await.status, 429);
        assert_eq!(from(&node, "rated", caller, "/count").await.status, 429);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_gets_what_the_limit_admits() {
    let node = TestNode::start();
    let limit =
        "[gateway.policy]\nrate_limits = [{ limit = 50, per = \"second\", by = [\"route\"] }]";
    node.deploy(&App::probe("flooded").and(limit));
    let started = Instant::now();
    let (mut admitted, mut refused) = (0, 0);
    // About three times the limit; how long it takes is measured.
    let mut turns = tokio::time::interval(Duration::from_micros(6_600));
    for _ in 0..600 {
        turns.tick().await;
        match node.get("flooded", "/count").await.status {
            200 => admitted += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let most = 50.0 * seconds + 5.0 + 1.0;
    assert!(f64::from(admitted) <= most, "{admitted} of {most} in {seconds} s");
    // A slow machine sends less than the limit now and then.
    assert!(f64::from(admitted) >= 50.0 * seconds.min(4.0) * 0.7, "{admitted} in {seconds} s");
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_rules_decide_who_comes_in() {
    let node = TestNode::start_with(BEHIND_A_PROXY);
    let app = App::probe("walled").and(
        r#"
        [gateway.policy]
        addresses = { deny = ["198.51.100.0/24", "2001:db8::/32"] }
        [[routes]]
        paths = ["/staff"]
        response = { status = 200, body = "hello" }
        policy = { addresses = { allow = ["10.0.0.0/8"], deny = ["10.1.0.0/16"] } }
        "#,
    );
    node.deploy(&app);
    let cases = [
        ("198.51.100.7", "/count", 403),
        ("198.51.101.7", "/count", 200),
        ("2001:db8::7", "/count", 403),
        ("2001:db9::7", "/count", 200),
        ("10.2.3.4", "/staff", 200),
        ("10.1.3.4", "/staff", 403),
        ("198.51.101.7", "/staff", 403),
        // The route's rules take the place of the app's.
        ("::ffff:10.2.3.4", "/staff", 200),
    ];
    for (address, path, status) in cases {
        let answer = from(&node, "walled", address, path).await;
        assert_eq!(answer.status, status, "{address} {path}");
        if status == 403 {
            assert_eq!(answer.code(), "SQ0507");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_run_at_once_than_the_limit_allows() {
    let node = TestNode::start_with(BEHIND_A_PROXY);
    let limit = "[gateway.policy]\nconcurrency = { limit = 2, by = [\"ip\"] }";
    node.deploy(&App::probe("narrow").and(limit));
    let caller = "198.51.100.7";
    assert_eq!(from(&node, "narrow", caller, "/count").await.status, 200);
    let slow = || from(&node, "narrow", caller, "/sleep?ms=3000");
    // What asks whether both run may have a place before the second of them.
    let patient = || async {
        loop {
            let answer = slow().await;
            if answer.status != 429 {
                return answer;
            }
        }
    };
    let meanwhile = async {
        // Refused as long as both are on their way, which they are before long.
        let started = Instant::now();
        loop {
            let answer = from(&node, "narrow", caller, "/count").await;
            if answer.status == 429 {
                assert_eq!(answer.code(), "SQ0505");
                assert_eq!(field(&answer, "retry-after"), "1");
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(2), "both never ran at once");
        }
        assert_eq!(from(&node, "narrow", "198.51.100.8", "/count").await.status, 200);
    };
    let (one, two, ()) = tokio::join!(patient(), patient(), meanwhile);
    assert_eq!((one.status, two.status), (200, 200));
    // Their places are free again, also when a client leaves early.
    for _ in 0..4 {
        let gone = tokio::time::timeout(Duration::from_millis(50), slow()).await;
        assert!(gone.is_err());
    }
    let mut status = 0;
    for _ in 0..200 {
        status = from(&node, "narrow", caller, "/count").await.status;
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status, 200);
}

const PLANS: &str = r#"
    [identity.keys.api_key]
    [gateway.policy]
    auth = ["keys"]
    [plans.small]
    requests_per_day = 6
    [plans.fast]
    rate_limits = [{ limit = 2, per = "hour" }]
"#;

struct ApiKey(String);

impl ApiKey {
    fn create(node: &TestNode, app: &str, client: &str, plan: &str) -> Self {
        node.cli_json(&["clients", "create", app, client, "--plan", plan]);
        let made = node.cli_json(&["clients", "keys", "create", app, client]);
        Self(made["key"].as_str().unwrap().to_owned())
    }

    async fn call(&self, node: &TestNode, app: &str) -> Answer {
        let headers = [("x-api-key", self.0.as_str()), ("accept", "application/json")];
        node.request("GET", app, "/count", &headers, Bytes::new()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_what_a_client_used_also_after_kill_9() {
    let mut node = TestNode::start();
    node.deploy(&App::probe("sold").and(PLANS));
    let key = ApiKey::create(&node, "sold", "acme", "small");
    for left in ["5", "4", "3", "2"] {
        let answer = key.call(&node, "sold").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let policy = "\"small.requests_per_day\";q=6;w=86400";
        assert_eq!(field(&answer, "ratelimit-policy"), policy);
        let standing = format!("\"small.requests_per_day\";r={left};t=");
        assert!(field(&answer, "ratelimit").starts_with(&standing), "{:?}", answer.headers);
    }
    // Refused requests are nobody's usage.
    for _ in 0..5 {
        assert_eq!(node.get("sold", "/count").await.status, 401);
    }
    wait_for("the records", || node.usage("sold")["total"]["invocations"] == 4);
    // Beyond the documented window of one second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    node.kill();
    node.restart();
    for _ in 0..2 {
        assert_eq!(key.call(&node, "sold").await.status, 200);
    }
    let answer = key.call(&node, "sold").await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "SQ0504"));
    let wait_s: u64 = field(&answer, "retry-after").parse().unwrap();
    assert!((1..=86_400).contains(&wait_s));
    assert_eq!(field(&answer, "ratelimit"), format!("\"small.requests_per_day\";r=0;t={wait_s}"));

    wait_for("the records", || node.usage("sold")["total"]["invocations"] == 6);
    let by_client = node.cli_json(&["usage", "--app", "sold", "--by", "client"]);
    let row = &by_client["rows"][0];
    assert_eq!((&row["client"], &row["totals"]["invocations"]), (&"acme".into(), &6.into()));
    let of_nobody: Value = node.cli_json(&["usage", "--app", "sold", "--client", "nobody"]);
    assert_eq!(of_nobody["total"]["invocations"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_s_rate_is_each_client_s_own() {
    let node = TestNode::start();
    node.deploy(&App::probe("planned").and(PLANS));
    for client in ["acme", "other"] {
        let key = ApiKey::create(&node, "planned", client, "fast");
        for _ in 0..2 {
            assert_eq!(key.call(&node, "planned").await.status, 200);
        }
        let answer = key.call(&node, "planned").await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "SQ0503"));
        let wait_s: u64 = field(&answer, "retry-after").parse().unwrap();
        assert!((1_700..=1_800).contains(&wait_s), "{wait_s}");
    }
}
