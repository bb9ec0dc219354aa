//! Domains: each of them leads to one app, and any other host to the default one. An app
//! has those of the revision that gets most of its traffic, so whatever changes traffic may
//! bring two apps into each other's way, and is refused then.

use squall_types::manifest::Manifest;
use squall_types::{AppName, ErrorCode};

use crate::Inner;
use crate::api::problem::Problem;
use crate::store::{ShareRow, Store};

/// What stands for an app as a whole: of its shares the one with the most traffic.
pub(crate) fn leading<T>(shares: &[T], percent: impl Fn(&T) -> u8) -> Option<&T> {
    shares.iter().max_by_key(|share| percent(share))
}

impl Inner {
    /// Fails when `app` can not have the domains of this manifest, or be the default app as
    /// it says, because another app has them as it stands now. Blocking.
    pub(crate) fn check_claims(&self, app: &AppName, manifest: &Manifest) -> Result<(), Problem> {
        self.check_hosts(app, &manifest.hosts)?;
        // What was set by hand counts, whatever the manifest says.
        match self.store.default_by_hand(app)?.unwrap_or(manifest.default) {
            true => self.check_default(app),
            false => Ok(()),
        }
    }

    fn check_default(&self, app: &AppName) -> Result<(), Problem> {
        let Some(other) = self.default_apps(app).pop() else { return Ok(()) };
        Err(Problem::new(
            ErrorCode::Conflict,
            format!(
                "{other} is the default app, so {app} can not be it as well; take `default = true` out of the manifest of one of them, and deploy {other} first if it is to give it up"
            ),
        ))
    }

    /// As `check_default`, for what `app` would be by what its manifest says.
    pub(crate) fn check_default_of_manifest(
        &self,
        store: &Store,
        app: &AppName,
    ) -> Result<(), Problem> {
        let shares = store.app(app)?.map(|row| row.traffic).unwrap_or_default();
        match leading_manifest(store, app, &shares)? {
            Some(manifest) if manifest.default => self.check_default(app),
            _ => Ok(()),
        }
    }

    /// The live apps beside `app` that answer on any host.
    pub(crate) fn default_apps(&self, app: &AppName) -> Vec<AppName> {
        let desired = self.desired();
        let others = desired.apps().filter(|other| other.name != *app);
        let defaults = others.filter(|other| other.default && !other.traffic.is_empty());
        defaults.map(|other| other.name.clone()).collect()
    }

    fn check_hosts(&self, app: &AppName, hosts: &[String]) -> Result<(), Problem> {
        let desired = self.desired();
        let own = local_host(app);
        for other in desired.apps().filter(|other| other.name != *app) {
            let theirs = local_host(&other.name);
            // Revisions have names below it: `REVISION--APP.localhost`.
            let is_theirs = |host: &&String| {
                let before = host.strip_suffix(&theirs);
                before.is_some_and(|before| before.is_empty() || before.ends_with("--"))
            };
            if let Some(taken) = hosts.iter().find(is_theirs) {
                let other = &other.name;
                return Err(Problem::new(
                    ErrorCode::HostTaken,
                    format!(
                        "{taken} is the app {other}'s own; take it out of the `hosts` of {app}"
                    ),
                ));
            }
            let mut wanted = hosts.iter().chain([&own]);
            let Some(host) = wanted.find(|host| other.hosts.contains(host)) else { continue };
            let other = &other.name;
            return Err(Problem::new(
                ErrorCode::HostTaken,
                format!(
                    "{host} leads to the app {other}, so {app} can not have it as well; take it out of the `hosts` of one of them, and deploy {other} first if it is to give it up"
                ),
            ));
        }
        Ok(())
    }

    /// As `check_claims`, for what `app` would be with these shares.
    pub(crate) fn check_traffic(
        &self,
        store: &Store,
        app: &AppName,
        shares: &[ShareRow],
    ) -> Result<(), Problem> {
        let manifest = leading_manifest(store, app, shares)?;
        manifest.map_or(Ok(()), |manifest| self.check_claims(app, &manifest))
    }
}

/// What every app answers on, without a word about it.
fn local_host(app: &AppName) -> String {
    format!("{app}.localhost")
}

/// Of the revision that has most of the traffic.
fn leading_manifest(
    store: &Store,
    app: &AppName,
    shares: &[ShareRow],
) -> Result<Option<Manifest>, Problem> {
    let Some(leading) = leading(shares, |share| share.percent) else { return Ok(None) };
    Ok(store.content(app, &leading.revision)?.map(|content| content.manifest))
}
