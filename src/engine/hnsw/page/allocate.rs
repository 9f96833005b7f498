//! Handing out: ordinals, upper records, chunks, and the blocks they lie on. All of it is arithmetic on the metapage.
//!
//! An insert decodes the metapage, calls these, and encodes it, under the metapage's exclusive lock. The protocol for a
//! new node: [`Meta::append_node`] on a copy; while [`Meta::lacking_class`] names a class, [`Meta::plan_extent`] for it
//! (outside of the lock the fork is made long enough for the plan; under it the plan is assigned); then
//! [`Meta::append_node`] for good, in the record that also writes the node.

use super::directory::{self, DIRECTORY_ENTRIES};
use super::error::PageError;
use super::extents::{extent_blocks, INLINE_EXTENTS};
use super::layout::Layout;
use super::meta::Meta;
use super::special;
use super::terms::PageClass;
use super::{Page, MAX_LEVEL, NONE};

/// What a new node gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    pub ordinal: u32,
    /// Upper records of a node of level 1 or more, one per level.
    pub first_upper: Option<u32>,
}

/// Where a new extent is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// On the metapage.
    Inline,
    /// At the end of the last directory page.
    Directory { block: u32 },
    /// On a new directory page, the `chain_index`-th, which follows `previous`.
    NewDirectory { block: u32, chain_index: u32, previous: Option<u32> },
}

/// A growth extent to be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentPlan {
    pub class: PageClass,
    pub first_block: u32,
    pub blocks: u32,
    pub listing: Listing,
}

impl ExtentPlan {
    /// The blocks that the fork must have.
    pub fn fork_blocks(&self) -> u32 {
        self.first_block + self.blocks
    }
}

fn add(count: &mut u32, more: u32, what: &'static str) -> Result<u32, PageError> {
    let first = *count;
    match first.checked_add(more) {
        Some(sum) if sum < NONE => *count = sum,
        _ => return Err(PageError::Refused(what)),
    }
    Ok(first)
}

impl Meta {
    /// Hands out the next ordinal and the upper records of a node of this level.
    pub fn append_node(&mut self, level: u8) -> Result<NewNode, PageError> {
        if level > MAX_LEVEL {
            return Err(PageError::Refused("no such level"));
        }
        let mut counts = self.counts;
        let ordinal = add(&mut counts.nodes, 1, "index has no room for more nodes")?;
        let upper = add(&mut counts.uppers, u32::from(level), "index has no room for more upper lists")?;
        self.counts = counts;
        Ok(NewNode { ordinal, first_upper: (level > 0).then_some(upper) })
    }

    /// Takes the head off the free list. `next_free` is what [`super::node_edit::NodeMut::claim`] of that node gave.
    pub fn pop_free_node(&mut self, next_free: Option<u32>) -> Result<(), PageError> {
        let left = self.counts.free_nodes.checked_sub(1);
        match (left, next_free) {
            (Some(0), None) | (Some(1..), Some(_)) => {}
            _ => return Err(PageError::Refused("free list and its count differ")),
        }
        self.counts.free_nodes = left.unwrap_or(0);
        self.counts.free_head = next_free;
        Ok(())
    }

    /// Puts nodes that were dead on the free list: `head`, and from it along the chain `count` in all, of which the
    /// last was freed before the present head.
    pub fn push_free_nodes(&mut self, head: u32, count: u32) -> Result<(), PageError> {
        let dead = self.counts.dead_nodes.checked_sub(count).filter(|_| count > 0);
        self.counts.dead_nodes = dead.ok_or(PageError::Refused("fewer nodes are dead than are freed"))?;
        self.counts.free_nodes = self.counts.free_nodes.saturating_add(count);
        self.counts.free_head = Some(head);
        Ok(())
    }

    /// Hands out a chunk for heap tids that was never used.
    pub fn append_tid_chunk(&mut self) -> Result<u32, PageError> {
        add(&mut self.counts.tid_chunks, 1, "index has no room for more heap tids")
    }

