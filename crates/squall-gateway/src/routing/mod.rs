//! From a host, a method and a path to the route that answers: compiled from a snapshot,
//! off the path, and swapped whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;
use http::header::{HeaderMap, HeaderName};
use squall_types::gateway::{PathPattern, compile_regex};
use squall_types::shard::{Local, Spread};
use squall_types::state::{AppState, Environment, FunctionSpec, RevisionState, Snapshot};
use squall_types::usage::UpstreamKey;
use squall_types::{AppName, ErrorCode, FunctionName, RevisionId};

use crate::Door;
use crate::assets;
use crate::policy::limits::Plans;
use crate::proxy::UpstreamPool;
use crate::rejection::Rejection;
use crate::route_metrics::RouteMetrics;

pub(crate) mod condition;
mod matcher;
mod route;
pub(crate) mod sticky;

pub(crate) use condition::Asked;
pub(crate) use matcher::{Candidate, Found, Matcher, Pattern};
pub(crate) use route::{Backend, Fixed, Route, Target};

use sticky::{Point, Sticky};

/// All hosts of a node.
#[derive(Default)]
pub(crate) struct RouteTable {
    hosts: HashMap<Box<str>, Arc<Spread<Site>>>,
    /// By the name behind `*.`.
    wildcards: HashMap<Box<str>, Arc<Spread<Site>>>,
    /// Answers on every other host.
    any: Option<Arc<Spread<Site>>>,
    empty: bool,
    /// By address; an unchanged revision is not compiled again.
    revisions: HashMap<usize, Arc<Spread<Compiled>>>,
}

/// What one host name leads to.
pub(crate) struct Site {
    pub(crate) app: Arc<AppState>,
    name: Spread<AppName>,
    environment: Spread<Environment>,
    /// Percent, ending at 100.
    shares: Vec<(u32, Arc<Spread<Compiled>>)>,
    revision_header: Option<HeaderName>,
    /// The preview of a revision without traffic, in an app that wants none.
    hidden: bool,
    sticky: Option<Sticky>,
}

/// One revision, ready to be matched against.
pub(crate) struct Compiled {
    pub(crate) revision: Arc<RevisionState>,
    /// Routes for hosts of their own, the most telling names first.
    by_host: Vec<(HostPattern, Matcher)>,
    everywhere: Matcher,
    /// The app's files, for what no route takes.
    files: Option<Arc<Spread<Candidate>>>,
    /// All routes, for those who count them.
    pub(crate) routes: Vec<Arc<Route>>,
}

/// A host of a route: a name, or every name below one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Exact(Box<str>),
    Below(Box<str>),
}

/// Everything that a route may be made of.
pub(crate) struct Compiling<'a> {
    pub(crate) revision: &'a RevisionState,
    pub(crate) door: &'a Arc<Door>,
    pub(crate) plans: Arc<Plans>,
}

/// Who answers a request.
#[derive(Clone)]
pub(crate) struct Match {
    site: Local<Site>,
    pub(crate) compiled: Local<Compiled>,
    pub(crate) candidate: Local<Candidate>,
}

impl Compiling<'_> {
    pub(crate) fn function(&self, name: &FunctionName) -> Option<Backend> {
        let mut functions = self.revision.functions.iter();
        let function = functions.find(|function| function.key.function == *name)?;
        Some(Backend::Function(Arc::new(function.clone().into())))
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<Backend> {
        let settings = self.revision.manifest.upstreams.get(name)?;
        let RevisionState { app, id, .. } = self.revision;
        let pool = self.door.upstreams.compile(app, name, settings);
        let (app, revision, upstream) = (app.clone(), id.clone(), name.to_owned());
        let key = Spread::new(UpstreamKey { app, revision, upstream });
        Some(Backend::Upstream(Arc::new(pool.into()), Arc::new(key)))
    }

    /// The counters of a route of this app, also of an earlier configuration.
    pub(crate) fn metrics(&self, route: &Arc<str>) -> Arc<RouteMetrics> {
        self.door.route_metrics.of(&self.revision.app, route)
    }
}

