//! The set of nodes that a search has seen: an open-addressing table that stays in the first-level cache.
//!
//! A search sees some hundred nodes of millions, so a table of what was seen is smaller, and sooner cleared, than a bit
//! per node.

/// A set of node names.
#[derive(Debug, Clone, Default)]
pub struct Visited {
    /// A name plus one; 0 is free. None at first, then always a power of two, at most half full.
    slots: Vec<u32>,
    count: usize,
    /// Whether the name is in the set that has no place in the slots: the highest.
    has_last: bool,
}

/// Where an entry is looked for first. Fibonacci hashing: neighbours in number end up far apart.
#[inline(always)]
fn slot_of(entry: u32, mask: usize) -> usize {
    (u64::from(entry).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask
}

/// Enough for the nodes that a search with a beam of 100 sees. Miri takes its time to clear a table.
const LEAST_SLOTS: usize = if cfg!(miri) { 64 } else { 4096 };

impl Visited {
    /// Forgets all. A table that a long search has left is given back.
    pub fn clear(&mut self) {
        if self.slots.len() > 16 * LEAST_SLOTS {
            *self = Visited::default();
        } else if self.count > 0 {
            self.slots.fill(0);
            self.count = 0;
            self.has_last = false;
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes in use.
    pub fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    /// Adds a node; false if it was there.
    #[inline]
    pub fn insert(&mut self, node: u32) -> bool {
        if 2 * self.count >= self.slots.len() {
            self.grow();
        }
        let added = match node.wrapping_add(1) {
            0 => !std::mem::replace(&mut self.has_last, true),
            entry => Self::put(&mut self.slots, entry),
        };
        self.count += usize::from(added);
        added
    }

    /// Whether a node was added.
    pub fn contains(&self, node: u32) -> bool {
        let Some(entry) = node.checked_add(1) else { return self.has_last };
        let Some(mask) = self.slots.len().checked_sub(1) else { return false };
        let mut at = slot_of(entry, mask);
        while self.slots[at] != 0 {
            if self.slots[at] == entry {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    #[inline(always)]
    fn put(slots: &mut [u32], entry: u32) -> bool {
        let mask = slots.len() - 1;
        let mut at = slot_of(entry, mask);
        loop {
            match slots[at] {
                0 => {
                    slots[at] = entry;
                    return true;
                }
                found if found == entry => return false,
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut slots = vec![0; (2 * self.slots.len()).max(LEAST_SLOTS)];
        for &entry in self.slots.iter().filter(|&&entry| entry != 0) {
            Self::put(&mut slots, entry);
        }
        self.slots = slots;
    }
}

#[cfg(test)]
mod tests {
    use super::Visited;
    use crate::test_scale::scaled;

    #[test]
    fn knows_what_it_was_given() {
        const NODES: u32 = scaled(100_000, 500);
        let mut visited = Visited::default();
        for node in (0..NODES).chain([u32::MAX, u32::MAX - 1]) {
            assert!(!visited.contains(node), "{node}");
            assert!(visited.insert(node), "{node}");
            assert!(visited.contains(node), "{node}");
        }
        for node in (0..NODES).chain([u32::MAX]) {
            assert!(!visited.insert(node), "{node}");
        }
        assert_eq!(visited.len(), NODES as usize + 2);
        visited.clear();
        assert!(visited.is_empty() && visited.insert(7));
    }
}
