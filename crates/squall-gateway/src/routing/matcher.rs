//! From a path to the routes that could take it, in the order of HTTPRoute's precedence:
//! an exact path, a template, a regular expression, the longest prefix; among equal
//! paths a method, more headers, more query parameters, the first in the file.
//!
//! The cost does not grow with the number of routes: a map for exact paths, and a tree
//! of segments for the rest.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use regex::Regex;
use squall_types::gateway::{PathPattern, PathSegment};
use squall_types::shard::Spread;

use super::condition::{Asked, Verdict};
use super::route::Route;

/// The routes of one host.
#[derive(Default)]
pub(crate) struct Matcher {
    exact: HashMap<Box<str>, Vec<Spread<Candidate>>>,
    tree: Node,
    /// In the order of the file.
    regexes: Vec<(Arc<Regex>, Spread<Candidate>)>,
}

/// One route by one of its paths.
pub(crate) struct Candidate {
    pub(crate) route: Arc<Route>,
    pub(crate) by: Pattern,
}

impl Candidate {
    fn new(route: &Arc<Route>, by: Pattern) -> Spread<Self> {
        Spread::new(Self { route: route.clone(), by })
    }
}

/// What a path was matched by.
#[derive(Clone)]
pub(crate) enum Pattern {
    Path(Arc<PathPattern>),
    Regex(Arc<Regex>),
}

#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    /// Templates that end here.
    ends: Vec<Spread<Candidate>>,
    /// Prefixes that end here: they take whatever follows.
    prefixes: Vec<Spread<Candidate>>,
}

/// What was found for a request.
pub(crate) enum Found<'a> {
    Route(&'a Spread<Candidate>),
    /// Routes have the path, but not for this method.
    OtherMethods(Vec<Method>),
    Nothing,
}

/// Goes over candidates and remembers the methods of those that were passed by.
struct Search<'r> {
    asked: &'r Asked<'r>,
    methods: Vec<Method>,
}

impl Search<'_> {
    fn first<'a>(&mut self, candidates: &'a [Spread<Candidate>]) -> Option<&'a Spread<Candidate>> {
        candidates.iter().find(|candidate| match candidate.route.conditions.judge(self.asked) {
            Verdict::Takes => true,
            Verdict::OtherMethod => {
                self.methods.extend_from_slice(&candidate.route.conditions.methods);
                false
            }
            Verdict::Header(_) | Verdict::Query(_) => false,
        })
    }
}

