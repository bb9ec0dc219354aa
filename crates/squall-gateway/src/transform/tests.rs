use std::sync::Arc;

use squall_types::gateway::PathPattern;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::Path(Arc::new(PathPattern::parse(text).unwrap()))
}

#[track_caller]
fn rewrites(path: &str, changes: &str, url: &str, expected: &str) {
    let changes: Rewrite = toml::from_str(changes).unwrap();
    let url: PathAndQuery = url.parse().unwrap();
    let plan = RewritePlan::new(&changes);
    let seen = rewrite(Some(&plan), &QueryPlan::default(), &pattern(path), &url);
    assert_eq!(seen.as_ref().map(PathAndQuery::as_str), Some(expected), "{path} {url}");
}

#[test]
fn paths_are_rewritten() {
    rewrites("/old/*", "prefix = '/new'", "/old/a/b?c=d", "/new/a/b?c=d");
    rewrites("/old/*", "prefix = '/new'", "/old", "/new");
    rewrites("/old/*", "prefix = '/new'", "/old/", "/new/");
    rewrites("/old/*", "prefix = '/new/'", "/old/a", "/new/a");
    rewrites("/old/*", "prefix = '/'", "/old/a", "/a");
    rewrites("/old/*", "prefix = '/'", "/old", "/");
    rewrites("/*", "prefix = '/v1'", "/a/b", "/v1/a/b");
    rewrites("/t/{tenant}/*", "prefix = '/'", "/t/acme/x", "/x");
    rewrites("/u/{id}", "path = '/users/{id}/show'", "/u/a%20b?x", "/users/a%20b/show?x");
    rewrites("/u/{a}/{b}", "path = '/{b}/{a}'", "/u/1/2", "/2/1");
}

#[track_caller]
fn queries(changes: &str, url: &str, expected: &str) {
    let changes: QueryChanges = toml::from_str(changes).unwrap();
    let url: PathAndQuery = url.parse().unwrap();
    let seen = rewrite(None, &QueryPlan::new(&changes), &pattern("/*"), &url);
    assert_eq!(seen.as_ref().map(PathAndQuery::as_str), Some(expected), "{url}");
}

#[test]
fn queries_are_changed_and_the_rest_stays_byte_for_byte() {
    queries("set = { a = 'x&y' }", "/p?a=1&b=%7e&a=2", "/p?b=%7e&a=x%26y");
    queries("add = { a = '1' }", "/p", "/p?a=1");
    queries("add = { a = '1' }", "/p?a=0", "/p?a=0&a=1");
    queries("remove = ['k[]']", "/p?k%5B%5D=1&c", "/p?c");
    queries("remove = ['c']", "/p?c", "/p");
}

#[track_caller]
fn redirects(changes: &str, expected: &str) {
    let redirect: Redirect = toml::from_str(changes).unwrap();
    let url: PathAndQuery = "/old/a?q=1".parse().unwrap();
    let plan = Redirection::new(&redirect);
    let location =
        plan.location("http", "www.example.com:8080", Some(8443), &pattern("/old/*"), &url);
    assert_eq!(location, expected, "{changes}");
}

#[test]
fn redirects_keep_what_they_do_not_name() {
    redirects("status = 301", "http://www.example.com:8080/old/a?q=1");
    redirects("prefix = '/new'", "http://www.example.com:8080/new/a?q=1");
    redirects("scheme = 'https'", "https://www.example.com:8443/old/a?q=1");
    redirects("scheme = 'https'\nhost = 'example.org'", "https://example.org/old/a?q=1");
    redirects("scheme = 'https'\nport = 8443", "https://www.example.com:8443/old/a?q=1");
    redirects("scheme = 'https'\nport = 443", "https://www.example.com/old/a?q=1");
    redirects("host = 'example.org'", "http://example.org/old/a?q=1");
    redirects("host = 'example.org:81'\npath = '/'", "http://example.org:81/?q=1");
}
