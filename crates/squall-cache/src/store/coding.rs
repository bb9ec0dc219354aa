//! Keys and heads as bytes. What is read was checked before, and still nothing is believed:
//! bytes that say something impossible are nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use squall_types::AppName;

use crate::{Entry, Freshness, Head, Key, Parts, Sequence, Space, StoredBody};

/// Numbers are little-endian, and everything of variable length has its length before it.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn number<const BYTES: usize>(&mut self, bytes: [u8; BYTES]) {
        self.0.extend_from_slice(&bytes);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number((bytes.len() as u32).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }
}

/// Takes from the front of bytes what an `Encoder` put there.
pub(super) struct Decoder(pub(super) Bytes);

impl Decoder {
    pub(super) fn number<const BYTES: usize>(&mut self) -> Option<[u8; BYTES]> {
        let number = *self.0.first_chunk()?;
        let _ = self.0.split_to(BYTES);
        Some(number)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.number()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.number()?))
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> Option<Box<str>> {
        Some(std::str::from_utf8(&self.bytes()?).ok()?.into())
    }

    /// Some of the same, after their number. More than bytes are left is not believed.
    pub(super) fn several<Item, Into: FromIterator<Item>>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Option<Item>,
    ) -> Option<Into> {
        let number = self.u32()?;
        if number as usize > self.0.len() {
            return None;
        }
        (0..number).map(|_| one(self)).collect()
    }

    pub(super) fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.bytes()?).ok()
    }

    pub(super) fn app(&mut self) -> Option<AppName> {
        AppName::parse(&self.text()?).ok()
    }
}

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 2;

/// Everything of an entry but the bytes of its body.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let Entry { key, head, body, sequence } = entry;
    let mut out = Encoder(Vec::with_capacity(512));
    out.bytes(key.space.app.as_str().as_bytes());
    out.bytes(key.space.part.as_bytes());
    out.bytes(key.url.as_bytes());
    out.bytes(key.extra.as_bytes());
    out.number(sequence.0.to_le_bytes());

    out.number(head.status.as_u16().to_le_bytes());
    out.number(head.requested_at_ms.to_le_bytes());
    out.number(head.received_at_ms.to_le_bytes());
    let Freshness {
        lifetime_s,
        initial_age_s,
        stale_while_revalidate_s,
        stale_if_error_s,
        must_revalidate,
        no_cache,
    } = head.freshness;
    for seconds in [lifetime_s, initial_age_s, stale_while_revalidate_s, stale_if_error_s] {
        out.number(seconds.to_le_bytes());
    }
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.number([flag(must_revalidate, MUST_REVALIDATE) | flag(no_cache, NO_CACHE)]);
    out.number(head.variant.to_le_bytes());
    encode_names(&head.vary, &mut out);
    out.number((head.tags.len() as u32).to_le_bytes());
    head.tags.iter().for_each(|tag| out.bytes(tag.as_bytes()));
    out.number((head.headers.len() as u32).to_le_bytes());
    for (name, value) in &head.headers {
        out.bytes(name.as_str().as_bytes());
        out.bytes(value.as_bytes());
    }

    match body {
        StoredBody::Whole(_) => out.number([0]),
        StoredBody::Parts(parts) => {
            out.number([1]);
            out.number(parts.length.to_le_bytes());
            out.number((parts.ranges.len() as u32).to_le_bytes());
            for (first, part) in &parts.ranges {
                out.number(first.to_le_bytes());
                out.number((part.len() as u64).to_le_bytes());
            }
        }
    }
    out.0
}

pub(super) fn encode_names(names: &[HeaderName], out: &mut Encoder) {
    out.number((names.len() as u32).to_le_bytes());
    names.iter().for_each(|name| out.bytes(name.as_str().as_bytes()));
}

/// The pieces of a body, in the order in which they are written.
pub(super) fn pieces(body: &StoredBody) -> impl Iterator<Item = &Bytes> {
    let (whole, parts) = match body {
        StoredBody::Whole(body) => (Some(body), &[][..]),
        StoredBody::Parts(parts) => (None, &parts.ranges[..]),
    };
    whole.into_iter().chain(parts.iter().map(|(_, part)| part))
}

/// An entry from what `encode` made of it, and its body. Without a body, as for an
/// inspection, the pieces are empty.
pub(super) fn decode(meta: Bytes, body: Option<Bytes>) -> Option<Entry> {
    let mut from = Decoder(meta);
    let space = Space { app: from.app()?, part: from.text()? };
    let key = Key { space, url: from.text()?, extra: from.text()? };
    let sequence = Sequence(from.u64()?);

    let status = StatusCode::from_u16(u16::from_le_bytes(from.number()?)).ok()?;
    let (requested_at_ms, received_at_ms) = (from.u64()?, from.u64()?);
    let (lifetime_s, initial_age_s) = (from.u32()?, from.u32()?);
    let (stale_while_revalidate_s, stale_if_error_s) = (from.u32()?, from.u32()?);
    let [flags] = from.number()?;
    let freshness = Freshness {
        lifetime_s,
        initial_age_s,
        stale_while_revalidate_s,
        stale_if_error_s,
        must_revalidate: flags & MUST_REVALIDATE != 0,
        no_cache: flags & NO_CACHE != 0,
    };
    let variant = from.u64()?;
    let vary: Box<[HeaderName]> = from.several(Decoder::name)?;
    let tags: Box<[Box<str>]> = from.several(Decoder::text)?;
    let fields: Vec<(HeaderName, HeaderValue)> = from.several(|from| {
        Some((from.name()?, HeaderValue::from_maybe_shared(from.bytes()?).ok()?))
    })?;
    let mut headers = HeaderMap::try_with_capacity(fields.len()).ok()?;
    for (name, value) in fields {
        headers.try_append(name, value).ok()?;
    }
    let head =
        Head { status, headers, requested_at_ms, received_at_ms, freshness, vary, variant, tags };

    let body = decode_body(&mut from, body)?;
    from.0.is_empty().then_some(Entry { key, head, body, sequence })
}

fn decode_body(from: &mut Decoder, body: Option<Bytes>) -> Option<StoredBody> {
    let [kind] = from.number()?;
    if kind == 0 {
        return Some(StoredBody::Whole(body.unwrap_or_default()));
    }
    let length = from.u64()?;
    let spans: Vec<(u64, u64)> = from.several(|from| Some((from.u64()?, from.u64()?)))?;
    let Some(mut body) = body else {
        return Some(StoredBody::Parts(Parts { length, ranges: Vec::new() }));
    };
    let mut ranges = Vec::with_capacity(spans.len());
    for (first, bytes) in spans {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= body.len())?;
        ranges.push((first, body.split_to(bytes)));
    }
    body.is_empty().then_some(StoredBody::Parts(Parts { length, ranges }))
}
