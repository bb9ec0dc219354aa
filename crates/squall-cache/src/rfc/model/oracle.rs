//! What the RFCs forbid. It knows what the origin meant, never reads a header that a cache
//! reads, and shares no code with what it judges.

use std::fmt;

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use squall_types::gateway::Cache;

use super::chance::Chance;
use super::origin::{ID, Representation, id_of};
use super::request::{CHOICES, Request, Span, Validator};

/// What a caller got.
pub(super) struct Given {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers, body } = self;
        write!(f, "{status} with {} bytes and {headers:#?}", body.len())
    }
}

/// What happened while it was made.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) now_s: u64,
    pub(super) answered_at_s: Option<u64>,
    /// Before the answer left.
    received: Vec<usize>,
    failed: bool,
}

impl Context {
    pub(super) fn at(now_s: u64) -> Self {
        Self { now_s, answered_at_s: None, received: Vec::new(), failed: false }
    }

    pub(super) fn received(&mut self, id: usize) {
        if self.answered_at_s.is_none() {
            self.received.push(id);
        }
    }

    pub(super) fn fails(&mut self) {
        self.failed |= self.answered_at_s.is_none();
    }
}

/// What a response of the origin means. Times are seconds of Unix time.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) of_head: bool,
    pub(super) is_safe: bool,
    pub(super) status: u16,
    pub(super) representation: Representation,
    /// What the request had of `CHOICES`.
    pub(super) choices: [Option<&'static str>; 3],
    pub(super) authorized: bool,
    pub(super) request_forbids_storing: bool,
    pub(super) requested_at_s: u64,
    pub(super) received_at_s: u64,
    pub(super) date_s: Option<u64>,
    pub(super) age_s: Option<u64>,
    /// 0 for what is no date.
    pub(super) expires_s: Option<u64>,
    pub(super) modified_s: Option<u64>,
    pub(super) tag: Option<String>,
    pub(super) said: Option<Said>,
    pub(super) targeted: Option<Said>,
    pub(super) varies: Vec<&'static str>,
    pub(super) varies_by_everything: bool,
    pub(super) sets_cookie: bool,
    /// Of a 206: from, and to (not part of it).
    pub(super) part: Option<(u64, u64)>,
    /// Of a stored response that was found to be good.
    pub(super) is_renewed: bool,
}

impl Default for Representation {
    fn default() -> Self {
        Self { resource: usize::MAX, bytes: Vec::new() }
    }
}

/// What Cache-Control says, or its targeted form.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    no_store: bool,
    no_cache: bool,
    private: bool,
    public: bool,
    must_revalidate: bool,
    proxy_revalidate: bool,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    stale_while_revalidate: Option<u64>,
    stale_if_error: Option<u64>,
    /// Of one field, `X-Secret`.
    private_field: bool,
    no_cache_field: bool,
}

impl Said {
    pub(super) fn any(chance: &mut Chance) -> Self {
        let mut said = Self::default();
        let seconds = |chance: &mut Chance| Some(chance.pick(&[0, 1, 5, 20, 60, 60, 300]));
        if !chance.one_in(4) {
            said.max_age = seconds(chance);
        }
        if chance.one_in(6) {
            said.s_maxage = seconds(chance);
        }
        if chance.one_in(4) {
            said.stale_while_revalidate = seconds(chance);
        }
        if chance.one_in(4) {
            said.stale_if_error = seconds(chance);
        }
        said.no_store = chance.one_in(15);
        said.no_cache = chance.one_in(15);
        said.private = chance.one_in(15);
        said.public = chance.one_in(5);
        said.must_revalidate = chance.one_in(10);
        said.proxy_revalidate = chance.one_in(15);
        said.private_field = chance.one_in(15) && !said.private;
        said.no_cache_field = chance.one_in(15) && !said.no_cache;
        said
    }

    pub(super) fn says_something(&self) -> bool {
        !self.members().is_empty()
    }

    fn members(&self) -> Vec<String> {
        let flags = [
            (self.no_store, "no-store"),
            (self.no_cache, "no-cache"),
            (self.private, "private"),
            (self.public, "public"),
            (self.must_revalidate, "must-revalidate"),
            (self.proxy_revalidate, "proxy-revalidate"),
        ];
        let numbers = [
            (self.max_age, "max-age"),
            (self.s_maxage, "s-maxage"),
            (self.stale_while_revalidate, "stale-while-revalidate"),
            (self.stale_if_error, "stale-if-error"),
        ];
        let flags = flags.iter().filter(|(is, _)| *is).map(|(_, name)| (*name).to_owned());
        let numbers = numbers
            .iter()
            .filter_map(|(seconds, name)| seconds.map(|seconds| format!("{name}={seconds}")));
        flags.chain(numbers).collect()
    }

