//! From a host and a path to what answers: compiled from a snapshot, off the path.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use squall_types::state::{AppState, Environment, FunctionSpec, RevisionState, Snapshot};
use squall_types::{AppName, ErrorCode, RevisionId};

use crate::rejection::Rejection;

/// All hosts of a node.
#[derive(Default)]
pub(crate) struct RouteTable {
    hosts: HashMap<Box<str>, Arc<Site>>,
    /// Answers on every other host.
    any: Option<Arc<Site>>,
    empty: bool,
    /// By address; an unchanged revision is not compiled again.
    revisions: HashMap<usize, Arc<Compiled>>,
}

/// What one host name leads to.
struct Site {
    app: Arc<AppState>,
    /// Percent, ending at 100.
    shares: Vec<(u8, Arc<Compiled>)>,
}

impl Site {
    fn choose(&self, dice: u8) -> Option<Arc<Compiled>> {
        let of_hundred = (u16::from(dice) * 100 / 256) as u8;
        let chosen = self.shares.iter().find(|(upto, _)| of_hundred < *upto);
        chosen.or(self.shares.last()).map(|(_, compiled)| compiled.clone())
    }
}

/// One revision, ready to be matched against.
pub(crate) struct Compiled {
    pub(crate) revision: Arc<RevisionState>,
    exact: HashMap<Box<str>, Arc<FunctionSpec>>,
    /// Longest first.
    prefixes: Vec<(Box<str>, Arc<FunctionSpec>)>,
}

/// Who answers a request.
pub(crate) struct Match {
    pub(crate) app: Arc<AppState>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) function: Option<Arc<FunctionSpec>>,
}

impl Match {
    pub(crate) fn environment(&self) -> Arc<Environment> {
        self.app.environment.clone()
    }
}

impl Compiled {
    fn new(revision: &Arc<RevisionState>) -> Self {
        let mut exact = HashMap::new();
        let mut prefixes = Vec::new();
        let specs: BTreeMap<&str, &Arc<FunctionSpec>> =
            revision.functions.iter().map(|spec| (spec.key.function.as_str(), spec)).collect();
        for (name, function) in &revision.manifest.functions {
            let Some(spec) = specs.get(name.as_str()) else { continue };
            for route in &function.routes {
                match route.strip_suffix("/*") {
                    Some(prefix) => prefixes.push((Box::from(prefix), Arc::clone(spec))),
                    None => {
                        exact.insert(Box::from(route.as_str()), Arc::clone(spec));
                    }
                }
            }
        }
        prefixes.sort_by_key(|(prefix, _): &(Box<str>, _)| std::cmp::Reverse(prefix.len()));
        Self { revision: revision.clone(), exact, prefixes }
    }

    /// Exact routes first, then the longest prefix. `/api/*` answers `/api` as well.
    fn find(&self, path: &str) -> Option<&Arc<FunctionSpec>> {
        self.exact.get(path).or_else(|| {
            let found = self.prefixes.iter().find(|(prefix, _)| {
                path.strip_prefix(&**prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            found.map(|(_, function)| function)
        })
    }
}

impl RouteTable {
    pub(crate) fn compile(snapshot: &Snapshot, before: &RouteTable) -> Self {
        let mut table = RouteTable { empty: true, ..RouteTable::default() };
        let mut of_revision = |revision: &Arc<RevisionState>| {
            let address = Arc::as_ptr(revision) as usize;
            // An address may be used again after a revision is gone: compare the rest.
            let kept = before.revisions.get(&address);
            let kept = kept.filter(|kept| Arc::ptr_eq(&kept.revision, revision)).cloned();
            table
                .revisions
                .entry(address)
                .or_insert_with(|| kept.unwrap_or_else(|| Arc::new(Compiled::new(revision))))
                .clone()
        };
        let mut sites = Vec::new();
        let mut previews = Vec::new();
        for app in &snapshot.apps {
            for revision in &app.revisions {
                let shares = vec![(100, of_revision(revision))];
                let host = format!("{}--{}.localhost", revision.id, app.name);
                previews.push((host, Arc::new(Site { app: app.clone(), shares })));
            }
            let mut sum = 0;
            let shares: Vec<_> = app
                .traffic
                .iter()
                .map(|share| {
                    sum += share.percent;
                    (sum, of_revision(&share.revision))
                })
                .collect();
            if !shares.is_empty() {
                sites.push(Arc::new(Site { app: app.clone(), shares }));
            }
        }
        table.empty = sites.is_empty();
        table.any = match sites.as_slice() {
            [only] => Some(only.clone()),
            _ => sites.iter().find(|site| site.app.default).cloned(),
        };
        for (host, site) in previews {
            table.hosts.insert(host.into(), site);
        }
        for site in &sites {
            for host in &site.app.hosts {
                table.hosts.insert(host.as_str().into(), site.clone());
            }
        }
        // Last, so that no app takes another's own name by listing it as a domain.
        for site in sites {
            table.hosts.insert(format!("{}.localhost", site.app.name).into(), site);
        }
        table
    }

    /// A revision that still serves, and what its app's environment is now.
    pub(crate) fn of_revision(
        &self,
        app: &AppName,
        revision: &RevisionId,
    ) -> Option<(Arc<Compiled>, Arc<Environment>)> {
        let site = self.hosts.get(format!("{revision}--{app}.localhost").as_str())?;
        let (_, compiled) = site.shares.first()?;
        Some((compiled.clone(), site.app.environment.clone()))
    }

    /// What an app serves now; `dice` as for `find`.
    pub(crate) fn of_app(
        &self,
        app: &AppName,
        dice: u8,
    ) -> Option<(Arc<Compiled>, Arc<Environment>)> {
        let site = self.hosts.get(format!("{app}.localhost").as_str())?;
        Some((site.choose(dice)?, site.app.environment.clone()))
    }

    /// `dice` is random, for apps whose traffic is split.
    pub(crate) fn find(&self, host: &str, path: &str, dice: u8) -> Result<Match, Rejection> {
        let Some(site) = self.hosts.get(host).or(self.any.as_ref()) else {
            let (code, message) = if self.empty {
                (ErrorCode::NothingDeployed, "deploy an app with `squall deploy`".to_owned())
            } else {
                (ErrorCode::NoRoute, format!("no app answers on {host}"))
            };
            return Err(Rejection::new(code, message));
        };
        let compiled = site
            .choose(dice)
            .ok_or_else(|| Rejection::new(ErrorCode::NoRoute, "the app has no live revision"))?;
        let function = compiled.find(path).cloned();
        if function.is_none() && compiled.revision.manifest.assets.is_none() {
            return Err(Rejection::new(
                ErrorCode::NoRoute,
                format!("the app {} has no route for {path}", site.app.name),
            ));
        }
        Ok(Match { app: site.app.clone(), compiled, function })
    }
}
