//! An origin that answers in every way that one may.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::chance::Chance;
use super::dates;
use super::oracle::{Context, Facts, Oracle, Said, same_choice};
use super::request::{CHOICES, Request, Validator};

pub(super) const RESOURCES: usize = 4;
/// Of one response; an answer that is made of it still has it.
pub(super) const ID: HeaderName = HeaderName::from_static("x-id");

pub(super) fn url(resource: usize) -> String {
    format!("https://origin.example/r/{resource}")
}

pub(super) struct Origin {
    resources: Vec<Resource>,
}

#[derive(Debug, Clone)]
struct Resource {
    number: usize,
    version: u64,
    /// Its entity tags are all strong, all weak and shared by two versions, or none.
    tags: Tags,
    has_dates: bool,
    modified_s: u64,
    length: usize,
    /// Indexes of `CHOICES` that its representations depend on.
    varies: Vec<usize>,
    missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Tags {
    Strong,
    Weak,
    None,
}

/// What a response is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Representation {
    pub(super) resource: usize,
    pub(super) bytes: Vec<u8>,
}

impl Resource {
    fn representation(&self, request: &Request, status: u16) -> Representation {
        let mut seed = self.version * 1_000 + self.number as u64 * 7 + u64::from(status);
        for index in &self.varies {
            // Requests that mean the same get the same.
            let choice = same_choice(CHOICES[*index], request.choices[*index]);
            for byte in choice.bytes() {
                seed = seed.wrapping_mul(31).wrapping_add(u64::from(byte));
            }
        }
        let mut chance = Chance::new(seed);
        let bytes = (0..self.length).map(|_| chance.next() as u8).collect();
        Representation { resource: self.number, bytes }
    }

    fn tag(&self, representation: &Representation) -> Option<String> {
        match self.tags {
            Tags::None => None,
            Tags::Weak => Some(format!("W/\"{}-{}\"", self.number, self.version / 2)),
            Tags::Strong => {
                let sum = representation
                    .bytes
                    .iter()
                    .fold(0_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add((*byte).into()));
                Some(format!("\"{}-{}-{sum:x}\"", self.number, self.version))
            }
        }
    }
}

impl Origin {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let resource = |number| Resource {
            number,
            version: 1,
            tags: chance.pick(&[Tags::Strong, Tags::Strong, Tags::Weak, Tags::None]),
            has_dates: chance.one_in(2),
            modified_s: 1_799_999_000,
            length: chance.pick(&[0, 20, 100, 150, 150]),
            varies: (0..CHOICES.len()).filter(|_| chance.one_in(4)).collect(),
            missing: false,
        };
        Self { resources: (0..RESOURCES).map(resource).collect() }
    }

    pub(super) fn live_on(&mut self, chance: &mut Chance, now_s: u64) {
        let resource = &mut self.resources[chance.below(RESOURCES)];
        // What has weak tags often changes a little.
        if chance.one_in(if resource.tags == Tags::Weak { 5 } else { 25 }) {
            resource.version += 1;
            resource.modified_s = now_s;
            if chance.one_in(8) {
                resource.length = chance.pick(&[0, 1, 20, 100, 150]);
            }
        }
        if chance.one_in(100) {
            resource.missing = !resource.missing;
        }
    }
}

/// The way from a cache to the origin, during one exchange.
pub(super) struct Asking<'a> {
    origin: &'a mut Origin,
    oracle: &'a mut Oracle,
    chance: &'a mut Chance,
    context: Context,
}

