//! The table of `docs/conformance.md`.

use std::fmt::Write as _;

use super::{Found, Group};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
const HEADING: &str = "# The door\n";

/// Replaces the page's part about the door.
pub(super) fn write(groups: &[Group], ours: &[Vec<Found>], theirs: &[Vec<Found>], nginx: &str) {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let before = page.split(HEADING).next().unwrap().trim_end();
    let text = format!("{before}\n\n{}", part(groups, ours, theirs, nginx));
    std::fs::write(PAGE, text).unwrap();
}

fn part(groups: &[Group], ours: &[Vec<Found>], theirs: &[Vec<Found>], nginx: &str) -> String {
    let vectors: usize = groups.iter().map(|group| group.vectors.len()).sum();
    let mut out = format!(
        "{HEADING}
What the gateway decides about {vectors} requests that are odd, broken or hostile, byte for byte, and what nginx {nginx} decides that
proxies to the same server. Behind both stands a server that writes down what reaches it; each request is followed on the
same connection by a marked one. Behind Squall nothing arrived but what the table names: nothing was smuggled, split
or changed in its meaning. `scripts/conformance-door` runs the vectors and writes this part of the page;
[the door](guides/the-door.md) has the reasons.

`closed` is a connection that ends without a response, `reset` a stream of HTTP/2 that does. Behind a decision stands what the server
behind saw, if it was not simply the request. `silence` is no answer within five seconds.
"
    );
    for ((group, ours), theirs) in groups.iter().zip(ours).zip(theirs) {
        let _ =
            write!(out, "\n## {}\n\n| request | Squall | nginx |\n|---|---|---|\n", group.title);
        for ((vector, ours), theirs) in group.vectors.iter().zip(ours).zip(theirs) {
            let _ = writeln!(out, "| {} | {} | {} |", vector.name, cell(ours), cell(theirs));
        }
    }
    out
}

fn cell(found: &Found) -> String {
    let usual = ["GET /a", "POST /a hello"];
    let count = found.seen.len();
    let requests: Vec<&str> = found.seen.iter().map(|seen| seen.request.as_str()).collect();
    match (found.decision.as_str(), requests.as_slice()) {
        (decision, []) => decision.to_owned(),
        ("200", [one]) if usual.contains(one) => "200".to_owned(),
        (decision, _) if count > 3 => format!("{decision}; {count} requests"),
        (decision, requests) => {
            let shown = |request: &&str| {
                let request: String = request.chars().take(60).collect();
                format!("`{}`", request.escape_default().to_string().replace('|', "\\|"))
            };
            let shown: Vec<String> = requests.iter().map(shown).collect();
            format!("{decision}; {}", shown.join(", "))
        }
    }
}
