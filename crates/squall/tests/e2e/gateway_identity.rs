//! Callers who say who they are, at a real node. Tokens of a real issuer are tested by
//! `scripts/test-identity`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::harness::{Answer, App, SQUALL, TestNode};

/// Tells what it was told: its headers, and the query as it saw it.
const ECHO: &str = r#"
export default {
  fetch(request: Request): Response {
    return Response.json({ headers: Object.fromEntries(request.headers), query: new URL(request.url).search });
  },
};
"#;

fn app(policy: &str, more: &str) -> App {
    App::typescript("shop", ECHO).and(&format!("[gateway.policy]\n{policy}\n{more}"))
}

async fn ask(node: &TestNode, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("accept", "application/json")], headers].concat();
    node.request("GET", "shop", path, &headers, "").await
}

#[track_caller]
fn told(answer: &Answer, name: &str) -> Option<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["headers"][name].as_str().map(str::to_owned)
}

/// The hash that the CLI prints for a password on standard input.
fn hash_password(password: &str) -> String {
    let mut command = Command::new(SQUALL)
        .args(["gateway", "hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    command.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_the_cli_hashed_lets_its_user_in() {
    let node = TestNode::start();
    let hash = hash_password("open sesame");
    let basic = format!(
        "[identity.staff.basic]\nrealm = \"back office\"\nscopes = [\"admin\"]\nusers = {{ alice = \"{hash}\" }}"
    );
    node.deploy(&app("auth = [\"staff\"]", &basic));

    let stranger = ask(&node, "/", &[]).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (401, "SQ0500"));
    let challenge = "Basic realm=\"back office\", charset=\"UTF-8\"";
    assert_eq!(stranger.headers["www-authenticate"], challenge);

    // alice:open sesame
    let alice = [("authorization", "Basic YWxpY2U6b3BlbiBzZXNhbWU=")];
    for _ in 0..3 {
        let answer = ask(&node, "/", &alice).await;
        assert_eq!(told(&answer, "x-squall-client").as_deref(), Some("alice"));
        assert_eq!(told(&answer, "x-squall-identity").as_deref(), Some("staff"));
        assert_eq!(told(&answer, "x-squall-scopes").as_deref(), Some("admin"));
        assert_eq!(told(&answer, "authorization"), None);
    }
    // alice:wrong
    let wrong = ask(&node, "/", &[("authorization", "Basic YWxpY2U6d3Jvbmc=")]).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (401, "SQ0501"));
    assert_eq!(wrong.headers["www-authenticate"], challenge);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_say_of_themselves_who_they_are() {
    let node = TestNode::start();
    node.deploy(&app("", ""));
    let claims = [
        ("x-squall-client", "root"),
        ("X-Squall-Identity", "staff"),
        ("x-squall-scopes", "admin"),
        ("x-squall-plan", "gold"),
        ("x-squall-issuer", "https://id.example.com"),
        ("x-squall-claims", "e30"),
    ];
    let answer = ask(&node, "/", &claims).await;
    for (name, _) in claims {
        assert_eq!(told(&answer, &name.to_lowercase()), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_client_lets_it_in_until_it_is_revoked() {
    let node = TestNode::start();
    let source = "[identity.partners.api_key]\nquery = \"api_key\"\n[plans.gold]\n[[routes]]\npaths = [\"/orders/*\"]\nfunction = \"api\"\npolicy = { scopes = [\"orders:write\"] }";
    node.deploy(&app("auth = [\"partners\"]", source));
    let scope = ["--scope", "orders:read"];
    node.cli_json(&[&["clients", "create", "shop", "acme", "--plan", "gold"][..], &scope].concat());
    let made = node.cli_json(&["clients", "keys", "create", "shop", "acme"]);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sqk_"), "{made}");

    let answer = ask(&node, "/?x=1", &[("x-api-key", key)]).await;
    assert_eq!(told(&answer, "x-squall-client").as_deref(), Some("acme"));
    assert_eq!(told(&answer, "x-squall-plan").as_deref(), Some("gold"));
    assert_eq!(told(&answer, "x-squall-scopes").as_deref(), Some("orders:read"));
    assert_eq!(told(&answer, "x-api-key"), None);

    let answer = ask(&node, &format!("/?x=1&api_key={key}&y=2"), &[]).await;
    assert_eq!(told(&answer, "x-squall-client").as_deref(), Some("acme"));
    assert_eq!(answer.json()["query"], "?x=1&y=2");

    let answer = ask(&node, "/orders/1", &[("x-api-key", key)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "SQ0502"));
    let stranger = ask(&node, "/", &[]).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (401, "SQ0500"));
    assert_eq!(stranger.headers["www-authenticate"], "ApiKey header=\"x-api-key\"");
    let forged = format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let answer = ask(&node, "/", &[("x-api-key", &forged)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "SQ0501"));

    node.cli_json(&["clients", "update", "shop", "acme", "--disable"]);
    let answer = ask(&node, "/", &[("x-api-key", key)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "SQ0501"));
    node.cli_json(&["clients", "update", "shop", "acme", "--enable"]);
    assert_eq!(ask(&node, "/", &[("x-api-key", key)]).await.status, 200);
    node.cli_json(&["clients", "keys", "revoke", "shop", "acme", key]);
    let answer = ask(&node, "/", &[("x-api-key", key)]).await;
    assert_eq!((answer.status, answer.code().as_str()), (401, "SQ0501"));
}