    /// Lines of Cache-Control, as odd as they may be.
    pub(super) fn written(&self, chance: &mut Chance) -> Vec<String> {
        let mut members: Vec<String> = self
            .members()
            .into_iter()
            .map(|member| match chance.below(5) {
                0 => member.to_uppercase(),
                1 => match member.split_once('=') {
                    Some((name, value)) => format!("{name}=\"{value}\""),
                    None => member,
                },
                _ => member,
            })
            .collect();
        if self.private_field {
            members.push("private=\"X-Secret\"".to_owned());
        }
        if self.no_cache_field {
            members.push("no-cache=\"x-secret, x-other\"".to_owned());
        }
        if chance.one_in(6) {
            members.push("extension=\"a, no-store, max-age=9999\"".to_owned());
        }
        if members.len() > 1 && chance.one_in(4) {
            return members;
        }
        vec![members.join(chance.pick(&[", ", ",", " ,  ", ",,"]))]
    }

    /// As a structured field.
    pub(super) fn written_plainly(&self) -> String {
        self.members().join(", ")
    }
}

/// What a field of a request says, whatever its form: lists without the space around their
/// members, what has no order in one order.
pub(super) fn same_choice(name: &str, value: Option<&str>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let mut members: Vec<String> =
        value.split(',').map(|member| member.trim().to_owned()).collect();
    if name == "accept-encoding" {
        for member in &mut members {
            *member = member.to_lowercase().replace(";q=1.0", "");
        }
        members.sort();
    }
    format!("={}", members.join(","))
}

/// Counts, so that a test which sees nothing is not taken for a good one.
#[derive(Debug, Default)]
pub(super) struct Seen {
    exchanges: u64,
    fresh: u64,
    stale: u64,
    instead_of_an_error: u64,
    validated: u64,
    not_modified: u64,
    parts: u64,
    several_parts: u64,
    unsatisfiable: u64,
    put_together: u64,
    heads: u64,
    for_others: u64,
    failures_kept: u64,
}

impl Seen {
    pub(super) fn has_enough_of_everything(&self) {
        println!("{self:#?}");
        let Self { exchanges, fresh, stale, instead_of_an_error, validated, .. } = *self;
        let Self { not_modified, parts, several_parts, unsatisfiable, put_together, .. } = *self;
        let Self { heads, for_others, failures_kept, .. } = *self;
        assert_eq!(exchanges, super::WORLDS * super::EXCHANGES_OF_A_WORLD);
        for (what, count, least) in [
            ("fresh answers", fresh, 10_000),
            ("stale answers", stale, 500),
            ("answers in place of an error", instead_of_an_error, 100),
            ("validated answers", validated, 500),
            ("304", not_modified, 500),
            ("parts", parts, 500),
            ("several parts", several_parts, 100),
            ("416", unsatisfiable, 100),
            ("answers of parts that were put together", put_together, 100),
            ("heads", heads, 200),
            ("stored responses to authorized requests", for_others, 100),
            ("stored failures and redirections", failures_kept, 100),
        ] {
            assert!(count >= least, "only {count} {what}");
        }
    }
}

pub(super) struct Oracle {
    rules: Cache,
    facts: Vec<Facts>,
    /// By resource: responses with a lower number must be validated before they are used,
    /// and may not be used at all.
    changed: Vec<usize>,
    purged: Vec<usize>,
    softly_purged: Vec<usize>,
}

impl Oracle {
    pub(super) fn new(rules: Cache) -> Self {
        let nothing = vec![0; super::origin::RESOURCES];
        Self {
            rules,
            facts: Vec::new(),
            changed: nothing.clone(),
            purged: nothing.clone(),
            softly_purged: nothing,
        }
    }

    pub(super) fn next_id(&self) -> usize {
        self.facts.len()
    }

    pub(super) fn remember(&mut self, id: usize, facts: Facts) {
        assert_eq!(id, self.facts.len());
        self.facts.push(facts);
    }

    pub(super) fn changed(&mut self, resource: usize) {
        // The response that changed it has the next number, and is about it afterwards.
        self.changed[resource] = self.facts.len();
    }

