//! The beam of a search: the `ef` nearest nodes seen, in order, each expanded or not yet; and what fell off it.
//!
//! A sorted array: with the usual widths an insertion moves a few hundred bytes, which is less than what two heaps cost.
//! Nothing that was scored is forgotten: entries beyond the width go to [`Beam::widen`]'s pool, so that a search can go on
//! where it stopped. Nodes that turn out to be no results, as those are that a vacuum is about to remove, do not count
//! towards the width: where most are dead, it would hold hardly any others.

/// `Entry::row` of a node that was not expanded yet.
const UNEXPANDED: u32 = u32::MAX;
/// `Entry::row` of a node that was expanded and must not be returned.
const NO_ROW: u32 = u32::MAX - 1;
/// How many nodes without a row the beam holds besides, as a multiple of the width: else, where all are dead, a search would
/// go through all of them.
const MOST_WITHOUT_ROW: usize = 8;

/// A node in the beam.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) distance: f32,
    pub(super) node: u32,
    row: u32,
}

impl Entry {
    /// The index of its row among those given to [`Beam::expanded`].
    pub(super) fn row(self) -> Option<usize> {
        (self.row < NO_ROW).then_some(self.row as usize)
    }
}

/// The order of entries: by distance, then by node, so that equal graphs give equal results.
#[inline(always)]
fn precedes(a: &Entry, b: &Entry) -> bool {
    a.distance < b.distance || (a.distance == b.distance && a.node < b.node)
}

/// The beam.
#[derive(Debug, Clone, Default)]
pub(super) struct Beam {
    entries: Vec<Entry>,
    width: usize,
    /// Expanded entries without a row.
    without_row: usize,
    /// Entries before are expanded.
    next: usize,
    pool: Vec<Entry>,
    keeps_pool: bool,
}

impl Beam {
    /// Begins anew. `keeps_pool`: whether the search may go on after its first results.
    pub(super) fn begin(&mut self, width: usize, keeps_pool: bool) {
        self.entries.clear();
        self.pool.clear();
        self.width = width.max(1);
        self.without_row = 0;
        self.next = 0;
        self.keeps_pool = keeps_pool;
    }

    /// How many entries there may be.
    #[inline(always)]
    fn room(&self) -> usize {
        self.width + self.without_row.min(MOST_WITHOUT_ROW * self.width)
    }

    /// Adds a node that was scored.
    #[inline]
    pub(super) fn push(&mut self, distance: f32, node: u32) {
        let entry = Entry { distance, node, row: UNEXPANDED };
        while self.entries.len() >= self.room() {
            match self.entries.last() {
                Some(last) if precedes(&entry, last) => {
                    let last = *last;
                    self.entries.pop();
                    self.without_row -= usize::from(last.row == NO_ROW);
                    if self.keeps_pool {
                        self.pool.push(last);
                    }
                }
                _ => {
                    if self.keeps_pool {
                        self.pool.push(entry);
                    }
                    return;
                }
            }
        }
        let at = self.entries.partition_point(|other| precedes(other, &entry));
        self.entries.insert(at, entry);
        self.next = self.next.min(at);
    }

    /// The nearest node that is not expanded, which is to be expanded now.
    #[inline]
    pub(super) fn next(&mut self) -> Option<u32> {
        while let Some(entry) = self.entries.get(self.next) {
            if entry.row == UNEXPANDED {
                return Some(entry.node);
            }
            self.next += 1;
        }
        None
    }

    /// Marks the node that [`Beam::next`] gave as expanded, with the index of its row if it has one.
    #[inline]
    pub(super) fn expanded(&mut self, row: Option<usize>) {
        if let Some(entry) = self.entries.get_mut(self.next) {
            entry.row = row.map_or(NO_ROW, |row| row as u32);
            self.without_row += usize::from(row.is_none());
        }
        self.next += 1;
    }

    /// Puts an expanded node with a row into the pool, from which [`Beam::widen`] fills the beam.
    pub(super) fn pool(&mut self, distance: f32, node: u32, row: usize) {
        self.pool.push(Entry { distance, node, row: row as u32 });
    }

    /// The distance of the nearest in the pool; infinite if it is empty.
    pub(super) fn nearest_in_pool(&self) -> f32 {
        self.pool.iter().map(|entry| entry.distance).fold(f32::INFINITY, f32::min)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Drops what is in the beam, and fills it with the nearest of the pool, up to a new width. False if there are none.
    pub(super) fn widen(&mut self, width: usize) -> bool {
        self.width = width.max(1);
        self.next = 0;
        self.entries.clear();
        let order = |a: &Entry, b: &Entry| a.distance.total_cmp(&b.distance).then(a.node.cmp(&b.node));
        if self.pool.len() > self.width {
            self.pool.select_nth_unstable_by(self.width, order);
            let rest = self.pool.split_off(self.width);
            std::mem::swap(&mut self.entries, &mut self.pool);
            self.pool = rest;
        } else {
            std::mem::swap(&mut self.entries, &mut self.pool);
        }
        self.entries.sort_unstable_by(order);
        self.without_row = self.entries.iter().filter(|entry| entry.row == NO_ROW).count();
        !self.entries.is_empty()
    }

    /// Bytes in use.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.entries.capacity() + self.pool.capacity()) * size_of::<Entry>()
    }
}