/// A response as it arrives.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) requested_at_ms: u64,
    pub(super) received_at_ms: u64,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        origin: &'a mut Origin,
        oracle: &'a mut Oracle,
        chance: &'a mut Chance,
        now_s: u64,
    ) -> Self {
        Self { origin, oracle, chance, context: Context::at(now_s) }
    }

    pub(super) fn into_context(self) -> Context {
        self.context
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.context.now_s * 1_000
    }

    /// What was asked for after the answer left does not excuse it.
    pub(super) fn answered(&mut self) {
        self.context.answered_at_s.get_or_insert(self.context.now_s);
    }

    /// The cache says that it took a 304, or a head, for news of a stored response.
    pub(super) fn renews(&mut self, stored: &HeaderMap, news: &HeaderMap) {
        self.oracle.renewed(id_of(stored), id_of(news));
    }

    /// None when nobody answers. `headers` are those that the cache sends.
    pub(super) fn send(
        &mut self,
        request: &Request,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Arrived> {
        let requested_at_s = self.context.now_s;
        self.context.now_s += self.chance.pick(&[0, 0, 0, 0, 1, 3]);
        if self.chance.one_in(20) {
            self.context.fails();
            return None;
        }
        let (facts, status, body) = self.respond(request, method, headers);
        let mut facts = Facts { requested_at_s, received_at_s: self.context.now_s, ..facts };
        if status.is_server_error() {
            self.context.fails();
        }
        let id = self.oracle.next_id();
        let headers = write(&mut facts, id, status, body.len(), self.chance);
        if !method.is_safe() && (status.is_success() || status.is_redirection()) {
            self.oracle.changed(request.resource);
            for name in [header::LOCATION, header::CONTENT_LOCATION] {
                let at = headers.get(name).and_then(|value| value.to_str().ok());
                let near = at.and_then(|at| at.strip_prefix("https://origin.example"));
                if let Some(number) = near.or(at).and_then(|at| at.strip_prefix("/r/")) {
                    self.oracle.changed(number.parse().unwrap());
                }
            }
        }
        self.context.received(id);
        self.oracle.remember(id, facts);
        let body = if *method == Method::HEAD { Vec::new() } else { body };
        let received_at_ms = self.now_ms();
        let requested_at_ms = requested_at_s * 1_000;
        Some(Arrived { status, headers, body, requested_at_ms, received_at_ms })
    }

    fn respond(
        &mut self,
        request: &Request,
        method: &Method,
        headers: &HeaderMap,
    ) -> (Facts, StatusCode, Vec<u8>) {
        let chance = &mut *self.chance;
        let resource = &mut self.origin.resources[request.resource];
        if !method.is_safe() {
            resource.version += 1;
            resource.modified_s = self.context.now_s;
        }
        let mut code = match method.is_safe() {
            true if resource.missing => 404,
            true => 200,
            false => chance.pick(&[200, 200, 201, 204, 303]),
        };
        if chance.one_in(15) {
            code = chance.pick(&[500, 503, 302, 301, 410, 599]);
        }
        let representation = resource.representation(request, code);
        let is_usual = code == 200 && method.is_safe();
        let mut facts = Facts::new(request, method, code, representation);
        facts.policy(chance, self.context.now_s);
        facts.varies = resource.varies.iter().map(|index| CHOICES[*index]).collect();
        if is_usual {
            facts.tag = resource.tag(&facts.representation);
            facts.modified_s = resource.has_dates.then_some(resource.modified_s);
        }
        let bytes = facts.representation.bytes.clone();
        if !is_usual {
            let status = StatusCode::from_u16(code).unwrap();
            let body = if code == 204 { Vec::new() } else { bytes };
            return (facts, status, body);
        }
        if holds(headers, &facts) {
            facts.status = 304;
            return (facts, StatusCode::NOT_MODIFIED, Vec::new());
        }
        let ranges = request.range.as_deref().filter(|_| {
            *method == Method::GET
                && headers.contains_key(header::RANGE)
                && (!headers.contains_key(header::IF_RANGE)
                    || request
                        .if_range
                        .as_ref()
                        .is_some_and(|condition| facts.is_strongly(condition)))
        });
        let length = bytes.len() as u64;
        match ranges {
            // It need not serve ranges.
            Some([span]) if !chance.one_in(6) => match span.within(length) {
                Some((from, to)) => {
                    facts.status = 206;
                    facts.part = Some((from, to));
                    let body = bytes[from as usize..to as usize].to_vec();
                    (facts, StatusCode::PARTIAL_CONTENT, body)
                }
                None => {
                    facts.status = 416;
                    (facts, StatusCode::RANGE_NOT_SATISFIABLE, Vec::new())
                }
            },
            _ => (facts, StatusCode::OK, bytes),
        }
    }
}

/// Whether the cache, or its caller, has it already.
fn holds(headers: &HeaderMap, facts: &Facts) -> bool {
    if let Some(tags) = headers.get(header::IF_NONE_MATCH) {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let tags = tags.to_str().unwrap();
        let own = facts.tag.as_deref().map(opaque);
        return tags == "*" || tags.split(',').any(|tag| Some(opaque(tag)) == own);
    }
    // All dates that anybody has were written here: those that are equal are the same.
    let since = headers.get(header::IF_MODIFIED_SINCE);
    facts.modified_s.is_some_and(|modified_s| {
        since.is_some_and(|since| since.as_bytes() == dates::written(modified_s).as_bytes())
    })
}