    pub(super) fn purged(&mut self, resource: usize, soft: bool) {
        let which = if soft { &mut self.softly_purged } else { &mut self.purged };
        which[resource] = self.facts.len();
    }

    /// RFC 9111, section 3.2: what the news says takes the place of what was there, and what
    /// it leaves out stays.
    pub(super) fn renewed(&mut self, stored: usize, news: usize) {
        let (old, new) = (self.facts[stored].clone(), self.facts[news].clone());
        assert_eq!(old.representation.resource, new.representation.resource);
        self.facts[news] = Facts {
            of_head: old.of_head,
            is_safe: old.is_safe,
            status: old.status,
            part: old.part,
            representation: old.representation,
            choices: old.choices,
            varies: old.varies,
            varies_by_everything: old.varies_by_everything || new.varies_by_everything,
            authorized: old.authorized || new.authorized,
            request_forbids_storing: old.request_forbids_storing || new.request_forbids_storing,
            requested_at_s: new.requested_at_s,
            received_at_s: new.received_at_s,
            date_s: new.date_s.or(Some(new.received_at_s)),
            age_s: new.age_s,
            expires_s: new.expires_s.or(old.expires_s),
            modified_s: new.modified_s.or(old.modified_s),
            // The tag that was validated is equal to it, if only weakly.
            tag: old.tag.or(new.tag),
            said: new.said.or(old.said),
            targeted: new.targeted.or(old.targeted),
            sets_cookie: false,
            is_renewed: true,
        };
    }

    /// A validator that the resource has or had.
    pub(super) fn some_validator(&self, chance: &mut Chance, resource: usize) -> Option<Validator> {
        for _ in 0..12 {
            let latest = self.facts.len().checked_sub(1 + chance.below(30))?;
            let facts = &self.facts[latest];
            if facts.representation.resource != resource {
                continue;
            }
            let tag = facts.tag.clone().map(Validator::Tag);
            let date = facts.modified_s.map(Validator::Date);
            return if chance.one_in(2) { date.or(tag) } else { tag.or(date) };
        }
        None
    }

    pub(super) fn judge(
        &self,
        request: &Request,
        given: &Given,
        context: &Context,
        seen: &mut Seen,
    ) -> Result<(), String> {
        seen.exchanges += 1;
        if !given.headers.contains_key(ID) {
            // The cache's own word: nothing stored, or nobody there.
            return check(
                given.status == StatusCode::GATEWAY_TIMEOUT
                    || given.status == StatusCode::BAD_GATEWAY && context.failed,
                "the cache answers by itself",
            );
        }
        let id = id_of(&given.headers);
        let facts = &self.facts[id];
        check(facts.representation.resource == request.resource, "of another resource")?;
        let is_news = context.received.contains(&id);
        if !request.method.is_safe() {
            return check(is_news, "a stored response to an unsafe method");
        }
        if request.directives.only_if_cached && self.rules.request_directives {
            check(context.received.is_empty(), "only-if-cached went to the origin")?;
        }
        if !is_news {
            self.may_be_stored(facts)?;
            self.may_be_used(id, facts, request, context, seen)?;
            self.head_is_clean(given)?;
        }
        self.age_is_right(facts, given, context, is_news)?;
        self.content_is_right(facts, request, given, is_news, seen)?;
        seen.validated += u64::from(is_news && facts.is_renewed);
        Ok(())
    }

