//! A set of nodes.

/// A bit for each node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSet {
    words: Vec<u64>,
    count: u32,
}

impl NodeSet {
    pub fn with_nodes(nodes: u32) -> Self {
        NodeSet { words: vec![0; nodes.div_ceil(64) as usize], count: 0 }
    }

    /// Adds a node below the number that the set was made for; false if it was there.
    pub fn insert(&mut self, node: u32) -> bool {
        match self.words.get_mut(node as usize / 64) {
            Some(word) if *word & 1 << (node % 64) == 0 => {
                *word |= 1 << (node % 64);
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Adds those of the nodes from `first` whose bit is set, 64 to a word. `first` is a multiple of 8, and none of them is
    /// there yet.
    pub fn insert_words(&mut self, first: u32, words: &[u64]) {
        let (at, shift) = (first as usize / 64, first % 64);
        for (index, &word) in words.iter().enumerate().filter(|(_, &word)| word != 0) {
            if let Some(low) = self.words.get_mut(at + index) {
                *low |= word << shift;
                self.count += (word << shift).count_ones();
            }
            let carried = if shift > 0 { word >> (64 - shift) } else { 0 };
            if let Some(high) = self.words.get_mut(at + index + 1).filter(|_| carried != 0) {
                *high |= carried;
                self.count += carried.count_ones();
            }
        }
    }

    #[inline]
    pub fn contains(&self, node: u32) -> bool {
        self.words.get(node as usize / 64).is_some_and(|word| word & 1 << (node % 64) != 0)
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Calls `visit` with the nodes, ascending.
    #[inline]
    pub fn for_each(&self, mut visit: impl FnMut(u32)) {
        for (at, &word) in self.words.iter().enumerate() {
            let mut left = word;
            while left != 0 {
                visit(at as u32 * 64 + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }

    /// The nodes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::NodeSet;

    #[test]
    fn words_are_added_at_any_byte() {
        for first in [0u32, 8, 56, 64, 120] {
            let mut set = NodeSet::with_nodes(200);
            let word = 0x8000_0000_0000_0401;
            set.insert_words(first, &[word, 0, 1]);
            // 200 nodes take four words.
            let bits = [0, 10, 63, 128].iter().map(|bit| first + bit);
            let expected: Vec<u32> = bits.filter(|&node| node < 256).collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
            let mut visited = Vec::new();
            set.for_each(|node| visited.push(node));
            assert_eq!(visited, expected);
            assert_eq!(set.len(), expected.len() as u32);
            assert!(!set.insert(first) && set.insert(first + 1) && set.contains(first + 1));
        }
    }
}
