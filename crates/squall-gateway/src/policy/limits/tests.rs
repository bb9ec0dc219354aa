use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::HeaderMap;
use squall_types::gateway::Route;

use super::*;

/// One node, one clock, any number of configurations.
struct Node {
    limits: Limits,
    began: Instant,
    began_at: SystemTime,
    passed: Duration,
}

/// What became of a request.
struct Outcome {
    result: Result<Held, Rejection>,
    headers: HeaderMap,
}

#[derive(Clone, Copy)]
struct From<'a> {
    address: &'a str,
    identity: Option<(&'a str, &'a str)>,
    client: Option<&'a Arc<ApiClient>>,
    tenant: Option<&'static str>,
}

const SOMEBODY: From<'static> =
    From { address: "192.0.2.1", identity: None, client: None, tenant: None };

impl Node {
    fn new() -> Self {
        let limits = Limits::new(Arc::new(EmbeddedRates::new()));
        // The beginning of a day in the middle of a month.
        let began_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_046_400);
        Self { limits, began: Instant::now(), began_at, passed: Duration::ZERO }
    }

    /// The first route of a manifest, as it is compiled for each new snapshot.
    fn compile(&self, manifest: &str) -> RouteLimits {
        let manifest = Manifest::parse(&format!("name = \"shop\"\n{manifest}"));
        let manifest = manifest.unwrap_or_else(|error| panic!("{error}"));
        self.compile_route(&manifest, &manifest.routes[0])
    }

    fn compile_route(&self, manifest: &Manifest, route: &Route) -> RouteLimits {
        let plans = Arc::new(Plans::compile(manifest, &self.limits));
        let settings = route.policy.over(&manifest.gateway.policy);
        let name = route.name.as_deref().unwrap_or("route-1");
        RouteLimits::compile(name, &settings, &route.policy, manifest, &plans, &self.limits)
    }

    fn pass(&mut self, time: Duration) {
        self.passed += time;
    }

    fn call(&self, route: &RouteLimits, from: From<'_>) -> Outcome {
        let mut asked = HeaderMap::new();
        if let Some(tenant) = from.tenant {
            asked.insert("x-tenant", HeaderValue::from_static(tenant));
        }
        let address: IpAddr = from.address.parse().unwrap();
        let arrival =
            Arrival { accepted: self.began + self.passed, at: self.began_at + self.passed };
        let mut fields = Fields::default();
        let nobody = Caller { address, headers: &asked, identity: None };
        let somebody = Caller { identity: from.identity, ..nobody };
        let result = async {
            route.admit_anybody(&self.limits, &nobody, arrival, &mut fields).await?;
            route.admit(&self.limits, &somebody, from.client, arrival, &mut fields).await
        };
        let result = result.now_or_never().expect("memory answers at once");
        let mut headers = HeaderMap::new();
        fields.set(&mut headers);
        Outcome { result, headers }
    }

    fn admits(&self, route: &RouteLimits, from: From<'_>) -> bool {
        self.call(route, from).result.is_ok()
    }
}

impl Outcome {
    #[track_caller]
    fn field(&self, name: &str) -> String {
        let lines: Vec<_> =
            self.headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
        lines.join(", ")
    }

    #[track_caller]
    fn refused(self, code: ErrorCode) -> u32 {
        let rejection = self.result.err().expect("it is refused");
        assert_eq!(rejection.code, code, "{}", rejection.message);
        rejection.retry_after_s.expect("a refusal says when to come back")
    }
}

fn client(id: &str, plan: &str) -> Arc<ApiClient> {
    let (id, plan) = (id.into(), Some(plan.into()));
    Arc::new(ApiClient { id, plan, scopes: Vec::new(), disabled: false })
}

fn of_client(client: &Arc<ApiClient>) -> From<'_> {
    From { identity: Some(("", &client.id)), client: Some(client), ..SOMEBODY }
}

const ROUTE: &str = "\n[[routes]]\nresponse = { status = 200 }\n";

#[test]
fn headers_count_down_and_keep_their_promise() {
    let mut node = Node::new();
    let route = node.compile(&format!(
        "gateway.policy.rate_limits = [{{ limit = 3, per = \"minute\" }}]\n{ROUTE}"
    ));
    for left in ["2", "1", "0"] {
        let outcome = node.call(&route, SOMEBODY);
        assert_eq!(outcome.field("ratelimit-policy"), "\"default\";q=3;w=60");
        assert_eq!(outcome.field("ratelimit"), format!("\"default\";r={left};t=20"));
        assert!(outcome.result.is_ok());
    }
    node.pass(Duration::from_millis(4_500));
    let outcome = node.call(&route, SOMEBODY);
    assert_eq!(outcome.field("ratelimit"), "\"default\";r=0;t=16");
    let wait = outcome.refused(ErrorCode::RateLimited);
    assert_eq!(wait, 16);
    assert!(node.admits(&route, From { address: "192.0.2.2", ..SOMEBODY }));
    node.pass(Duration::from_secs(wait.into()));
    assert!(node.admits(&route, SOMEBODY));
}