    /// Of the targeted field, if it is there, and of Cache-Control otherwise (RFC 9213,
    /// section 2.2). True for the first.
    fn said<'a>(&self, facts: &'a Facts) -> (std::borrow::Cow<'a, Said>, bool) {
        match (&facts.targeted, &facts.said) {
            (Some(targeted), _) => (std::borrow::Cow::Borrowed(targeted), true),
            (None, Some(said)) => (std::borrow::Cow::Borrowed(said), false),
            (None, None) => (std::borrow::Cow::Owned(Said::default()), false),
        }
    }

    /// RFC 9111, sections 3 and 3.5.
    fn may_be_stored(&self, facts: &Facts) -> Result<(), String> {
        let (said, is_targeted) = self.said(facts);
        check(facts.is_safe && !facts.of_head, "stored of a method other than GET")?;
        check(!said.no_store, "no-store was stored")?;
        check(!said.private, "private was stored")?;
        check(!facts.varies_by_everything, "Vary: * was used again")?;
        check(!facts.request_forbids_storing, "the request's no-store was not heeded")?;
        let shared = said.public || said.must_revalidate || said.s_maxage.is_some();
        check(!facts.authorized || shared, "an authorized response was stored")?;
        let explicit = said.public
            || said.max_age.is_some()
            || said.s_maxage.is_some()
            || (!is_targeted && facts.expires_s.is_some());
        check(
            explicit || is_heuristically_cacheable(facts.status),
            "its status may be stored only when that is said",
        )
    }

    /// RFC 9111, section 4.
    fn may_be_used(
        &self,
        id: usize,
        facts: &Facts,
        request: &Request,
        context: &Context,
        seen: &mut Seen,
    ) -> Result<(), String> {
        for name in &facts.varies {
            let index = CHOICES.iter().position(|choice| choice == name).unwrap();
            let [then, now] = [facts.choices[index], request.choices[index]];
            check(
                same_choice(name, then) == same_choice(name, now),
                &format!("{name} was {then:?} and is {now:?}"),
            )?;
        }
        check(id >= self.purged[request.resource], "it was purged")?;
        check(id >= self.changed[request.resource], "it was invalidated")?;
        let (said, _) = self.said(facts);
        let strict = said.must_revalidate
            || said.proxy_revalidate
            || said.s_maxage.is_some()
            || said.no_cache;
        check(!said.no_cache, "no-cache was used without validation")?;
        let softly_purged = id < self.softly_purged[request.resource];
        let lifetime_s = self.lifetime_s(facts) as i64;
        let age_s = self.age_s(facts, context) as i64;
        let is_stale = age_s >= lifetime_s || softly_purged;
        let staleness_s = age_s - lifetime_s;
        let asks = &request.directives;
        if is_stale {
            check(!strict, "used stale against must-revalidate, proxy-revalidate or s-maxage")?;
            // RFC 5861. Its default is the route's, for what is fresh at all.
            let window = said.stale_while_revalidate.or_else(|| {
                self.rules.stale_while_revalidate_s.filter(|_| lifetime_s > 0).map(u64::from)
            });
            let within = |most: Option<u64>| {
                most.is_some_and(|most| staleness_s <= i64::try_from(most).unwrap_or(i64::MAX))
            };
            let asked_for = self.rules.request_directives && within(asks.max_stale);
            let error_window = said
                .stale_if_error
                .or_else(|| self.rules.stale_if_error_s.filter(|_| lifetime_s > 0).map(u64::from));
            let instead = context.failed && (error_window.is_none() || within(error_window));
            check(
                within(window) || asked_for || instead || (softly_purged && staleness_s < 0),
                &format!("used {staleness_s} s after it became stale"),
            )?;
            seen.stale += 1;
            seen.instead_of_an_error += u64::from(context.failed);
        } else {
            seen.fresh += 1;
        }
        if self.rules.request_directives && !context.failed {
            check(!asks.no_cache && asks.max_age != Some(0), "the caller wants the origin's word")?;
            let too_old = asks.max_age.is_some_and(|most| age_s > most as i64);
            check(!too_old, "older than the caller wants")?;
            let too_short =
                asks.min_fresh.is_some_and(|least| lifetime_s - age_s < least as i64 || is_stale);
            check(!too_short, "not fresh for as long as the caller wants")?;
        }
        seen.for_others += u64::from(facts.authorized);
        seen.failures_kept += u64::from(!matches!(facts.status, 200 | 206));
        Ok(())
    }

    /// RFC 9111, section 4.2.3, in its words.
    fn age_s(&self, facts: &Facts, context: &Context) -> u64 {
        let now_s = context.answered_at_s.unwrap_or(context.now_s);
        let apparent_age = facts.received_at_s.saturating_sub(facts.date_s.unwrap_or(u64::MAX));
        let response_delay = facts.received_at_s - facts.requested_at_s;
        let corrected_age_value = facts.age_s.unwrap_or(0) + response_delay;
        let corrected_initial_age = apparent_age.max(corrected_age_value);
        corrected_initial_age + (now_s - facts.received_at_s)
    }

    /// RFC 9111, sections 4.2.1 and 4.2.2, and what the route says.
    fn lifetime_s(&self, facts: &Facts) -> u64 {
        let (said, is_targeted) = self.said(facts);
        let base_s = facts.date_s.unwrap_or(facts.received_at_s);
        let expires = facts.expires_s.filter(|_| !is_targeted);
        let explicit = said
            .s_maxage
            .or(said.max_age)
            .or_else(|| expires.map(|expires_s| expires_s.saturating_sub(base_s)));
        let unsaid = || {
            if !is_heuristically_cacheable(facts.status) && !said.public {
                return 0;
            }
            let is_failure = facts.status >= 400;
            let usual =
                if is_failure { self.rules.negative_ttl_s } else { self.rules.default_ttl_s };
            if let Some(usual) = usual {
                return usual.into();
            }
            let modified_s = facts.modified_s.filter(|_| self.rules.heuristic);
            modified_s.map_or(0, |modified_s| base_s.saturating_sub(modified_s) / 10)
        };
        let most = self.rules.max_ttl_s.map_or(u64::MAX, u64::from);
        explicit.unwrap_or_else(unsaid).min(most)
    }

    fn age_is_right(
        &self,
        facts: &Facts,
        given: &Given,
        context: &Context,
        is_news: bool,
    ) -> Result<(), String> {
        let said = given.headers.get_all(header::AGE).iter().collect::<Vec<_>>();
        match said.as_slice() {
            [] => check(is_news, "a stored response without its Age"),
            // Just handed on.
            [_] if is_news => Ok(()),
            [age] => {
                let right_s = self.age_s(facts, context);
                check(
                    age.as_bytes() == right_s.to_string().as_bytes(),
                    &format!("its age is {right_s}"),
                )
            }
            _ => check(false, "several ages"),
        }
    }

    /// RFC 9111, sections 3.1, 5.2.2.4 and 5.2.2.7; cookies and tags are the product's.
    fn head_is_clean(&self, given: &Given) -> Result<(), String> {
        for name in ["connection", "x-hop", "set-cookie", "cache-tag"] {
            check(!given.headers.contains_key(name), &format!("{name} was stored"))?;
        }
        let facts = &self.facts[id_of(&given.headers)];
        let (said, is_targeted) = self.said(facts);
        let named = !is_targeted && (said.private_field || said.no_cache_field);
        check(
            !named || !given.headers.contains_key("x-secret"),
            "a field of private or no-cache was used again",
        )
    }

    /// RFC 9110, sections 13 to 15: status, length and bytes.
    fn content_is_right(
        &self,
        facts: &Facts,
        request: &Request,
        given: &Given,
        is_news: bool,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let bytes = &facts.representation.bytes;
        let length = given.headers.get(header::CONTENT_LENGTH);
        let length: Option<u64> = length.map(|length| length.to_str().unwrap().parse().unwrap());
        if request.method == Method::HEAD {
            seen.heads += u64::from(!is_news);
            check(given.body.is_empty(), "a head with a body")?;
            if given.status == StatusCode::OK && !is_news {
                check(length.is_none_or(|length| length == bytes.len() as u64), "a head's length")?;
            }
        } else {
            check(
                length.is_none_or(|length| length == given.body.len() as u64),
                "Content-Length and the body differ",
            )?;
        }
        let is_ok = matches!(facts.status, 200 | 206);
        if !is_ok {
            let as_it_was = given.status.as_u16() == facts.status;
            check(as_it_was, &format!("the status was {}", facts.status))?;
            let all = request.method == Method::HEAD || matches!(facts.status, 204 | 304 | 416);
            return check(all || given.body == *bytes, "the body of a failure");
        }
        let condition = self.condition(facts, request);
        match given.status.as_u16() {
            304 => {
                seen.not_modified += 1;
                check(condition, "304, although the caller does not have it")?;
                check(given.body.is_empty(), "304 with a body")
            }
            _ if condition && !is_news => check(false, "the caller has it already"),
            _ if request.method == Method::HEAD => {
                check(given.status == StatusCode::OK, "the status of a head")
            }
            200 => check(given.body == *bytes, "the bytes of the whole are wrong"),
            206 => {
                if !is_news {
                    seen.parts += 1;
                    seen.put_together += u64::from(
                        facts.part.is_some_and(|(from, to)| given.body.len() as u64 > to - from),
                    );
                }
                self.parts_are_right(facts, request, given, seen)
            }
            416 => {
                seen.unsatisfiable += 1;
                let spans = request.range.as_deref().unwrap_or_default();
                let none = spans.iter().all(|span| span.within(bytes.len() as u64).is_none());
                check(!spans.is_empty() && none, "416 for what is there")?;
                let told = given.headers.get(header::CONTENT_RANGE).map(|value| value.as_bytes());
                let right = format!("bytes */{}", bytes.len());
                check(told == Some(right.as_bytes()), "416 without the length")
            }
            _ => check(false, "another status"),
        }
        .map(|()| {
            let whole = given.status == StatusCode::OK && request.method == Method::GET;
            seen.put_together += u64::from(whole && !is_news && facts.part.is_some());
        })
    }

    /// RFC 9110, section 13.2.2, and RFC 9111, section 4.3.2.
    fn condition(&self, facts: &Facts, request: &Request) -> bool {
        let opaque = |tag: &str| tag.trim_start_matches("W/").to_owned();
        if !request.if_none_match.is_empty() {
            let own = facts.tag.as_deref().map(opaque);
            return request.if_none_match.iter().any(|tag| tag == "*" || Some(opaque(tag)) == own);
        }
        let Some(since_s) = request.if_modified_since_s else { return false };
        facts.modified_s.or(facts.date_s).unwrap_or(facts.received_at_s) <= since_s
    }

    fn parts_are_right(
        &self,
        facts: &Facts,
        request: &Request,
        given: &Given,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let bytes = &facts.representation.bytes;
        let spans = request.range.as_deref().unwrap_or_default();
        if let Some(condition) = &request.if_range {
            check(facts.is_strongly(condition), "a part against If-Range")?;
        }
        let wanted: Vec<(u64, u64)> =
            spans.iter().filter_map(|span: &Span| span.within(bytes.len() as u64)).collect();
        check(!wanted.is_empty(), "a part that nobody asked for")?;
        let kind = given.headers[header::CONTENT_TYPE].to_str().unwrap();
        let parts = match kind.strip_prefix("multipart/byteranges; boundary=") {
            None => {
                let range = given.headers.get(header::CONTENT_RANGE).ok_or("no Content-Range")?;
                vec![(range.to_str().unwrap().to_owned(), given.body.clone())]
            }
            Some(boundary) => {
                seen.several_parts += 1;
                check(!given.headers.contains_key(header::CONTENT_RANGE), "a Content-Range")?;
                divided(&given.body, boundary)?
            }
        };
        let mut sent = vec![false; bytes.len()];
        for (range, body) in &parts {
            let (from, to) = read_range(range, bytes.len())?;
            check(*body == bytes[from..to], &format!("the bytes of {range} are wrong"))?;
            sent[from..to].fill(true);
        }
        let mut asked = vec![false; bytes.len()];
        for (from, to) in wanted {
            asked[from as usize..to as usize].fill(true);
        }
        check(sent == asked, "other parts than those that were asked for")
    }
}

