//! Which coding a client likes best (RFC 9110, sections 12.4.2 and 12.5.3).

use http::header::{self, HeaderMap};
use squall_types::gateway::CompressionAlgorithm;

/// What a client's `Accept-Encoding` comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// `None` for the body as it is.
    pub(crate) algorithm: Option<CompressionAlgorithm>,
    /// The body as it is would be the wrong answer, however small it is.
    pub(super) identity_refused: bool,
}

/// The best of `algorithms`, whose order decides where the client likes several equally.
///
/// Without the header nothing is compressed: clients that can not decompress are the ones
/// that do not send it. A client that refuses everything gets the body as it is, which the
/// standard prefers to an error.
pub(crate) fn choose(asked: &HeaderMap, algorithms: &[CompressionAlgorithm]) -> Choice {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter();
    let members = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut named = [None; 3];
    let (mut identity, mut others) = (None, None);
    for member in members {
        let (coding, weight) = read_member(member);
        let place = match coding {
            "*" => &mut others,
            _ if coding.eq_ignore_ascii_case("identity") => &mut identity,
            _ => match read_coding(coding) {
                Some(algorithm) => &mut named[algorithm as usize],
                None => continue,
            },
        };
        place.get_or_insert(weight);
    }
    let mut best: Option<(CompressionAlgorithm, u16)> = None;
    for algorithm in algorithms {
        let weight = named[*algorithm as usize].or(others).unwrap_or(0);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*algorithm, weight));
        }
    }
    let identity_refused = identity.or(others) == Some(0);
    // Identity has a weight of its own only where it is named.
    let prefers_identity = |weight: u16| identity.is_some_and(|identity| identity > weight);
    let best = best.filter(|(_, weight)| !prefers_identity(*weight));
    Choice { algorithm: best.map(|(algorithm, _)| algorithm), identity_refused }
}

fn read_coding(name: &str) -> Option<CompressionAlgorithm> {
    use CompressionAlgorithm::{Br, Gzip, Zstd};
    let known = [("zstd", Zstd), ("br", Br), ("gzip", Gzip), ("x-gzip", Gzip)];
    known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, one)| one)
}

/// A coding and its weight in thousandths. One that can not be read counts as refused: to
/// send what a client perhaps can not read is worse than to send more.
fn read_member(member: &str) -> (&str, u16) {
    let mut parts = member.split(';').map(|part| part.trim_matches([' ', '\t']));
    let coding = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("q").then(|| read_weight(value.trim_start()))
    });
    (coding, weight.unwrap_or(1_000))
}

fn read_weight(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format_args!("{decimals:0<3}").to_string().parse().unwrap_or(0);
    match whole {
        "0" if digits => thousandths,
        "1" if digits && thousandths == 0 => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use squall_types::gateway::CompressionAlgorithm::{Br, Gzip, Zstd};

    use super::*;

    fn chosen(lines: &[&str], algorithms: &[CompressionAlgorithm]) -> Choice {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
        }
        choose(&headers, algorithms)
    }

    #[test]
    fn the_best_liked_coding_wins_and_our_order_decides_ties() {
        let all = [Zstd, Br, Gzip];
        let table: &[(&[&str], Option<CompressionAlgorithm>, bool)] = &[
            (&[], None, false),
            (&[""], None, false),
            (&["gzip"], Some(Gzip), false),
            (&["x-gzip"], Some(Gzip), false),
            (&["GZip"], Some(Gzip), false),
            (&["gzip, deflate, br, zstd"], Some(Zstd), false),
            (&["gzip, deflate, br"], Some(Br), false),
            (&["gzip", "br"], Some(Br), false),
            (&["gzip;q=1.0, br;q=0.9"], Some(Gzip), false),
            (&["br;q=0.001"], Some(Br), false),
            (&["br;q=0.8, gzip;q=0.8, zstd;q=0.7"], Some(Br), false),
            (&["gzip ; q = 0.5 , br;Q=0.6"], Some(Br), false),
            (&["gzip;q=0"], None, false),
            (&["gzip;q=0.000"], None, false),
            (&["deflate"], None, false),
            (&["*"], Some(Zstd), false),
            (&["zstd;q=0, *"], Some(Br), false),
            (&["*;q=0.5, gzip"], Some(Gzip), false),
            (&["*;q=0"], None, true),
            (&["gzip, *;q=0"], Some(Gzip), true),
            (&["identity"], None, false),
            (&["identity, gzip"], Some(Gzip), false),
            (&["identity, gzip;q=0.5"], None, false),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip), false),
            (&["identity;q=0, br"], Some(Br), true),
            (&["identity;q=0"], None, true),
            (&["identity;q=0.5, *;q=0"], None, false),
            (&["gzip;q=0, gzip"], None, false),
            // Weights that are none.
            (&["gzip;q=2"], None, false),
            (&["gzip;q=1.001"], None, false),
            (&["gzip;q=0.1234"], None, false),
            (&["gzip;q=-1"], None, false),
            (&["gzip;q="], None, false),
            (&["gzip;q=0.+5"], None, false),
            (&["gzip;level=9"], Some(Gzip), false),
            (&[", ,gzip,"], Some(Gzip), false),
        ];
        for (lines, algorithm, identity_refused) in table {
            let expected = Choice { algorithm: *algorithm, identity_refused: *identity_refused };
            assert_eq!(chosen(lines, &all), expected, "{lines:?}");
        }
    }

    #[test]
    fn only_what_is_configured_is_chosen() {
        let accept = ["gzip, deflate, br, zstd"];
        assert_eq!(chosen(&accept, &[Gzip, Br]).algorithm, Some(Gzip));
        assert_eq!(chosen(&accept, &[]).algorithm, None);
        assert_eq!(chosen(&["zstd"], &[Br]).algorithm, None);
    }

    proptest! {
        #[test]
        fn anything_can_be_sent(line in "[ -~]{0,60}") {
            chosen(&[&line], &[Zstd, Br, Gzip]);
        }

        #[test]
        fn nothing_is_chosen_that_was_refused(
            zstd in 0u16..=1000, br in 0u16..=1000, gzip in 0u16..=1000
        ) {
            let write = |weight: u16| match weight {
                1_000 => "1".to_owned(),
                _ => format!("0.{weight:03}"),
            };
            let line = format!("br;q={}, gzip;q={}, zstd;q={}", write(br), write(gzip), write(zstd));
            let best = zstd.max(br).max(gzip);
            let expected = [(Zstd, zstd), (Br, br), (Gzip, gzip)]
                .into_iter()
                .find(|(_, weight)| *weight == best && best > 0)
                .map(|(algorithm, _)| algorithm);
            prop_assert_eq!(chosen(&[&line], &[Zstd, Br, Gzip]).algorithm, expected);
        }
    }
}