impl HostPattern {
    fn parse(text: &str) -> Self {
        match text.strip_prefix("*.") {
            Some(parent) => Self::Below(parent.into()),
            None => Self::Exact(text.into()),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Below(parent) => host
                .strip_suffix(&**parent)
                .is_some_and(|head| head.len() > 1 && head.ends_with('.')),
        }
    }

    /// Names before wildcards, and longer before shorter.
    fn rank(&self) -> impl Ord + use<> {
        match self {
            Self::Exact(name) => (false, usize::MAX - name.len()),
            Self::Below(parent) => (true, usize::MAX - parent.len()),
        }
    }
}

impl Compiled {
    fn new(revision: &Arc<RevisionState>, door: &Arc<Door>) -> Self {
        let plans = Arc::new(Plans::compile(&revision.manifest, &door.limits));
        let compiling = Compiling { revision, door, plans };
        let mut compiled = Self {
            revision: revision.clone(),
            by_host: Vec::new(),
            everywhere: Matcher::default(),
            files: None,
            routes: Vec::new(),
        };
        compiled.add_tables(&compiling);
        compiled.add_functions(&compiling);
        if revision.manifest.assets.is_some() {
            let route = Arc::new(Route::of_assets(usize::MAX, &compiling));
            let every = PathPattern { segments: Vec::new(), is_prefix: true };
            let by = Pattern::Path(Arc::new(every));
            compiled.files = Some(Arc::new(Spread::new(Candidate { route: route.clone(), by })));
            compiled.routes.push(route);
        }
        compiled.everywhere.sort();
        compiled.by_host.sort_by_key(|(host, _)| host.rank());
        for (_, matcher) in &mut compiled.by_host {
            matcher.sort();
        }
        compiled
    }

    fn add_tables(&mut self, compiling: &Compiling<'_>) {
        for (index, table) in compiling.revision.manifest.routes.iter().enumerate() {
            let Some(route) = Route::of_table(table, index, index, compiling) else { continue };
            let route = Arc::new(route);
            self.routes.push(route.clone());
            let mut patterns: Vec<Arc<PathPattern>> = table
                .paths
                .iter()
                .filter_map(|path| PathPattern::parse(path).ok().map(Arc::new))
                .collect();
            let regex = table.path_regex.as_deref().and_then(|text| compile_regex(text).ok());
            let regex = regex.map(Arc::new);
            if patterns.is_empty() && regex.is_none() {
                patterns.push(Arc::new(PathPattern { segments: Vec::new(), is_prefix: true }));
            }
            for matcher in self.matchers_of(&table.hosts) {
                for pattern in &patterns {
                    matcher.add_path(pattern, &route);
                }
                if let Some(regex) = &regex {
                    matcher.add_regex(regex, &route);
                }
            }
        }
    }

    /// A matcher for each host; the one for all when there are none.
    fn matchers_of(&mut self, hosts: &[String]) -> Vec<&mut Matcher> {
        if hosts.is_empty() {
            return vec![&mut self.everywhere];
        }
        let wanted: Vec<HostPattern> = hosts.iter().map(|host| HostPattern::parse(host)).collect();
        for host in &wanted {
            if !self.by_host.iter().any(|(known, _)| known == host) {
                self.by_host.push((host.clone(), Matcher::default()));
            }
        }
        let matchers = self.by_host.iter_mut().filter(|(host, _)| wanted.contains(host));
        matchers.map(|(_, matcher)| matcher).collect()
    }

    fn add_functions(&mut self, compiling: &Compiling<'_>) {
        let first = compiling.revision.manifest.routes.len();
        let functions: BTreeMap<&FunctionName, _> =
            compiling.revision.manifest.functions.iter().collect();
        for (index, (name, function)) in functions.into_iter().enumerate() {
            let has_parameters = function.routes.iter().any(|path| path.contains('{'));
            let (policy, order) = (&function.policy, first + index);
            let route = Route::of_function(name, policy, has_parameters, order, compiling);
            let Some(route) = route.filter(|_| !function.routes.is_empty()) else { continue };
            let route = Arc::new(route);
            for path in &function.routes {
                if let Ok(pattern) = PathPattern::parse(path) {
                    self.everywhere.add_path(&Arc::new(pattern), &route);
                }
            }
            self.routes.push(route);
        }
    }

