//! A list of neighbours in the arena: names, distances, and which of them are redundant.
//!
//! Changed under the owner's lock only; read without it. A reader may see a list between two changes, with every entry
//! some neighbour that is or was in it: names are single words, and an entry is written before the count that covers it.

use std::sync::atomic::{AtomicU32, Ordering};

/// Set in the word of a neighbour that is nearer to another neighbour than to the owner.
const REDUNDANT: u32 = 1 << 31;

/// A list, in place.
pub(super) struct List<'m> {
    count: &'m AtomicU32,
    names: &'m [AtomicU32],
    distances: &'m [AtomicU32],
}

impl<'m> List<'m> {
    /// Words that a list for `room` neighbours takes.
    pub(super) const fn words(room: usize) -> usize {
        1 + 2 * room
    }

    /// The list in these words. Their number fixes the room.
    pub(super) fn in_words(words: &'m [AtomicU32]) -> Option<Self> {
        let (count, rest) = words.split_first()?;
        let (names, distances) = rest.split_at(rest.len() / 2);
        Some(List { count, names, distances })
    }

    pub(super) fn len(&self) -> usize {
        (self.count.load(Ordering::Acquire) as usize).min(self.names.len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.len() < self.names.len()
    }

    /// The neighbours' names.
    pub(super) fn names(&self) -> impl Iterator<Item = u32> + 'm {
        self.names.iter().take(self.len()).map(|word| word.load(Ordering::Acquire) & !REDUNDANT)
    }

    /// The neighbours' names, whether they are redundant, and their distances. Nobody changes the list meanwhile.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, bool, f32)> + 'm {
        let pairs = self.names.iter().zip(self.distances).take(self.len());
        pairs.map(|(word, distance)| {
            let word = word.load(Ordering::Relaxed);
            (word & !REDUNDANT, word & REDUNDANT != 0, f32::from_bits(distance.load(Ordering::Relaxed)))
        })
    }

    fn distance(&self, index: usize) -> f32 {
        self.distances.get(index).map_or(f32::INFINITY, |word| f32::from_bits(word.load(Ordering::Relaxed)))
    }

    fn word(&self, index: usize) -> u32 {
        self.names.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn put(&self, index: usize, name: u32, is_redundant: bool, distance: f32) {
        if let (Some(word), Some(place)) = (self.names.get(index), self.distances.get(index)) {
            place.store(distance.to_bits(), Ordering::Relaxed);
            word.store(name | if is_redundant { REDUNDANT } else { 0 }, Ordering::Release);
        }
    }

    fn mark_redundant(&self, index: usize) {
        if let Some(word) = self.names.get(index) {
            word.fetch_or(REDUNDANT, Ordering::Release);
        }
    }

    /// Adds at the end, if there is room.
    pub(super) fn push(&self, name: u32, is_redundant: bool, distance: f32) {
        let count = self.len();
        if count < self.names.len() {
            self.put(count, name, is_redundant, distance);
            self.count.store(count as u32 + 1, Ordering::Release);
        }
    }

    /// Offers a neighbour: the heuristic of [`crate::hnsw::select`], one neighbour at a time, with what earlier offers
    /// found out kept. `between` gives the newcomer's distance from another node.
    pub(super) fn offer(&self, name: u32, distance: f32, mut between: impl FnMut(u32) -> f32) {
        let count = self.len();
        let is_full = count == self.names.len();
        let mut is_redundant = false;
        // The farthest of the redundant, and the farthest of all.
        let mut spare: Option<(f32, usize)> = None;
        let mut last: Option<(f32, usize)> = None;
        let farther = |most: &Option<(f32, usize)>, distance: f32| most.is_none_or(|(most, _)| distance > most);
        for index in 0..count {
            let (word, other) = (self.word(index), self.distance(index));
            if word & REDUNDANT != 0 {
                if farther(&spare, other) {
                    spare = Some((other, index));
                }
            } else if !is_redundant && other <= distance && between(word & !REDUNDANT) < distance {
                is_redundant = true;
            }
            if farther(&last, other) {
                last = Some((other, index));
            }
        }
        if is_redundant {
            match spare {
                _ if !is_full => self.push(name, true, distance),
                Some((most, index)) if distance < most => self.put(index, name, true, distance),
                _ => {}
            }
            return;
        }
        for index in 0..count {
            let (word, other) = (self.word(index), self.distance(index));
            if word & REDUNDANT == 0 && other > distance && between(word & !REDUNDANT) < other {
                self.mark_redundant(index);
                if farther(&spare, other) {
                    spare = Some((other, index));
                }
            }
        }
        if !is_full {
            self.push(name, false, distance);
        } else if let Some((_, index)) = spare {
            self.put(index, name, false, distance);
        } else if let Some((most, index)) = last {
            if distance < most {
                self.put(index, name, false, distance);
            }
        }
    }

    /// Puts a neighbour in, come what may: at the end, or instead of the farthest redundant one, or of the farthest, but not
    /// of one that is needed. False if all are.
    pub(super) fn force(&self, name: u32, distance: f32, is_needed: impl Fn(u32) -> bool) -> bool {
        let count = self.len();
        if count < self.names.len() {
            self.push(name, false, distance);
            return true;
        }
        let rank = |index: usize| (self.word(index) & REDUNDANT != 0, self.distance(index));
        let spare = (0..count).filter(|&index| !is_needed(self.word(index) & !REDUNDANT));
        let worst = spare.max_by(|&a, &b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)));
        if let Some(index) = worst {
            self.put(index, name, false, distance);
        }
        worst.is_some()
    }
}