    /// Takes the head off the free tid chunks. `next_free` is what that chunk says is next.
    pub fn pop_free_tid_chunk(&mut self, next_free: Option<u32>) -> Option<u32> {
        std::mem::replace(&mut self.counts.free_tid_chunk, next_free)
    }

    /// Puts a tid chunk at the head of the free ones; gives the head before, which the chunk has to name as its next.
    pub fn push_free_tid_chunk(&mut self, chunk: u32) -> Option<u32> {
        self.counts.free_tid_chunk.replace(chunk)
    }

    /// Hands out room for a code of variable length; gives its first chunk.
    pub fn append_code(&mut self, code_bytes: u32) -> Result<u32, PageError> {
        add(&mut self.counts.code_chunks, Layout::chunks(code_bytes), "index has no room for more codes")
    }

    /// A class whose records handed out need a page that it does not have.
    pub fn lacking_class(&self, layout: &Layout) -> Option<PageClass> {
        let lacks = |class: PageClass| self.pages_in_use(layout, class) > u64::from(self.class(class).pages());
        PageClass::ALL.iter().copied().find(|&class| lacks(class))
    }

    /// What the next extent of a class would be.
    pub fn plan_extent(&self, class: PageClass) -> Result<ExtentPlan, PageError> {
        let extents = self.class(class);
        let mut next_block = self.next_block;
        let blocks = extent_blocks(extents.extents);
        let full = PageError::Refused("index has no room for more pages");
        let listing = match extents.extents.checked_sub(INLINE_EXTENTS as u32) {
            None => Listing::Inline,
            Some(listed) if !listed.is_multiple_of(DIRECTORY_ENTRIES as u32) => {
                Listing::Directory { block: extents.directory_tail.ok_or(full)? }
            }
            Some(listed) => {
                let block = next_block;
                next_block = next_block.checked_add(1).ok_or(full)?;
                let chain_index = listed / DIRECTORY_ENTRIES as u32;
                Listing::NewDirectory { block, chain_index, previous: extents.directory_tail }
            }
        };
        // The highest block number is PostgreSQL's InvalidBlockNumber.
        let end = next_block.checked_add(blocks).filter(|&end| end < NONE).ok_or(full)?;
        Ok(ExtentPlan { class, first_block: end - blocks, blocks, listing })
    }

    /// Assigns a plan, if nothing was assigned since it was made: false means to plan again. The directory pages are
    /// changed by [`ExtentPlan::list`] and [`ExtentPlan::link`] in the same record.
    pub fn assign_extent(&mut self, plan: &ExtentPlan) -> Result<bool, PageError> {
        if self.plan_extent(plan.class)? != *plan {
            return Ok(false);
        }
        self.next_block = plan.fork_blocks();
        let class = self.class_mut(plan.class);
        match plan.listing {
            Listing::Inline => {
                if let Some(place) = class.inline.get_mut(class.extents as usize) {
                    *place = plan.first_block;
                }
            }
            Listing::Directory { .. } => {}
            Listing::NewDirectory { block, previous, .. } => {
                class.directory_tail = Some(block);
                if previous.is_none() {
                    class.directory_head = Some(block);
                }
            }
        }
        class.extents += 1;
        Ok(true)
    }
}

impl ExtentPlan {
    /// Writes the extent into the directory page that lists it, initialising a new one.
    pub fn list(&self, page: &mut Page) -> Result<(), PageError> {
        match self.listing {
            Listing::Inline => return Err(PageError::Refused("extent is listed on the metapage")),
            Listing::Directory { .. } => {}
            Listing::NewDirectory { chain_index, .. } => directory::init(page, self.class, chain_index),
        }
        directory::push(page, self.class, self.first_block)
    }

    /// Links the directory page before a new one to it.
    pub fn link(&self, previous: &mut Page) -> Result<(), PageError> {
        match self.listing {
            Listing::NewDirectory { block, previous: Some(_), .. } => {
                special::set_next_block(previous, Some(block));
                Ok(())
            }
            _ => Err(PageError::Refused("extent needs no new directory page")),
        }
    }
}
