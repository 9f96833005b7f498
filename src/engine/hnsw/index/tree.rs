//! The last resort of connecting: along a tree of ways.
//!
//! [`Index::connect`] walks the graph and links what the walk does not reach, as an insertion would. A list that takes a
//! node may give up another, to which there was no second way after all; with short lists and many equal distances that can
//! go on in a circle. Here the walk from the entry is remembered as a tree, and a list gives up none of the tree's edges: so
//! nothing that was reached is lost, and one walk is enough. There is room: of the 2m edges of n nodes the tree takes n - 1.

use super::insert::Inserter;
use super::node_set::NodeSet;
use super::open::Index;
use super::store::PageStore;
use crate::hnsw::graph::EntryPoint;
use crate::hnsw::page::node::NodeState;
use crate::hnsw::page::NONE;

/// By node: the node from which the walk came; the entry's is itself. [`NONE`] if the walk has not come.
type Parents = Vec<u32>;

impl<S: PageStore> Index<S> {
    /// Puts every live node that nothing leads to into the list of a near one. Gives how many. Memory: 4 bytes a node.
    pub(super) fn connect_by_tree(&mut self, inserter: &mut Inserter, dead: &NodeSet) -> Result<u32, S::Error> {
        let Some(entry) = self.entry_point()? else { return Ok(0) };
        let mut parents: Parents = vec![NONE; self.entry.nodes as usize];
        self.grow_tree(entry.node, entry.node, &mut parents)?;
        let (mut heads, mut connected) = (Vec::new(), 0);
        for page_index in 0..self.shape.layout.nodes().pages(self.entry.nodes) {
            self.heads(page_index, &mut heads)?;
            for &(ordinal, head) in &heads {
                let is_lost = parents.get(ordinal as usize) == Some(&NONE) && !dead.contains(ordinal);
                if head.state == NodeState::Live && is_lost {
                    connected += u32::from(self.hang_on(inserter, ordinal, entry, dead, &mut parents)?);
                }
            }
        }
        Ok(connected)
    }

    /// Hangs a node, and what it leads to, on the nearest node of the tree whose list can take it.
    fn hang_on(
        &mut self,
        inserter: &mut Inserter,
        node: u32,
        entry: EntryPoint,
        dead: &NodeSet,
        parents: &mut Parents,
    ) -> Result<bool, S::Error> {
        let Some((_, query)) = self.code_and_query(node)? else { return Ok(false) };
        let candidates = self.candidates(inserter, &query, EntryPoint { level: 0, ..entry }, 0)?;
        for near in candidates {
            let is_in_tree = parents.get(near.node as usize).is_some_and(|&parent| parent != NONE);
            if is_in_tree && !dead.contains(near.node) && self.put_beside_tree(near.node, node, parents)? {
                self.grow_tree(near.node, node, parents)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a node into a list at level 0, at the end or instead of the last entry that the tree reaches otherwise.
    fn put_beside_tree(&mut self, owner: u32, node: u32, parents: &Parents) -> Result<bool, S::Error> {
        let room = self.shape.layout.max_neighbours(0);
        self.change_list(owner, 0, |list| {
            let mut ids = list.to_vec();
            if ids.contains(&node) {
                return Some(ids);
            }
            if ids.len() >= room {
                let is_spare = |&id: &u32| parents.get(id as usize).is_some_and(|&parent| parent != owner);
                ids.remove(ids.iter().rposition(is_spare)?);
            }
            ids.push(node);
            Some(ids)
        })
    }

    /// Adds a node and all that edges of level 0 lead to from it.
    fn grow_tree(&mut self, parent: u32, from: u32, parents: &mut Parents) -> Result<(), S::Error> {
        let mut open = vec![(parent, from)];
        let mut list = Vec::new();
        while let Some((parent, node)) = open.pop() {
            self.store.check_interrupts()?;
            match parents.get_mut(node as usize) {
                Some(slot) if *slot == NONE => *slot = parent,
                _ => continue,
            }
            self.node(node, Some(&mut list))?;
            open.extend(list.iter().map(|&other| (node, other)));
        }
        Ok(())
    }
}
