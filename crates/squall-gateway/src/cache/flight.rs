//! One request to the origin for all who ask for the same at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_cache::{Entry, Head, KeyHash, Sequence};
use tokio::sync::watch;

use super::fill::Fill;

/// The fetches that are under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<KeyHash, Flight>>);

struct Flight {
    /// Who comes after a later purge must not have what this fetch brings.
    sequence: Sequence,
    landing: watch::Receiver<Landing>,
}

/// What became of a fetch, for those who waited.
#[derive(Clone)]
pub(super) enum Landing {
    Flying,
    /// A response that is on its way into the store.
    Filling(Arc<Head>, Arc<Fill>),
    /// A stored response that was just found to be good.
    Entry(Arc<Entry>),
    /// The origin failed; this is stored, and stale.
    Failed(Arc<Entry>),
    /// It is nobody's but the caller's who asked: everybody for himself.
    Alone,
}

/// Whether a request fetches, or waits for another that does.
pub(super) enum Turn {
    Leads(Lead),
    Waits(watch::Receiver<Landing>),
}

/// The right to fetch. Those who wait try again when it is given up.
pub(super) struct Lead {
    flights: Arc<Flights>,
    hash: KeyHash,
    sequence: Sequence,
    landing: watch::Sender<Landing>,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<KeyHash, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `sequence` is the store's present one.
    pub(super) fn turn(self: &Arc<Self>, hash: KeyHash, sequence: Sequence) -> Turn {
        let mut flights = self.lock();
        let lead = || {
            let (landing, receiver) = watch::channel(Landing::Flying);
            let lead = Lead { flights: self.clone(), hash, sequence, landing };
            (lead, Flight { sequence, landing: receiver })
        };
        match flights.entry(hash) {
            Slot::Occupied(flying) if flying.get().sequence >= sequence => {
                Turn::Waits(flying.get().landing.clone())
            }
            Slot::Occupied(mut earlier) => {
                let (lead, flight) = lead();
                earlier.insert(flight);
                Turn::Leads(lead)
            }
            Slot::Vacant(nobody) => {
                let (lead, flight) = lead();
                nobody.insert(flight);
                Turn::Leads(lead)
            }
        }
    }
}

impl Lead {
    pub(super) fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Tells those who wait.
    pub(super) fn land(&self, landing: Landing) {
        self.landing.send_replace(landing);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Another may fly in its place, after a purge.
        if let Slot::Occupied(flying) = flights.entry(self.hash)
            && flying.get().landing.same_channel(&self.landing.subscribe())
        {
            flying.remove();
        }
    }
}

/// Waits for the end of another's fetch; none when it was given up.
pub(super) async fn wait(mut landing: watch::Receiver<Landing>) -> Option<Landing> {
    let landed = landing.wait_for(|landing| !matches!(landing, Landing::Flying)).await;
    landed.ok().map(|landing| landing.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: KeyHash = KeyHash([7; 24]);

    fn leads(turn: Turn) -> Lead {
        match turn {
            Turn::Leads(lead) => lead,
            Turn::Waits(_) => panic!("it waits"),
        }
    }

    fn waits(turn: Turn) -> watch::Receiver<Landing> {
        match turn {
            Turn::Waits(landing) => landing,
            Turn::Leads(_) => panic!("it leads"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_all_others_wait() {
        let flights = Arc::new(Flights::default());
        let lead = leads(flights.turn(HASH, Sequence(1)));
        let waiting = waits(flights.turn(HASH, Sequence(1)));
        leads(flights.turn(KeyHash([8; 24]), Sequence(1)));
        lead.land(Landing::Alone);
        assert!(matches!(wait(waiting).await, Some(Landing::Alone)));
        drop(lead);
        leads(flights.turn(HASH, Sequence(1)));
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn who_waited_is_told_when_the_fetch_is_given_up() {
        let flights = Arc::new(Flights::default());
        let lead = leads(flights.turn(HASH, Sequence(1)));
        let waiting = waits(flights.turn(HASH, Sequence(1)));
        drop(lead);
        assert!(wait(waiting).await.is_none());
    }

    #[tokio::test]
    async fn nobody_waits_for_what_was_asked_before_a_purge() {
        let flights = Arc::new(Flights::default());
        let earlier = leads(flights.turn(HASH, Sequence(1)));
        let later = leads(flights.turn(HASH, Sequence(2)));
        drop(earlier);
        waits(flights.turn(HASH, Sequence(2)));
        drop(later);
        assert!(flights.lock().is_empty());
    }
}