    /// The matchers whose host fits, in the order in which they are asked.
    pub(crate) fn matchers(&self, host: &str) -> impl Iterator<Item = &Matcher> {
        let own = self.by_host.iter().filter(move |(pattern, _)| pattern.matches(host));
        own.map(|(_, matcher)| matcher).chain([&self.everywhere])
    }

    /// What takes this path, the best first, whatever else it asks for.
    pub(crate) fn of_path(
        &self,
        host: &str,
        path: &str,
    ) -> impl Iterator<Item = &Spread<Candidate>> {
        let routes = self.matchers(host).flat_map(move |matcher| matcher.of_path(path));
        routes.chain(self.files.as_deref())
    }

    fn find(&self, host: &str, asked: &Asked<'_>) -> Result<Local<Candidate>, Rejection> {
        let mut methods = Vec::new();
        for matcher in self.matchers(host) {
            match matcher.find(asked) {
                Found::Route(candidate) => return Ok(candidate.own()),
                Found::OtherMethods(other) => methods.extend(other),
                Found::Nothing => {}
            }
        }
        let (app, path) = (&self.revision.app, asked.path);
        // A path of routes for other methods is nobody else's, unless it is that of a file.
        if let Some(files) = &self.files
            && (methods.is_empty() || assets::is_file(&self.revision, path))
        {
            return Ok(files.own());
        }
        if methods.is_empty() {
            let message = format!("the app {app} has no route for {path}");
            return Err(Rejection::new(ErrorCode::NoRoute, message));
        }
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
        let allowed = allowed.join(", ");
        let message = format!("{path} is there for {allowed}");
        Err(Rejection::new(ErrorCode::MethodNotAllowed, message)
            .with_header(http::header::ALLOW, &allowed))
    }
}

impl Site {
    fn new(app: &Arc<AppState>, shares: Vec<(u32, Arc<Spread<Compiled>>)>) -> Self {
        let gateway = app.leading().map(|revision| &revision.manifest.gateway);
        let header = gateway.and_then(|gateway| gateway.revision_header.as_deref());
        Self {
            app: app.clone(),
            name: Spread::new(app.name.clone()),
            environment: app.environment.clone().into(),
            shares,
            revision_header: header.and_then(|name| name.parse().ok()),
            hidden: false,
            sticky: gateway
                .and_then(|gateway| gateway.sticky.as_ref())
                .and_then(|sticky| Sticky::new(sticky, format!("revisions of {}", app.name))),
        }
    }

    fn at(&self, point: u32) -> Option<Local<Compiled>> {
        let place = point % 100;
        let chosen = self.shares.iter().find(|(upto, _)| place < *upto);
        chosen.or(self.shares.last()).map(|(_, compiled)| compiled.own())
    }

    fn point(&self, headers: &HeaderMap) -> Point {
        match &self.sticky {
            Some(sticky) if self.shares.len() > 1 => sticky.point(headers, &[]),
            _ if self.shares.len() > 1 => Point::anywhere(),
            _ => Point { at: 0, set_cookie: None },
        }
    }

    /// The revision that a request asks for by its header.
    fn forced<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        headers.get(self.revision_header.as_ref()?)?.to_str().ok()
    }
}

/// A site, the revision that answers there, and what brings the caller back to it.
pub(crate) struct Chosen {
    pub(crate) site: Local<Site>,
    pub(crate) compiled: Local<Compiled>,
    pub(crate) set_cookie: Option<http::HeaderValue>,
}