impl Matcher {
    pub(crate) fn add_path(&mut self, pattern: &Arc<PathPattern>, route: &Arc<Route>) {
        let candidate = Candidate::new(route, Pattern::Path(pattern.clone()));
        let literal = pattern.parameters().next().is_none();
        if literal && !pattern.is_prefix {
            self.exact.entry(literal_path(pattern)).or_default().push(candidate);
            return;
        }
        let mut node = &mut self.tree;
        for segment in &pattern.segments {
            node = match segment {
                PathSegment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                PathSegment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        if pattern.is_prefix {
            node.prefixes.push(candidate);
        } else {
            node.ends.push(candidate);
        }
    }

    pub(crate) fn add_regex(&mut self, regex: &Arc<Regex>, route: &Arc<Route>) {
        let candidate = Candidate::new(route, Pattern::Regex(regex.clone()));
        self.regexes.push((regex.clone(), candidate));
    }

    /// Puts the candidates of every path into the order in which they are tried.
    pub(crate) fn sort(&mut self) {
        for candidates in self.exact.values_mut() {
            sort(candidates);
        }
        self.tree.sort();
        self.regexes.sort_by_key(|(_, candidate)| candidate.route.rank());
    }

    pub(crate) fn find(&self, asked: &Asked<'_>) -> Found<'_> {
        let mut search = Search { asked, methods: Vec::new() };
        let path = asked.path;
        let exact = self.exact.get(path).and_then(|candidates| search.first(candidates));
        let rest = path.strip_prefix('/');
        let found = exact
            .or_else(|| self.tree.find_end(rest, &mut search))
            .or_else(|| {
                let mut regexes = self.regexes.iter();
                regexes.find_map(|(regex, candidate)| {
                    let matches = regex.is_match(path);
                    matches.then(|| search.first(std::slice::from_ref(candidate))).flatten()
                })
            })
            .or_else(|| Some(self.tree.find_prefix(rest, &mut search)?.1));
        match found {
            Some(candidate) => Found::Route(candidate),
            None if search.methods.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.methods),
        }
    }
}

impl Matcher {
    /// All candidates whose pattern takes the path, the best first.
    pub(crate) fn of_path(&self, path: &str) -> Vec<&Spread<Candidate>> {
        let mut found: Vec<&Spread<Candidate>> =
            self.exact.get(path).into_iter().flatten().collect();
        let rest = path.strip_prefix('/');
        self.tree.all_ends(rest, &mut found);
        let regexes = self.regexes.iter().filter(|(regex, _)| regex.is_match(path));
        found.extend(regexes.map(|(_, candidate)| candidate));
        let mut prefixes = Vec::new();
        self.tree.all_prefixes(rest, 0, &mut prefixes);
        prefixes.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        found.extend(prefixes.into_iter().map(|(_, candidate)| candidate));
        found
    }
}

/// The first segment, and what follows its slash.
fn split(rest: &str) -> (&str, Option<&str>) {
    match rest.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (rest, None),
    }
}

impl Node {
    /// A template that ends where the path does; literal segments are tried first.
    fn find_end<'a>(
        &'a self,
        rest: Option<&str>,
        search: &mut Search<'_>,
    ) -> Option<&'a Spread<Candidate>> {
        let Some(rest) = rest else { return search.first(&self.ends) };
        self.below(rest).find_map(|(node, rest)| node.find_end(rest, search))
    }

    /// The prefix that reaches farthest into the path, and by how many segments. Of two that
    /// reach equally far, the one that has a literal segment first.
    fn find_prefix<'a>(
        &'a self,
        rest: Option<&str>,
        search: &mut Search<'_>,
    ) -> Option<(usize, &'a Spread<Candidate>)> {
        let mut farthest: Option<(usize, _)> = None;
        for (node, rest) in rest.into_iter().flat_map(|rest| self.below(rest)) {
            if let Some((length, candidate)) = node.find_prefix(rest, search)
                && farthest.is_none_or(|(before, _)| length + 1 > before)
            {
                farthest = Some((length + 1, candidate));
            }
        }
        farthest.or_else(|| search.first(&self.prefixes).map(|candidate| (0, candidate)))
    }

    fn all_ends<'a>(&'a self, rest: Option<&str>, found: &mut Vec<&'a Spread<Candidate>>) {
        let Some(rest) = rest else { return found.extend(&self.ends) };
        for (node, rest) in self.below(rest) {
            node.all_ends(rest, found);
        }
    }

    fn all_prefixes<'a>(
        &'a self,
        rest: Option<&str>,
        length: usize,
        found: &mut Vec<(usize, &'a Spread<Candidate>)>,
    ) {
        for (node, rest) in rest.into_iter().flat_map(|rest| self.below(rest)) {
            node.all_prefixes(rest, length + 1, found);
        }
        found.extend(self.prefixes.iter().map(|candidate| (length, candidate)));
    }

    /// The nodes that the next segment leads to, the literal one first.
    fn below<'n, 'p>(
        &'n self,
        rest: &'p str,
    ) -> impl Iterator<Item = (&'n Node, Option<&'p str>)> + use<'n, 'p> {
        let (segment, rest) = split(rest);
        let parameter = self.parameter.as_deref().filter(|_| !segment.is_empty());
        self.literals.get(segment).into_iter().chain(parameter).map(move |node| (node, rest))
    }

    fn sort(&mut self) {
        sort(&mut self.ends);
        sort(&mut self.prefixes);
        for node in self.literals.values_mut() {
            node.sort();
        }
        if let Some(node) = &mut self.parameter {
            node.sort();
        }
    }
}

fn sort(candidates: &mut [Spread<Candidate>]) {
    candidates.sort_by_key(|candidate| candidate.route.rank());
}

fn literal_path(pattern: &PathPattern) -> Box<str> {
    let mut path = String::new();
    for segment in &pattern.segments {
        path.push('/');
        if let PathSegment::Literal(text) = segment {
            path.push_str(text);
        }
    }
    path.into()
}

impl Pattern {
    /// As it was written.
    pub(crate) fn describe(&self) -> String {
        let pattern = match self {
            Pattern::Regex(regex) => return format!("the regular expression {regex}"),
            Pattern::Path(pattern) => pattern,
        };
        let mut text = String::new();
        for segment in &pattern.segments {
            text.push('/');
            match segment {
                PathSegment::Literal(literal) => text.push_str(literal),
                PathSegment::Parameter(name) => {
                    text.push_str(&format!("{{{name}}}"));
                }
            }
        }
        if pattern.is_prefix {
            text.push_str("/*");
        }
        text
    }

    /// What the parameters are in a path that it matches.
    pub(crate) fn parameters<'p>(&self, path: &'p str) -> Vec<(Box<str>, &'p str)> {
        match self {
            Pattern::Path(pattern) => {
                let parts = path.strip_prefix('/').unwrap_or(path).split('/');
                let named =
                    pattern.segments.iter().zip(parts).filter_map(
                        |(segment, part)| match segment {
                            PathSegment::Parameter(name) => Some((name.clone(), part)),
                            PathSegment::Literal(_) => None,
                        },
                    );
                named.collect()
            }
            Pattern::Regex(regex) => {
                let Some(captures) = regex.captures(path) else { return Vec::new() };
                let names = regex.capture_names().flatten();
                let named = names.filter_map(|name| {
                    captures.name(name).map(|found| (Box::from(name), found.as_str()))
                });
                named.collect()
            }
        }
    }

    /// What follows the prefix in a path that it matches, without a slash between.
    pub(crate) fn behind_prefix<'p>(&self, path: &'p str) -> &'p str {
        let Pattern::Path(pattern) = self else { return path };
        let mut rest = path;
        for _ in &pattern.segments {
            let inner = rest.strip_prefix('/').unwrap_or(rest);
            rest = inner.find('/').map_or("", |slash| &inner[slash..]);
        }
        rest.strip_prefix('/').unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests;
