//! What was purged: marks with the sequence at which each was made.
//!
//! Nothing is searched for and deleted when something is purged. A response is dead when a
//! mark that covers it is younger than the moment before its request went out, and that is
//! asked whenever it is found; so it holds for responses in memory, on disk and on their way.
//! An app keeps so many marks; then the oldest become its floor, below which everything is
//! dead: too much may be purged, never too little.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use squall_types::AppName;

use super::{Covered, State};
use crate::{Entry, Sequence};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AppId(pub(super) u32);

/// The marks of all apps.
#[derive(Default)]
pub(super) struct Marks {
    apps: RwLock<Apps>,
}

#[derive(Default)]
struct Apps {
    by_name: HashMap<AppName, Arc<AppMarks>>,
    by_id: Vec<Arc<AppMarks>>,
}

/// The marks of an app.
pub(super) struct AppMarks {
    pub(super) app: AppName,
    pub(super) id: AppId,
    /// Of the youngest mark.
    newest: AtomicU64,
    pub(super) purges: AtomicU64,
    covering: RwLock<Covering>,
}

/// The youngest marks of one thing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) hard: Sequence,
    pub(super) soft: Sequence,
}

#[derive(Default)]
struct Covering {
    floor: Mark,
    urls: HashMap<Box<str>, Mark>,
    tags: HashMap<Box<str>, Mark>,
    /// By their length, so that an URL is looked up once for each length.
    prefixes: BTreeMap<usize, HashMap<Box<str>, Mark>>,
}

/// For which marks a response was found good last, and whether it was softly purged then.
/// Saves looking through marks for every hit.
#[derive(Debug, Default)]
pub(super) struct Judged(AtomicU64);

impl Marks {
    pub(super) fn app(&self, app: &AppName) -> Arc<AppMarks> {
        let known = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(marks) = known.by_name.get(app) {
            return marks.clone();
        }
        drop(known);
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(marks) = apps.by_name.get(app) {
            return marks.clone();
        }
        let marks = Arc::new(AppMarks {
            app: app.clone(),
            id: AppId(apps.by_id.len() as u32),
            newest: AtomicU64::new(0),
            purges: AtomicU64::new(0),
            covering: RwLock::default(),
        });
        apps.by_name.insert(app.clone(), marks.clone());
        apps.by_id.push(marks.clone());
        marks
    }

    pub(super) fn all(&self) -> Vec<Arc<AppMarks>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).by_id.clone()
    }
}

impl AppMarks {
    /// Makes a mark. It holds for every lookup that begins after this.
    pub(super) fn purge(&self, what: &Covered, soft: bool, clock: &AtomicU64) -> Mark {
        let mut covering = self.covering.write().unwrap_or_else(PoisonError::into_inner);
        let at = next(clock);
        let mark = Mark::at(at, soft);
        covering.cover(what, mark);
        self.purges.fetch_add(1, Ordering::Relaxed);
        self.newest.store(at.0, Ordering::Release);
        mark
    }

    /// Takes up a mark that was made before a restart.
    pub(super) fn restore(&self, what: &Covered, mark: Mark) {
        let mut covering = self.covering.write().unwrap_or_else(PoisonError::into_inner);
        covering.cover(what, mark);
        self.newest.fetch_max(mark.hard.max(mark.soft).0, Ordering::Release);
    }

    /// Whether a response may be used.
    pub(super) fn judge(&self, entry: &Entry, judged: &Judged) -> State {
        let newest = self.newest.load(Ordering::Acquire);
        let before = judged.0.load(Ordering::Relaxed);
        if before >> 1 == newest {
            return if before & 1 == 0 { State::Usable } else { State::SoftPurged };
        }
        let covering = self.covering.read().unwrap_or_else(PoisonError::into_inner);
        let mark = covering.youngest(&entry.key.url, &entry.head.tags);
        let state = mark.state_of(entry.sequence);
        let soft = match state {
            State::Usable => 0,
            State::SoftPurged => 1,
            State::Purged => return State::Purged,
        };
        judged.0.store(newest << 1 | soft, Ordering::Relaxed);
        state
    }

    /// Below this everything of the app is dead, whatever it is.
    pub(super) fn floor(&self) -> Sequence {
        self.covering.read().unwrap_or_else(PoisonError::into_inner).floor.hard
    }