impl RouteTable {
    pub(crate) fn compile(snapshot: &Snapshot, before: &RouteTable, door: &Arc<Door>) -> Self {
        let mut table = RouteTable { empty: true, ..RouteTable::default() };
        let mut of_revision = |revision: &Arc<RevisionState>| {
            let address = Arc::as_ptr(revision) as usize;
            // An address may be used again after a revision is gone: compare the rest.
            let kept = before.revisions.get(&address);
            let kept = kept.filter(|kept| Arc::ptr_eq(&kept.revision, revision)).cloned();
            table
                .revisions
                .entry(address)
                .or_insert_with(|| {
                    let compile = || Arc::new(Spread::new(Compiled::new(revision, door)));
                    kept.unwrap_or_else(compile)
                })
                .clone()
        };
        let mut sites = Vec::new();
        let mut previews = Vec::new();
        for app in &snapshot.apps {
            for revision in &app.revisions {
                let shares = vec![(100, of_revision(revision))];
                let host = preview_host(&revision.id, &app.name);
                let mut site = Site::new(app, shares);
                site.hidden = !app.answers_alone(&revision.id);
                previews.push((host, Arc::new(Spread::new(site))));
            }
            let mut sum = 0;
            let shares: Vec<_> = app
                .traffic
                .iter()
                .map(|share| {
                    sum += u32::from(share.percent);
                    (sum, of_revision(&share.revision))
                })
                .collect();
            if !shares.is_empty() {
                sites.push(Arc::new(Spread::new(Site::new(app, shares))));
            }
        }
        table.empty = sites.is_empty();
        table.any = match sites.as_slice() {
            [only] => Some(only.clone()),
            _ => sites.iter().find(|site| site.app.default).cloned(),
        };
        for site in &sites {
            for host in &site.app.hosts {
                match HostPattern::parse(host) {
                    HostPattern::Exact(name) => table.hosts.insert(name, site.clone()),
                    HostPattern::Below(parent) => table.wildcards.insert(parent, site.clone()),
                };
            }
        }
        // Last, so that no app takes a name of another's by listing it as a domain.
        for (host, site) in previews {
            table.hosts.insert(host.into(), site);
        }
        for site in sites {
            table.hosts.insert(format!("{}.localhost", site.app.name).into(), site);
        }
        let apps: HashMap<_, _> = snapshot.apps.iter().map(|app| (&app.name, app)).collect();
        door.upstreams.note_current(|pool| {
            let app = apps.get(&pool.app);
            app.is_some_and(|app| app.traffic.iter().any(|share| leads_to(&share.revision, pool)))
        });
        table
    }

