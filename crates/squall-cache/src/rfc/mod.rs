//! What HTTP says of caching, as functions without I/O and without a clock of their own:
//! RFC 9111 (caching), RFC 9110 (conditional and range requests), RFC 5861 (stale
//! responses), RFC 9211 (Cache-Status) and RFC 9213 (targeted fields).

mod answer;
mod asked;
mod directives;
mod invalidation;
mod judge;
mod key;
mod list;
mod parts;
mod ranges;
mod status;
mod storing;
mod time;
mod validation;
mod vary;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerBody, answer, answer_head};
pub use asked::Asked;
pub use invalidation::invalidated;
pub use judge::{Verdict, age_s, judge, stands_in, ttl_s};
pub use key::{KeyPlan, normalised_url};
pub use parts::combined;
pub use status::{Forwarded, Status};
pub use storing::{NotStored, give_back, is_for_caches, storable};
pub use validation::{freshen_by_head, prepare_fetch, prepare_validation, selects, stays, updated};
pub use vary::variant;