    pub(super) fn len(&self) -> usize {
        self.covering.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Forgets marks once there are more than `marks_max`: first those that no stored
    /// response is older than, given the sequence of the oldest, then by raising the floor.
    pub(super) fn trim(&self, marks_max: usize, oldest: impl FnOnce() -> Sequence) {
        if self.len() <= marks_max {
            return;
        }
        // The index is not looked through with the lock held.
        let oldest = oldest();
        let mut covering = self.covering.write().unwrap_or_else(PoisonError::into_inner);
        covering.raise_floor(oldest);
        // A quarter at once, so that this is rare.
        let keep = marks_max - marks_max / 4;
        if covering.len() > keep {
            let mut sequences = covering.sequences();
            sequences.sort_unstable();
            let cut = sequences[sequences.len() - keep - 1];
            covering.raise_floor(cut);
        }
    }

    /// Everything that it takes to restore these marks.
    pub(super) fn export(&self) -> Vec<(Covered, Mark)> {
        let covering = self.covering.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::with_capacity(covering.len() + 1);
        if covering.floor != Mark::default() {
            out.push((Covered::All, covering.floor));
        }
        out.extend(covering.urls.iter().map(|(url, mark)| (Covered::Url(url.clone()), *mark)));
        let prefixes = covering.prefixes.values().flatten();
        out.extend(prefixes.map(|(prefix, mark)| (Covered::Prefix(prefix.clone()), *mark)));
        out.extend(covering.tags.iter().map(|(tag, mark)| (Covered::Tag(tag.clone()), *mark)));
        out
    }
}

/// The next sequence: later than every one that was taken before.
pub(super) fn next(clock: &AtomicU64) -> Sequence {
    Sequence(clock.fetch_add(1, Ordering::AcqRel) + 1)
}

impl Mark {
    fn at(at: Sequence, soft: bool) -> Mark {
        let none = Mark::default();
        if soft { Mark { soft: at, ..none } } else { Mark { hard: at, ..none } }
    }

    fn join(&mut self, other: Mark) {
        self.hard = self.hard.max(other.hard);
        self.soft = self.soft.max(other.soft);
    }

    fn youngest(self) -> Sequence {
        self.hard.max(self.soft)
    }

    fn state_of(self, sequence: Sequence) -> State {
        if self.hard > sequence {
            State::Purged
        } else if self.soft > sequence {
            State::SoftPurged
        } else {
            State::Usable
        }
    }
}

impl Covering {
    fn cover(&mut self, what: &Covered, mark: Mark) {
        let place = match what {
            Covered::All => {
                self.floor.join(mark);
                // Marks that say less than the floor are worth nothing.
                return self.raise_floor(Sequence(0));
            }
            Covered::Url(url) => self.urls.entry(url.clone()),
            Covered::Prefix(prefix) => {
                self.prefixes.entry(prefix.len()).or_default().entry(prefix.clone())
            }
            Covered::Tag(tag) => self.tags.entry(tag.clone()),
        };
        place.or_default().join(mark);
    }

    fn youngest(&self, url: &str, tags: &[Box<str>]) -> Mark {
        let mut mark = self.floor;
        let mut join = |found: Option<&Mark>| {
            if let Some(found) = found {
                mark.join(*found);
            }
        };
        join(self.urls.get(url));
        tags.iter().for_each(|tag| join(self.tags.get(tag)));
        for (length, prefixes) in self.prefixes.range(..=url.len()) {
            // Where the length would divide a character there is no such prefix.
            join(url.get(..*length).and_then(|prefix| prefixes.get(prefix)));
        }
        mark
    }

    /// Lets the floor take the place of all marks up to a sequence, hard ones for hard ones
    /// and soft ones for soft ones.
    fn raise_floor(&mut self, to: Sequence) {
        let mut floor = self.floor;
        let mut keep = |mark: &mut Mark| {
            let kept = mark.youngest() > to;
            if !kept {
                floor.join(*mark);
            }
            kept
        };
        self.urls.retain(|_, mark| keep(mark));
        self.tags.retain(|_, mark| keep(mark));
        self.prefixes.retain(|_, prefixes| {
            prefixes.retain(|_, mark| keep(mark));
            !prefixes.is_empty()
        });
        self.floor = floor;
        // What the floor says already needs no mark.
        let says_more = |mark: &mut Mark| {
            mark.hard > floor.hard || (mark.soft > floor.soft && mark.soft > floor.hard)
        };
        self.urls.retain(|_, mark| says_more(mark));
        self.tags.retain(|_, mark| says_more(mark));
        self.prefixes.retain(|_, prefixes| {
            prefixes.retain(|_, mark| says_more(mark));
            !prefixes.is_empty()
        });
    }

    fn len(&self) -> usize {
        let prefixes: usize = self.prefixes.values().map(HashMap::len).sum();
        self.urls.len() + self.tags.len() + prefixes
    }

    fn sequences(&self) -> Vec<Sequence> {
        let prefixes = self.prefixes.values().flat_map(HashMap::values);
        let marks = self.urls.values().chain(self.tags.values()).chain(prefixes);
        marks.map(|mark| mark.youngest()).collect()
    }
}