pub(super) fn id_of(headers: &HeaderMap) -> usize {
    headers[ID].to_str().unwrap().parse().unwrap()
}

/// The head of a response that says these facts, in one of many ways.
fn write(
    facts: &mut Facts,
    id: usize,
    status: StatusCode,
    body: usize,
    chance: &mut Chance,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &'static str, value: &str| {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    };
    add("x-id", &id.to_string());
    add("content-type", "text/plain");
    add("x-hop", "1");
    add("connection", "close, X-Hop");
    add("cache-tag", "one, two");
    add("x-secret", "whose");
    if let Some(seconds) = facts.date_s {
        add("date", &dates::written(seconds));
    }
    if let Some(age_s) = facts.age_s {
        add("age", &age_s.to_string());
    }
    if let Some(expires_s) = facts.expires_s {
        // 0 stands for what is no date.
        add("expires", &if expires_s == 0 { "0".to_owned() } else { dates::written(expires_s) });
    }
    if let Some(said) = &facts.said {
        for line in said.written(chance) {
            add("cache-control", &line);
        }
    }
    if let Some(said) = &facts.targeted {
        add("cdn-cache-control", &said.written_plainly());
    }
    if let Some(tag) = &facts.tag {
        add("etag", tag);
    }
    if let Some(seconds) = facts.modified_s {
        add("last-modified", &dates::written(seconds));
    }
    if facts.varies_by_everything {
        add("vary", "*");
    } else if !facts.varies.is_empty() {
        add("vary", &facts.varies.join(" , "));
    }
    if facts.sets_cookie {
        add("set-cookie", "session=1");
    }
    let length = facts.representation.bytes.len();
    match facts.part {
        Some((from, to)) => add("content-range", &format!("bytes {from}-{}/{length}", to - 1)),
        None if status == StatusCode::RANGE_NOT_SATISFIABLE => {
            add("content-range", &format!("bytes */{length}"));
        }
        None => {}
    }
    if status != StatusCode::NOT_MODIFIED && status != StatusCode::NO_CONTENT {
        add("content-length", &body.to_string());
    }
    if matches!(status.as_u16(), 201 | 301 | 302 | 303) {
        let other = chance.below(RESOURCES);
        let at = chance.pick(&[
            format!("/r/{other}"),
            url(other),
            format!("https://elsewhere.example/r/{other}"),
        ]);
        add(chance.pick(&["location", "content-location"]), &at);
    }
    headers
}

impl Facts {
    fn new(
        request: &Request,
        method: &Method,
        status: u16,
        representation: Representation,
    ) -> Self {
        Self {
            of_head: *method == Method::HEAD,
            is_safe: method.is_safe(),
            status,
            representation,
            choices: request.choices,
            authorized: request.is_authorized(),
            request_forbids_storing: request.directives.no_store,
            ..Self::default()
        }
    }

    /// What it says of caching.
    fn policy(&mut self, chance: &mut Chance, now_s: u64) {
        self.date_s = (!chance.one_in(8)).then(|| now_s - chance.pick(&[0, 0, 0, 1, 10]));
        self.age_s = chance.one_in(5).then(|| chance.pick(&[0, 1, 7, 60]));
        self.said = (!chance.one_in(6)).then(|| Said::any(chance));
        self.targeted = chance.one_in(10).then(|| Said::any(chance)).filter(Said::says_something);
        self.expires_s = chance.one_in(4).then(|| match chance.below(4) {
            0 => 0,
            1 => now_s - 5,
            _ => now_s + 15,
        });
        self.varies_by_everything = chance.one_in(40);
        self.sets_cookie = chance.one_in(15);
    }

    /// RFC 9110, sections 8.8.2.2, 8.8.3.2 and 13.1.5.
    pub(super) fn is_strongly(&self, condition: &Validator) -> bool {
        match condition {
            Validator::Tag(tag) => !tag.starts_with("W/") && self.tag.as_ref() == Some(tag),
            Validator::Date(seconds) => {
                // Without Date it is of when it came (RFC 9110, section 6.6.1).
                self.modified_s == Some(*seconds)
                    && *seconds < self.date_s.unwrap_or(self.received_at_s)
            }
        }
    }
}