#[test]
fn a_burst_that_is_not_the_limit_is_told() {
    let node = Node::new();
    let limits =
        "[{ limit = 100, per = \"second\" }, { name = \"day\", limit = 5, per = \"day\" }]";
    let route = node.compile(&format!("gateway.policy.rate_limits = {limits}\n{ROUTE}"));
    let outcome = node.call(&route, SOMEBODY);
    let policy = "\"default\";q=100;w=1;squall-burst=10, \"day\";q=5;w=86400";
    assert_eq!(outcome.field("ratelimit-policy"), policy);
    assert_eq!(outcome.field("ratelimit"), "\"default\";r=9;t=1, \"day\";r=4;t=17280");
    for _ in 0..4 {
        assert!(node.admits(&route, SOMEBODY));
    }
    // Only what it was refused for, so that t and Retry-After say the same.
    let outcome = node.call(&route, SOMEBODY);
    assert_eq!(outcome.field("ratelimit"), "\"day\";r=0;t=17280");
    assert_eq!(outcome.refused(ErrorCode::RateLimited), 17_280);
}

#[test]
fn the_app_s_limits_are_shared_and_a_route_s_are_its_own() {
    let node = Node::new();
    let manifest = r#"
        name = "shop"
        gateway.policy.rate_limits = [{ limit = 2, per = "hour" }]
        gateway.policy.concurrency = { limit = 1, by = [] }
        [[routes]]
        name = "one"
        response = { status = 200 }
        [[routes]]
        name = "two"
        response = { status = 200 }
        [[routes]]
        name = "own"
        response = { status = 200 }
        policy = { rate_limits = [{ limit = 2, per = "hour" }], concurrency = { limit = 1, by = [] } }
    "#;
    let manifest = Manifest::parse(manifest).unwrap();
    let routes: Vec<_> =
        manifest.routes.iter().map(|route| node.compile_route(&manifest, route)).collect();
    let [one, two, own] = routes.as_slice() else { panic!("three routes") };
    let held = node.call(one, SOMEBODY);
    let outcome = node.call(two, SOMEBODY);
    assert_eq!(outcome.refused(ErrorCode::TooManyConcurrent), CONCURRENCY_RETRY_S);
    assert!(node.admits(own, SOMEBODY));
    drop(held);
    assert!(!node.admits(one, SOMEBODY), "the rate is charged before anybody is known");
    assert!(node.admits(own, SOMEBODY));
    assert!(!node.admits(own, SOMEBODY));
}

#[test]
fn what_was_counted_outlives_a_configuration_and_not_a_change_of_the_limit() {
    let node = Node::new();
    let text = |limit: u32| {
        format!("gateway.policy.rate_limits = [{{ limit = {limit}, per = \"hour\" }}]\n{ROUTE}")
    };
    for _ in 0..3 {
        assert!(node.admits(&node.compile(&text(3)), SOMEBODY));
    }
    for _ in 0..1_000 {
        assert!(!node.admits(&node.compile(&text(3)), SOMEBODY));
    }
    assert!(node.admits(&node.compile(&text(4)), SOMEBODY));
}

#[test]
fn addresses_are_counted_before_authentication_and_the_rest_behind_it() {
    let node = Node::new();
    let route = node.compile(
        r#"
        identity.keys.api_key = {}
        [[routes]]
        response = { status = 200 }
        [routes.policy]
        auth = ["keys"]
        rate_limits = [
            { name = "guess", limit = 5, per = "minute" },
            { name = "all", limit = 3, per = "minute", by = [] },
            { name = "client", limit = 2, per = "minute", by = ["client", "ip"] },
        ]
    "#,
    );
    let names =
        |rules: &RateRules| rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&route.before), ["guess"]);
    assert_eq!(names(&route.behind), ["all", "client"]);
    let alice = From { identity: Some(("keys", "alice")), ..SOMEBODY };
    let bob = From { identity: Some(("keys", "bob")), ..SOMEBODY };
    assert!(node.admits(&route, alice) && node.admits(&route, alice));
    // Alice has no more, and takes nothing of what all have together.
    let outcome = node.call(&route, alice);
    assert_eq!(outcome.field("ratelimit"), "\"client\";r=0;t=30");
    outcome.refused(ErrorCode::RateLimited);
    assert!(node.admits(&route, bob));
    assert_eq!(node.call(&route, bob).field("ratelimit"), "\"all\";r=0;t=20");
    let outcome = node.call(&route, bob);
    assert_eq!(outcome.field("ratelimit"), "\"guess\";r=0;t=12");
}