/// RFC 9110, section 15.1.
fn is_heuristically_cacheable(status: u16) -> bool {
    [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501].contains(&status)
}

fn check(good: bool, what: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(what.to_owned()) }
}

/// `bytes FROM-LAST/LENGTH` as FROM and one behind LAST.
fn read_range(text: &str, length: usize) -> Result<(usize, usize), String> {
    let read = || {
        let (range, of) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (from, last) = range.split_once('-')?;
        let (from, last): (usize, usize) = (from.parse().ok()?, last.parse().ok()?);
        (of.parse() == Ok(length) && from <= last && last < length).then_some((from, last + 1))
    };
    read().ok_or_else(|| format!("{text:?} can not be"))
}

/// The parts of a body with their ranges (RFC 9110, section 14.6).
fn divided(body: &[u8], boundary: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    let places: Vec<usize> = (0..body.len().saturating_sub(delimiter.len() - 1))
        .filter(|at| body[*at..].starts_with(&delimiter))
        .collect();
    let end = *places.last().ok_or("no boundary")?;
    check(&body[end + delimiter.len()..] == b"--\r\n", "the end of several parts")?;
    let mut parts = Vec::new();
    for pair in places.windows(2) {
        let part = &body[pair[0] + delimiter.len() + 2..pair[1]];
        let head_end = part.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no head")?;
        let head = std::str::from_utf8(&part[..head_end]).map_err(|error| error.to_string())?;
        let range = head.lines().find_map(|line| line.strip_prefix("Content-Range: "));
        let range = range.ok_or("a part without its range")?.to_owned();
        check(head.contains("Content-Type: text/plain"), "a part without its type")?;
        parts.push((range, part[head_end + 4..].to_vec()));
    }
    Ok(parts)
}
