//! A cache that does what `rfc` says, an origin that says anything, and an oracle that was
//! written from the text of the RFCs alone: no answer may be one that they forbid.
//!
//! Everything comes of one number, also the clock. A failure names it; `SQUALL_MODEL_WORLD`
//! runs that world again.

mod cache;
mod chance;
mod dates;
mod oracle;
mod origin;
mod request;

use squall_types::gateway::{Cache, SetCookie};

use cache::ModelCache;
use chance::Chance;
use oracle::{Oracle, Seen};
use origin::Origin;
use request::Request;

const WORLDS: u64 = 200;
const EXCHANGES_OF_A_WORLD: u64 = 500;

#[test]
fn no_answer_is_one_that_the_rfc_forbids() {
    let only = std::env::var("SQUALL_MODEL_WORLD").ok();
    let worlds = match only {
        Some(number) => {
            let number: u64 = number.parse().unwrap();
            number..number + 1
        }
        None => 0..WORLDS,
    };
    let whole = worlds == (0..WORLDS);
    let mut seen = Seen::default();
    for world in worlds {
        if let Err(what) = live(world, &mut seen) {
            panic!("world {world}: {what}");
        }
    }
    if whole {
        // Otherwise nothing was learnt.
        seen.has_enough_of_everything();
    }
}

/// One cache with its rules, one origin, and some time.
fn live(number: u64, seen: &mut Seen) -> Result<(), String> {
    let mut chance = Chance::new(number);
    let rules = rules(&mut chance);
    let mut oracle = Oracle::new(rules.clone());
    let mut origin = Origin::new(&mut chance);
    let mut cache = ModelCache::new(rules);
    let mut now_s: u64 = 1_800_000_000;
    for exchange in 0..EXCHANGES_OF_A_WORLD {
        now_s += chance.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 2, 5, 30]);
        origin.live_on(&mut chance, now_s);
        if chance.one_in(60) {
            let (resource, soft) = (chance.below(origin::RESOURCES), chance.one_in(2));
            cache.purge(resource, soft);
            oracle.purged(resource, soft);
        }
        let request = Request::any(&mut chance, &oracle, now_s, number.is_multiple_of(3));
        let mut asking = origin::Asking::new(&mut origin, &mut oracle, &mut chance, now_s);
        let answer = cache.exchange(&request, &mut asking);
        let context = asking.into_context();
        now_s = context.now_s;
        oracle.judge(&request, &answer, &context, seen).map_err(|what| {
            format!("exchange {exchange}: {what}\n{request:#?}\n{answer:#?}\n{context:#?}")
        })?;
    }
    Ok(())
}

fn rules(chance: &mut Chance) -> Cache {
    let some = |chance: &mut Chance, seconds: u32| chance.one_in(4).then_some(seconds);
    Cache {
        default_ttl_s: some(chance, 30),
        negative_ttl_s: some(chance, 5),
        heuristic: chance.one_in(2),
        max_ttl_s: some(chance, 20),
        stale_while_revalidate_s: some(chance, 10),
        stale_if_error_s: some(chance, 40),
        set_cookie: if chance.one_in(2) { SetCookie::Strip } else { SetCookie::Bypass },
        request_directives: !chance.one_in(5),
        ..Cache::default()
    }
}
