//! Which revisions answer: splitting traffic and going back.

use http::Method;
use serde_json::{Value, json};
use squall_types::{AppName, ErrorCode, RevisionId};

use super::apps::shares;
use super::{connect, text};
use crate::cli::{Global, RollbackOptions, TrafficOptions};
use crate::failure::Failure;
use crate::output::{self, Align, table};

pub(super) async fn run(global: &Global, options: &TrafficOptions) -> Result<(), Failure> {
    let app = &options.app;
    let setting = if options.shares.is_empty() { None } else { Some(body(app, &options.shares)?) };
    let client = connect(global)?;
    let answer: Value = match &setting {
        None => {
            client.get(&format!("reading traffic of {app}"), &format!("/v1/apps/{app}")).await?
        }
        Some(body) => {
            let path = format!("/v1/apps/{app}/traffic");
            client
                .call(&format!("splitting traffic of {app}"), Method::PUT, &path, Some(body))
                .await?
        }
    };
    if global.json {
        output::json(&answer);
        return Ok(());
    }
    output::warn(&answer["warnings"]);
    let rows: Vec<_> = answer["traffic"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|share| vec![text(share, "revision").to_owned(), format!("{}%", share["percent"])])
        .collect();
    if rows.is_empty() {
        output::note(&format!("Nothing of {app} is live."));
        return Ok(());
    }
    output::line(&table(&[("REVISION", Align::Left), ("TRAFFIC", Align::Right)], &rows));
    Ok(())
}

/// The request for a split. The node checks it again; here the sums are told sooner.
fn body(app: &AppName, shares: &[(RevisionId, u8)]) -> Result<Value, Failure> {
    let wrong = |why: String| {
        Failure::invalid(format!("splitting traffic of {app}"), why)
            .code(ErrorCode::InvalidTraffic)
            .next(format!("squall traffic {app}, which shows the split as it is"))
    };
    let total: u32 = shares.iter().map(|(_, percent)| u32::from(*percent)).sum();
    if total != 100 {
        return Err(wrong(format!("the shares add up to {total}; they must make 100")));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some((twice, _)) = shares.iter().find(|(revision, _)| !seen.insert(revision)) {
        return Err(wrong(format!("revision {twice} is named twice")));
    }
    let shares: Vec<_> = shares
        .iter()
        .filter(|(_, percent)| *percent > 0)
        .map(|(revision, percent)| json!({ "revision": revision, "percent": percent }))
        .collect();
    Ok(json!({ "shares": shares }))
}

pub(super) async fn rollback(global: &Global, options: &RollbackOptions) -> Result<(), Failure> {
    let app = &options.app;
    let client = connect(global)?;
    let body = match &options.revision {
        Some(revision) => json!({ "revision": revision }),
        None => json!({}),
    };
    let path = format!("/v1/apps/{app}/rollback");
    let answer: Value =
        client.call(&format!("rolling back {app}"), Method::POST, &path, Some(&body)).await?;
    if global.json {
        output::json(&answer);
        return Ok(());
    }
    output::warn(&answer["warnings"]);
    let (from, to) = (shares(&answer["from"]), shares(&answer["to"]));
    output::line(&format!(
        "{app}: from {} to {to}",
        if from.is_empty() { "nothing" } else { &from }
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(revision: &str, percent: u8) -> (RevisionId, u8) {
        (RevisionId::parse(revision).unwrap(), percent)
    }

    #[test]
    fn shares_must_make_a_hundred_and_differ() {
        let app = AppName::parse("shop").unwrap();
        let good = body(&app, &[share("kqzfw3x2ab", 100), share("hdy2oa5tqe", 0)]).unwrap();
        assert_eq!(good, json!({ "shares": [{ "revision": "kqzfw3x2ab", "percent": 100 }] }));
        let short = body(&app, &[share("kqzfw3x2ab", 70), share("hdy2oa5tqe", 20)]).unwrap_err();
        assert_eq!(short.exit, crate::failure::Exit::Invalid);
        assert!(short.to_string().contains("add up to 90"), "{short}");
        let twice = body(&app, &[share("kqzfw3x2ab", 50), share("kqzfw3x2ab", 50)]).unwrap_err();
        assert!(twice.to_string().contains("named twice"), "{twice}");
    }
}