    /// The revisions whose requests go to this pool.
    pub(crate) fn revisions_with(&self, pool: &UpstreamPool) -> Vec<RevisionId> {
        let states = self.revisions.values().map(|compiled| &compiled.revision);
        let with = states.filter(|revision| leads_to(revision, pool));
        let mut ids: Vec<_> = with.map(|revision| revision.id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// A revision that still serves, and what its app's environment is now.
    pub(crate) fn of_revision(
        &self,
        app: &AppName,
        revision: &RevisionId,
    ) -> Option<(Local<Compiled>, Local<Environment>)> {
        let site = self.preview(app, revision)?;
        let (_, compiled) = site.shares.first()?;
        Some((compiled.own(), site.environment.own()))
    }

    fn preview(&self, app: &AppName, revision: &RevisionId) -> Option<&Spread<Site>> {
        self.hosts.get(preview_host(revision, app).as_str()).map(|site| &**site)
    }

    /// What an app serves now.
    pub(crate) fn of_app(&self, app: &AppName) -> Option<(Local<Compiled>, Local<Environment>)> {
        let site = self.hosts.get(format!("{app}.localhost").as_str())?;
        Some((site.at(Point::anywhere().at)?, site.environment.own()))
    }

    fn site(&self, host: &str) -> Option<&Spread<Site>> {
        let site = self.hosts.get(host).or_else(|| self.wildcard(host).map(|(_, site)| site));
        site.or(self.any.as_ref()).map(|site| &**site)
    }

    /// The nearest name above that has a wildcard.
    fn wildcard<'h>(&self, host: &'h str) -> Option<(&'h str, &Arc<Spread<Site>>)> {
        if self.wildcards.is_empty() {
            return None;
        }
        let above = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        above.into_iter().find_map(|parent| Some((parent, self.wildcards.get(parent)?)))
    }

    /// How a host leads to its app.
    pub(crate) fn describe_host(&self, host: &str) -> String {
        if self.hosts.contains_key(host) {
            return host.to_owned();
        }
        match self.wildcard(host) {
            Some((parent, _)) => format!("*.{parent}"),
            None => "any host".to_owned(),
        }
    }

    /// Which app answers on a host, and by which of its revisions.
    pub(crate) fn choose(&self, host: &str, headers: &HeaderMap) -> Result<Chosen, Rejection> {
        let Some(site) = self.site(host) else {
            let (code, message) = if self.empty {
                (ErrorCode::NothingDeployed, "deploy an app with `squall deploy`".to_owned())
            } else {
                (ErrorCode::NoRoute, format!("no app answers on {host}"))
            };
            return Err(Rejection::new(code, message));
        };
        if site.hidden {
            let message = format!("the app {} has no previews", site.app.name);
            return Err(Rejection::new(ErrorCode::RevisionNotServed, message));
        }
        if let Some(wanted) = site.forced(headers) {
            let revision = RevisionId::parse(wanted).ok();
            let preview = revision.and_then(|id| self.preview(&site.app.name, &id));
            let found =
                preview.filter(|preview| !preview.hidden).and_then(|one| one.shares.first());
            let Some((_, compiled)) = found else {
                let message =
                    format!("the app {} has no revision {wanted:?} to answer", site.app.name);
                return Err(Rejection::new(ErrorCode::RevisionNotServed, message));
            };
            let compiled = compiled.own();
            return Ok(Chosen { site: site.own(), compiled, set_cookie: None });
        }
        let point = site.point(headers);
        let compiled = site
            .at(point.at)
            .ok_or_else(|| Rejection::new(ErrorCode::NoRoute, "the app has no live revision"))?;
        Ok(Chosen { site: site.own(), compiled, set_cookie: point.set_cookie })
    }
}

impl Chosen {
    pub(crate) fn find(
        &self,
        host: &str,
        asked: &Asked<'_>,
    ) -> Result<Local<Candidate>, Rejection> {
        self.compiled.find(host, asked)
    }

    /// The best route that has this path, for whatever method.
    pub(crate) fn of_path(&self, host: &str, path: &str) -> Option<Local<Candidate>> {
        Some(self.compiled.of_path(host, path).next()?.own())
    }

    /// With the route that was found there.
    pub(crate) fn with(self, candidate: Local<Candidate>) -> Match {
        Match { site: self.site, compiled: self.compiled, candidate }
    }
}

impl Match {
    pub(crate) fn app(&self) -> &AppState {
        &self.site.app
    }

    pub(crate) fn app_name(&self) -> Local<AppName> {
        self.site.name.own()
    }

    pub(crate) fn environment(&self) -> Local<Environment> {
        self.site.environment.own()
    }

    /// Whether the route leads to one of several.
    pub(crate) fn splits(&self) -> bool {
        matches!(self.route().target, Target::Split(_))
    }

    pub(crate) fn route(&self) -> &Route {
        &self.candidate.route
    }
}

/// Whether requests of this revision go to this pool.
fn leads_to(revision: &RevisionState, pool: &UpstreamPool) -> bool {
    let settings = revision.manifest.upstreams.get(&*pool.name);
    revision.app == pool.app && settings == Some(&pool.settings)
}

fn preview_host(revision: &RevisionId, app: &AppName) -> String {
    format!("{revision}--{app}.localhost")
}

/// The functions of a revision by name.
pub(crate) fn function_named<'r>(
    revision: &'r RevisionState,
    name: &FunctionName,
) -> Option<&'r Arc<FunctionSpec>> {
    revision.functions.iter().find(|function| function.key.function == *name)
}

#[cfg(test)]
mod tests;
