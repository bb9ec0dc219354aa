//! Domains: each of them leads to one app. An app has those of the revision that gets
//! most of its traffic, so whatever changes traffic may bring two apps into each other's
//! way, and is refused then.

use squall_types::{AppName, ErrorCode, RevisionId};

use crate::Inner;
use crate::api::problem::Problem;
use crate::store::{ShareRow, Store};

/// What stands for an app as a whole: of its shares the one with the most traffic.
pub(crate) fn leading<T>(shares: &[T], percent: impl Fn(&T) -> u8) -> Option<&T> {
    shares.iter().max_by_key(|share| percent(share))
}

impl Inner {
    /// Fails when another app has one of these domains, as it stands now.
    pub(crate) fn check_hosts(&self, app: &AppName, hosts: &[String]) -> Result<(), Problem> {
        let desired = self.desired();
        for other in desired.apps().filter(|other| other.name != *app) {
            let Some(host) = hosts.iter().find(|host| other.hosts.contains(host)) else { continue };
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

    /// As `check_hosts`, for the domains that `app` would have with these shares.
    pub(crate) fn check_traffic(
        &self,
        store: &Store,
        app: &AppName,
        shares: &[ShareRow],
    ) -> Result<(), Problem> {
        let Some(leading) = leading(shares, |share| share.percent) else { return Ok(()) };
        let revision: &RevisionId = &leading.revision;
        let content = store.content(app, revision)?;
        content.map_or(Ok(()), |content| self.check_hosts(app, &content.manifest.hosts))
    }
}
