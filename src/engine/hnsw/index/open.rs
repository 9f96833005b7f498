//! An index, opened: what it is, and where its pages are.

use std::rc::Rc;

use super::store::PageStore;
use crate::code::Codec;
use crate::hnsw::filter::RowShape;
use crate::hnsw::page::calibration::Calibration;
use crate::hnsw::page::extents::ExtentMap;
use crate::hnsw::page::meta::{Entry, Identity};
use crate::hnsw::page::{special, CodeLength, Layout, Meta, Page, PageClass, PageError, META_BLOCK};

/// What does not change while an index lives, but for growth: a process keeps one per index.
pub struct Shape {
    pub identity: Identity,
    pub layout: Layout,
    pub codec: Codec,
    /// Where the filter keys of a row lie.
    pub row_keys: RowShape,
    pub calibration: Calibration,
    maps: [ExtentMap; PageClass::ALL.len()],
}

impl Shape {
    /// Reads the metapage and the directories.
    pub fn read<S: PageStore>(store: &mut S) -> Result<Shape, S::Error> {
        let meta = store.read(META_BLOCK, Meta::decode)??;
        let layout = meta.identity.layout()?;
        let codec = meta.identity.codec();
        let fits = match meta.identity.code_length {
            CodeLength::Fixed(bytes) => bytes as usize == codec.code_bytes(),
            CodeLength::Variable { .. } => true,
        };
        if !fits {
            let found = u64::from(meta.identity.code_length.max_bytes());
            return Err(PageError::Value { field: "length of codes", found }.into());
        }
        let maps = read_maps(store, &meta)?;
        let row_keys = meta.identity.row_keys();
        Ok(Shape { identity: meta.identity, layout, codec, row_keys, calibration: meta.calibration, maps })
    }

    /// The narrowest beam with which the build measured this recall, between two measured ones interpolated; the widest
    /// measured if none reached it. None if nothing was measured.
    pub fn ef_for(&self, recall: f32) -> Option<usize> {
        let points = self.calibration.points();
        let reached = points.iter().position(|point| point.recall >= recall);
        let Some(index) = reached else { return points.last().map(|point| usize::from(point.ef_search)) };
        let above = points.get(index)?;
        let below = index.checked_sub(1).and_then(|below| points.get(below));
        let Some(below) = below.filter(|below| above.recall > below.recall) else {
            return Some(usize::from(above.ef_search));
        };
        let share = (recall - below.recall) / (above.recall - below.recall);
        let (low, high) = (f32::from(below.ef_search), f32::from(above.ef_search));
        Some((low + share * (high - low)).ceil() as usize)
    }

    fn block(&self, class: PageClass, page_index: u32) -> Result<u32, PageError> {
        self.maps[class.slot()].block(page_index)
    }
}

fn read_maps<S: PageStore>(store: &mut S, meta: &Meta) -> Result<[ExtentMap; PageClass::ALL.len()], S::Error> {
    let mut maps: [ExtentMap; PageClass::ALL.len()] = Default::default();
    for (map, &class) in maps.iter_mut().zip(PageClass::ALL) {
        let extents = meta.class(class);
        *map = ExtentMap::new(extents);
        let mut next = extents.directory_head;
        while let (false, Some(block)) = (map.is_complete(), next) {
            next = store.read(block, |page| map.take_directory(class, page, meta.next_block))??;
        }
    }
    Ok(maps)
}

/// An index in a store.
pub struct Index<S> {
    pub(super) store: S,
    pub(super) shape: Rc<Shape>,
    /// The metapage as [`Index::look`] read it last.
    pub(super) entry: Entry,
}

impl<S: PageStore> Index<S> {
    /// Opens an index; `known` is the shape from before, if the caller keeps one: taken if it is of this index.
    pub fn open(mut store: S, known: Option<Rc<Shape>>) -> Result<Self, S::Error> {
        let entry = store.read(META_BLOCK, Entry::decode)??;
        let shape = match known.filter(|shape| shape.identity.code_seed == entry.code_seed) {
            Some(shape) => shape,
            None => Rc::new(Shape::read(&mut store)?),
        };
        Ok(Index { store, shape, entry })
    }

    /// The shape as it is now, to be kept for the next time.
    pub fn shape(&self) -> &Rc<Shape> {
        &self.shape
    }

    pub fn store(&mut self) -> &mut S {
        &mut self.store
    }

    pub fn into_store(self) -> S {
        self.store
    }

    /// The counts of the metapage as they were read last.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Reads the metapage's entry again.
    pub fn look(&mut self) -> Result<Entry, S::Error> {
        self.entry = self.store.read(META_BLOCK, Entry::decode)??;
        if self.entry.code_seed != self.shape.identity.code_seed {
            self.shape = Rc::new(Shape::read(&mut self.store)?);
        }
        Ok(self.entry)
    }

    /// The whole metapage.
    pub fn meta(&mut self) -> Result<Meta, S::Error> {
        Ok(self.store.read(META_BLOCK, Meta::decode)??)
    }

    /// The block of a page of a class. If the index has grown since the shape was read, that is read again.
    #[inline]
    pub(super) fn block(&mut self, class: PageClass, page_index: u32) -> Result<u32, S::Error> {
        match self.shape.block(class, page_index) {
            Ok(block) => Ok(block),
            Err(_) => self.block_after_growth(class, page_index),
        }
    }

    #[cold]
    fn block_after_growth(&mut self, class: PageClass, page_index: u32) -> Result<u32, S::Error> {
        self.shape = Rc::new(Shape::read(&mut self.store)?);
        Ok(self.shape.block(class, page_index)?)
    }
}

/// Reads a page of a class; None if nobody has initialised it, which is what a crash may leave.
pub(super) fn written(page: &Page, class: PageClass, page_index: u32) -> Result<Option<&Page>, PageError> {
    match special::check(page, class.kind(), page_index) {
        Ok(()) => Ok(Some(page)),
        Err(PageError::New) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a page ready to be changed: initialises it if nobody has.
pub(super) fn prepare(page: &mut Page, class: PageClass, page_index: u32) -> Result<(), PageError> {
    if written(page, class, page_index)?.is_none() {
        special::init(page, class.kind(), page_index);
    }
    Ok(())
}
