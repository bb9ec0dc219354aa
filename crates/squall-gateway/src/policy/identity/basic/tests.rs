use std::collections::BTreeMap;

use super::*;
use crate::policy::identity::turns::WAITING_MAX;

/// As little as Argon2 takes: tests shall not wait for passwords.
fn cheap(password: &str) -> String {
    let salt = b"somesalt".to_vec();
    let mut hash = PasswordHash { memory_kib: 8, passes: 1, lanes: 1, salt, hash: Vec::new() };
    hash.hash = derive(password, &hash, 32).unwrap();
    hash.to_string()
}

fn passwords(users: &[(&str, &str)]) -> Passwords {
    let users: BTreeMap<String, String> =
        users.iter().map(|(name, password)| ((*name).to_owned(), cheap(password))).collect();
    let settings = Basic { users, realm: "staff".to_owned(), scopes: vec!["admin".to_owned()] };
    let name = SourceName { text: "staff".to_owned(), header: "staff".try_into().unwrap() };
    Passwords::new(&settings, Arc::new(name), Arc::default())
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

async fn ask(passwords: &Passwords, credentials: &str) -> Result<String, &'static str> {
    match passwords.identify(credentials, 1_000).await {
        Ok(identity) => Ok(identity.name().to_owned()),
        Err(Refusal::Invalid(why)) => Err(why),
        Err(Refusal::Busy) => Err("busy"),
    }
}

#[tokio::test]
async fn a_name_with_its_password_is_let_in() {
    let passwords = passwords(&[("alice", "open: sesame"), ("bob", "pässwört"), ("empty", "")]);
    for (credentials, name) in
        [("alice:open: sesame", "alice"), ("bob:pässwört", "bob"), ("empty:", "empty")]
    {
        for times in ["first", "second"] {
            let known = ask(&passwords, &encoded(credentials)).await;
            assert_eq!(known.as_deref(), Ok(name), "{times}");
        }
    }
}

/// Where hashes cost differently, the time that an answer takes says nothing of a name.
#[test]
fn strangers_cost_what_some_user_costs_and_the_same_each_time() {
    let known = passwords(&[("alice", "sesame"), ("bob", "builder")]);
    let again = passwords(&[("alice", "sesame"), ("bob", "builder")]);
    let names: Vec<String> = (0..100).map(|number| format!("name-{number}")).collect();
    let chosen = |of: &Passwords| -> Vec<Vec<u8>> {
        names.iter().map(|name| of.stand_in(name).hash.clone()).collect()
    };
    assert_eq!(chosen(&known), chosen(&again));
    for name in ["alice", "bob"] {
        let hash = &known.users[name].hash.hash;
        assert!(chosen(&known).contains(hash), "{name}'s costs are those of nobody else");
    }
}

#[tokio::test]
async fn a_wrong_or_malformed_password_is_refused() {
    let passwords = passwords(&[("alice", "right"), ("bob", "other")]);
    const WRONG: &str = "the name or the password is wrong";
    for credentials in [
        "alice:wrong",
        "alice:",
        "alice:other",
        "bob:right",
        "eve:right",
        ":right",
        "ALICE:right",
        "alice :right",
        "alice:right ",
        "alice:right\0",
        "alice::right",
    ] {
        assert_eq!(ask(&passwords, &encoded(credentials)).await, Err(WRONG), "{credentials:?}");
        assert_eq!(ask(&passwords, &encoded(credentials)).await, Err(WRONG), "{credentials:?}");
    }
    let good = encoded("alice:right");
    let malformed = [
        String::new(),
        encoded("alice"),
        encoded(b"alice:\xff"),
        format!("{good}="),
        good.trim_end_matches('=').to_owned(),
        format!(" {good}"),
        format!("{good} {good}"),
        "!!!!".to_owned(),
    ];
    for credentials in malformed.iter().filter(|text| **text != good) {
        let known = ask(&passwords, credentials).await;
        assert_eq!(known, Err("the credentials are malformed"), "{credentials:?}");
    }
    assert_eq!(ask(&passwords, &good).await.as_deref(), Ok("alice"));
}

#[tokio::test]
async fn a_flood_of_passwords_is_turned_away_instead_of_queued_for_ever() {
    let passwords = Arc::new(passwords(&[("alice", "right")]));
    assert!(ask(&passwords, &encoded("alice:right")).await.is_ok());
    let _all = passwords.turns.hold_all().await;
    let waiting: Vec<_> = (0..WAITING_MAX)
        .map(|number| {
            let passwords = passwords.clone();
            tokio::spawn(async move { ask(&passwords, &encoded(format!("eve:{number}"))).await })
        })
        .collect();
    while passwords.turns.waiting() < WAITING_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&passwords, &encoded("eve:more")).await, Err("busy"));
    // Who came in before needs no turn.
    assert!(ask(&passwords, &encoded("alice:right")).await.is_ok());
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    for one in waiting {
        let _ = one.await;
    }
    assert_eq!(passwords.turns.waiting(), 0);
}

#[test]
fn a_made_hash_is_checked_and_is_never_the_same() {
    let (first, second) = (hash_password("secret"), hash_password("secret"));
    assert_ne!(first.salt, second.salt);
    let read = PasswordHash::parse(&first.to_string()).unwrap();
    assert!(matches("secret", &read));
    assert!(!matches("Secret", &read) && !matches("", &read));
}

/// Made by the reference implementation, `argon2 somesalt -id -t 2 -k 1024 -p 4 -l 24 -e`.
#[test]
fn a_hash_of_the_reference_implementation_is_checked() {
    let text = "$argon2id$v=19$m=1024,t=2,p=4$c29tZXNhbHQ$MfdjzcytEeXZM5ijm4z8Gut8QmpjPY4o";
    assert!(matches("password", &PasswordHash::parse(text).unwrap()));
    assert!(!matches("passwords", &PasswordHash::parse(text).unwrap()));
}