#[test]
fn a_limit_by_header_counts_each_value() {
    let node = Node::new();
    let limits = "[{ limit = 1, per = \"hour\", by = [\"header:X-Tenant\"] }]";
    let route = node.compile(&format!("gateway.policy.rate_limits = {limits}\n{ROUTE}"));
    for tenant in [Some("a"), Some("b"), None] {
        let from = From { tenant, ..SOMEBODY };
        assert!(node.admits(&route, from));
        assert!(!node.admits(&route, From { address: "192.0.2.9", ..from }));
    }
}

const PLANS: &str = r#"
    identity.keys.api_key = {}
    gateway.policy.auth = ["keys"]
    [plans.gold]
    rate_limits = [{ limit = 2, per = "hour" }]
    concurrency = 2
    requests_per_day = 5
    [plans.day]
    requests_per_day = 2
    requests_per_month = 3
    [[routes]]
    response = { status = 200 }
"#;

#[test]
fn a_plan_s_limits_are_each_client_s_own() {
    let node = Node::new();
    let route = node.compile(PLANS);
    let (acme, other) = (client("acme", "gold"), client("other", "gold"));
    let first = node.call(&route, of_client(&acme));
    assert_eq!(
        first.field("ratelimit-policy"),
        "\"gold.default\";q=2;w=3600, \"gold.requests_per_day\";q=5;w=86400"
    );
    assert_eq!(
        first.field("ratelimit"),
        "\"gold.default\";r=1;t=1800, \"gold.requests_per_day\";r=4;t=86400"
    );
    let second = node.call(&route, From { address: "192.0.2.2", ..of_client(&acme) });
    assert!(second.result.is_ok());
    node.call(&route, of_client(&acme)).refused(ErrorCode::TooManyConcurrent);
    drop((first, second));
    node.call(&route, of_client(&acme)).refused(ErrorCode::RateLimited);
    assert!(node.admits(&route, of_client(&other)));
    let unplanned = client("unplanned", "nothing");
    for _ in 0..20 {
        assert!(node.admits(&route, of_client(&unplanned)));
    }
    assert_eq!(node.limits.concurrency.len(), 0);
}

#[test]
fn quotas_count_what_reached_a_target() {
    let mut node = Node::new();
    let route = node.compile(PLANS);
    let acme = client("acme", "day");
    for _ in 0..10 {
        // Refused further on: nothing is used up.
        assert!(node.admits(&route, of_client(&acme)));
    }
    let reach = |node: &Node| {
        let outcome = node.call(&route, of_client(&acme));
        let standing = outcome.field("ratelimit");
        outcome.result.ok().unwrap().reached_target();
        standing
    };
    assert!(reach(&node).starts_with("\"day.requests_per_day\";r=1;t=86400, "));
    assert!(reach(&node).starts_with("\"day.requests_per_day\";r=0;t=86400, "));
    let outcome = node.call(&route, of_client(&acme));
    assert_eq!(outcome.field("ratelimit"), "\"day.requests_per_day\";r=0;t=86400");
    let wait = outcome.refused(ErrorCode::QuotaExceeded);
    node.pass(Duration::from_secs(wait.into()));
    reach(&node);
    let month = node.call(&route, of_client(&acme));
    assert!(month.field("ratelimit").starts_with("\"day.requests_per_month\";r=0;t="));
    month.refused(ErrorCode::QuotaExceeded);
}

#[test]
fn requests_go_on_when_a_shared_store_does_not_answer() {
    struct Gone([u8; 32]);
    impl RateStore for Gone {
        fn take(&self, _: &[Ask], _: u64) -> Taken {
            Taken::Later(Box::pin(async { Err(std::io::Error::other("connection refused")) }))
        }
        fn seed(&self) -> &[u8; 32] {
            &self.0
        }
        fn write_metrics(&self, _: &mut String) {}
    }
    let node = Node { limits: Limits::new(Arc::new(Gone([1; 32]))), ..Node::new() };
    let limits = "[{ limit = 1, per = \"hour\" }]";
    let route = node.compile(&format!("gateway.policy.rate_limits = {limits}\n{ROUTE}"));
    for _ in 0..5 {
        assert!(node.admits(&route, SOMEBODY));
    }
    let mut metrics = String::new();
    node.limits.write_metrics(&mut metrics);
    assert!(metrics.contains("squall_rate_limit_unanswered_total 5"), "{metrics}");
}
