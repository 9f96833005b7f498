//! What becomes of a part that the arena does not hold: its rows are dealt out into shares, and graphs are built of two
//! shares at a time, so that every share is linked with others. Built as a graph of their own, the rows left over would be an
//! island within their surroundings: searches end in the rows around and never see them.
//!
//! Up to [`MOST_FOR_ALL_PAIRS`] shares each meets every other, so any two rows of the part are together in a graph; of more, each
//! meets the next, or the work would grow with their square.

use std::hash::{DefaultHasher, Hasher};

/// How full the shares of a graph fill the arena: they are of about equal size, not exactly.
const FILLED: f64 = 0.85;
/// Up to so many shares, each is built with every other.
const MOST_FOR_ALL_PAIRS: u32 = 4;

/// A division of a part's rows into shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares(u32);

impl Shares {
    /// For rows that take so many units in an arena that has room for so many.
    pub(super) fn for_rows(units: usize, room_units: usize) -> Shares {
        if units <= room_units {
            return Shares(1);
        }
        let graphs = units as f64 / (FILLED * room_units.max(1) as f64);
        Shares((2.0 * graphs).ceil() as u32)
    }

    /// The share of a row with this code. Equal codes have the same one, so that they are one node.
    pub(super) fn of(self, code: &[u8]) -> u32 {
        if self.0 == 1 {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(code);
        (hasher.finish() % u64::from(self.0)) as u32
    }

    /// The graphs to build, each of the rows of two shares; of one alone if that is all.
    pub(super) fn graphs(self) -> Vec<(u32, u32)> {
        match self.0 {
            1 => vec![(0, 0)],
            shares @ ..=MOST_FOR_ALL_PAIRS => (0..shares).flat_map(|a| (a + 1..shares).map(move |b| (a, b))).collect(),
            shares => (0..shares).map(|a| (a, (a + 1) % shares)).collect(),
        }
    }

    /// In how many graphs a row is.
    pub(super) fn graphs_of_row(self) -> u64 {
        match self.0 {
            1 => 1,
            shares @ ..=MOST_FOR_ALL_PAIRS => u64::from(shares) - 1,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Shares;
    use crate::test_scale::scaled;

    #[test]
    fn every_share_is_in_as_many_graphs_as_is_said() {
        for units in [10, 100, 101, 140, 180, 400, 5_000] {
            let shares = Shares::for_rows(units, 100);
            let graphs = shares.graphs();
            assert_eq!(graphs == [(0, 0)], units <= 100);
            for share in 0..shares.0 {
                let with = graphs.iter().filter(|&&(a, b)| a == share || b == share).count();
                assert_eq!(with as u64, shares.graphs_of_row(), "{units} units, share {share}");
            }
            assert!(units <= 100 || 2 * units / shares.0 as usize <= 100, "{units} units: {shares:?}");
        }
    }

    #[test]
    fn shares_are_of_about_equal_size() {
        const ROWS: u32 = scaled(4_000, 1_000);
        let shares = Shares::for_rows(150, 100);
        let mut counts = vec![0; shares.0 as usize];
        for row in 0..ROWS {
            counts[shares.of(&row.to_le_bytes()) as usize] += 1;
        }
        let even = ROWS / shares.0;
        assert!(counts.iter().all(|&count| (even - even / 8..even + even / 8).contains(&count)), "{counts:?}");
    }
}
