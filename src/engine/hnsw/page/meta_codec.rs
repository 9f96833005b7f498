//! The bytes of the metapage. Offsets are those of the README's table.

use super::bytes::{first_non_zero, get_u16, get_u32, get_u64, get_u8, put_u16, put_u32, put_u64, put_u8, Page};
use super::calibration::{Calibration, CALIBRATION_BYTES};
use super::error::PageError;
use super::extents::{ClassExtents, INLINE_EXTENTS};
use super::filter_columns::{self, FILTER_COLUMNS_BYTES};
use super::layout::CodeLength;
use super::meta::{Counts, Entry, Identity, Meta};
use super::special::{self, PageKind, FORMAT_VERSION, MAGIC};
use super::terms::{CodeKind, ElementType, Metric, CLASS_SLOTS};
use super::{MAX_LEVEL, META_END, NONE, PAYLOAD_OFFSET, SPECIAL_OFFSET};

const VERSION_AT: usize = PAYLOAD_OFFSET + 4;
const FEATURES_AT: usize = PAYLOAD_OFFSET + 6;
const ELEMENT_AT: usize = 32;
const METRIC_AT: usize = 33;
const CODE_KIND_AT: usize = 34;
const CODE_LENGTH_AT: usize = 35;
const DIMENSIONS_AT: usize = 36;
const CODE_SEED_AT: usize = 40;
const CODE_BYTES_AT: usize = 48;
const CODE_STRIDE_AT: usize = 52;
const M_AT: usize = 56;
const EF_CONSTRUCTION_AT: usize = 58;
const NODE_STRIDE_AT: usize = 60;
const NODES_PER_PAGE_AT: usize = 62;
const NODES_AT: usize = 64;
const DEAD_NODES_AT: usize = 68;
const FREE_NODES_AT: usize = 72;
const FREE_HEAD_AT: usize = 76;
const UPPERS_AT: usize = 80;
const TID_CHUNKS_AT: usize = 84;
const FREE_TID_CHUNK_AT: usize = 88;
const CODE_CHUNKS_AT: usize = 92;
const ENTRY_NODE_AT: usize = 96;
const ENTRY_LEVEL_AT: usize = 100;
const NEXT_BLOCK_AT: usize = 104;
const VACUUM_EPOCH_AT: usize = 112;
const REUSE_EPOCH_AT: usize = 120;
const CALIBRATION_AT: usize = 192;
const FILTER_COLUMNS_AT: usize = CALIBRATION_AT + CALIBRATION_BYTES;
const CLASSES_AT: usize = 896;
const CLASS_BYTES: usize = 32 + 4 * INLINE_EXTENTS;

const _: () = assert!(FILTER_COLUMNS_AT == 336 && FILTER_COLUMNS_AT + FILTER_COLUMNS_BYTES == 840);
const _: () = assert!(CLASS_BYTES == 160 && CLASSES_AT + CLASS_SLOTS * CLASS_BYTES == META_END);

/// The parts that no field takes.
const RESERVED: [(usize, usize); 4] = [
    (NEXT_BLOCK_AT + 4, VACUUM_EPOCH_AT),
    (REUSE_EPOCH_AT + 8, CALIBRATION_AT),
    (FILTER_COLUMNS_AT + FILTER_COLUMNS_BYTES, CLASSES_AT),
    (META_END, SPECIAL_OFFSET),
];

fn option(number: u32) -> Option<u32> {
    (number != NONE).then_some(number)
}

/// Checks special area, magic, version and features.
fn check_head(page: &Page) -> Result<(), PageError> {
    special::check(page, PageKind::Meta, 0)?;
    let magic = get_u32(page, PAYLOAD_OFFSET);
    if magic != MAGIC {
        return Err(PageError::Magic(magic));
    }
    let version = get_u16(page, VERSION_AT);
    if version == 0 || version > u16::from(FORMAT_VERSION) {
        return Err(PageError::Version(version));
    }
    match get_u16(page, FEATURES_AT) {
        0 => Ok(()),
        features => Err(PageError::Features(features)),
    }
}

impl Entry {
    /// Reads what a search wants, without the rest of the page.
    pub fn decode(page: &Page) -> Result<Self, PageError> {
        check_head(page)?;
        let nodes = get_u32(page, NODES_AT);
        let entry = get_u32(page, ENTRY_NODE_AT);
        let level = get_u32(page, ENTRY_LEVEL_AT);
        if level > u32::from(MAX_LEVEL) || (entry != NONE && entry >= nodes) {
            return Err(PageError::Value { field: "entry node", found: u64::from(entry) });
        }
        let gone = get_u32(page, DEAD_NODES_AT).saturating_add(get_u32(page, FREE_NODES_AT));
        Ok(Entry {
            node: option(entry).map(|node| (node, level as u8)),
            nodes,
            live_nodes: nodes.saturating_sub(gone),
            code_seed: get_u64(page, CODE_SEED_AT),
            vacuum_epoch: get_u64(page, VACUUM_EPOCH_AT),
            reuse_epoch: get_u64(page, REUSE_EPOCH_AT),
        })
    }
}

impl Meta {
    /// Writes the whole page but PostgreSQL's header.
    pub fn encode(&self, page: &mut Page) -> Result<(), PageError> {
        let layout = self.identity.layout()?;
        special::init(page, PageKind::Meta, 0);
        put_u32(page, PAYLOAD_OFFSET, MAGIC);
        put_u16(page, VERSION_AT, u16::from(FORMAT_VERSION));
        let identity = &self.identity;
        put_u8(page, ELEMENT_AT, identity.element as u8);
        put_u8(page, METRIC_AT, identity.metric as u8);
        put_u8(page, CODE_KIND_AT, identity.code_kind as u8);
        put_u8(page, CODE_LENGTH_AT, u8::from(matches!(identity.code_length, CodeLength::Variable { .. })));
        put_u32(page, DIMENSIONS_AT, identity.dimensions);
        put_u64(page, CODE_SEED_AT, identity.code_seed);
        put_u32(page, CODE_BYTES_AT, identity.code_length.max_bytes());
        put_u32(page, CODE_STRIDE_AT, layout.codes().stride_bytes() as u32);
        put_u16(page, M_AT, identity.m);
        put_u16(page, EF_CONSTRUCTION_AT, identity.ef_construction);
        put_u16(page, NODE_STRIDE_AT, layout.nodes().stride_bytes() as u16);
        put_u16(page, NODES_PER_PAGE_AT, layout.nodes().per_page() as u16);
        let counts = &self.counts;
        put_u32(page, NODES_AT, counts.nodes);
        put_u32(page, DEAD_NODES_AT, counts.dead_nodes);
        put_u32(page, FREE_NODES_AT, counts.free_nodes);
        put_u32(page, FREE_HEAD_AT, counts.free_head.unwrap_or(NONE));
        put_u32(page, UPPERS_AT, counts.uppers);
        put_u32(page, TID_CHUNKS_AT, counts.tid_chunks);
        put_u32(page, FREE_TID_CHUNK_AT, counts.free_tid_chunk.unwrap_or(NONE));
        put_u32(page, CODE_CHUNKS_AT, counts.code_chunks);
        put_u32(page, ENTRY_NODE_AT, self.entry.map_or(NONE, |(node, _)| node));
        put_u32(page, ENTRY_LEVEL_AT, self.entry.map_or(0, |(_, level)| u32::from(level)));
        put_u32(page, NEXT_BLOCK_AT, self.next_block);
        put_u64(page, VACUUM_EPOCH_AT, self.vacuum_epoch);
        put_u64(page, REUSE_EPOCH_AT, self.reuse_epoch);
        self.calibration.encode(page, CALIBRATION_AT);
        filter_columns::encode(&identity.filter_columns, page, FILTER_COLUMNS_AT);
        for (class, at) in self.classes.iter().zip((CLASSES_AT..).step_by(CLASS_BYTES)) {
            encode_class(class, page, at);
        }
        Ok(())
    }

    /// Reads and checks the whole page.
    pub fn decode(page: &Page) -> Result<Self, PageError> {
        check_head(page)?;
        if let Some(offset) = RESERVED.iter().find_map(|&(start, end)| first_non_zero(page, start, end)) {
            return Err(PageError::Reserved(offset as u32));
        }
        let meta = Meta {
            identity: decode_identity(page)?,
            counts: Counts {
                nodes: get_u32(page, NODES_AT),
                dead_nodes: get_u32(page, DEAD_NODES_AT),
                free_nodes: get_u32(page, FREE_NODES_AT),
                free_head: option(get_u32(page, FREE_HEAD_AT)),
                uppers: get_u32(page, UPPERS_AT),
                tid_chunks: get_u32(page, TID_CHUNKS_AT),
                free_tid_chunk: option(get_u32(page, FREE_TID_CHUNK_AT)),
                code_chunks: get_u32(page, CODE_CHUNKS_AT),
            },
            entry: Entry::decode(page)?.node,
            next_block: get_u32(page, NEXT_BLOCK_AT),
            vacuum_epoch: get_u64(page, VACUUM_EPOCH_AT),
            reuse_epoch: get_u64(page, REUSE_EPOCH_AT),
            calibration: Calibration::decode(page, CALIBRATION_AT)?,
            classes: decode_classes(page)?,
        };
        meta.check()?;
        check_strides(page, &meta)?;
        Ok(meta)
    }
}

/// Refuses an index whose writer computed other strides from the same shape.
fn check_strides(page: &Page, meta: &Meta) -> Result<(), PageError> {
    let layout = meta.identity.layout()?;
    let pairs = [
        ("stride of codes", get_u32(page, CODE_STRIDE_AT), layout.codes().stride_bytes() as u32),
        ("stride of nodes", u32::from(get_u16(page, NODE_STRIDE_AT)), layout.nodes().stride_bytes() as u32),
        ("nodes per page", u32::from(get_u16(page, NODES_PER_PAGE_AT)), layout.nodes().per_page()),
    ];
    match pairs.into_iter().find(|(_, found, computed)| found != computed) {
        Some((field, found, _)) => Err(PageError::Value { field, found: u64::from(found) }),
        None => Ok(()),
    }
}

fn decode_identity(page: &Page) -> Result<Identity, PageError> {
    fn term<T>(page: &Page, at: usize, field: &'static str, from: impl Fn(u8) -> Option<T>) -> Result<T, PageError> {
        let found = get_u8(page, at);
        from(found).ok_or(PageError::Value { field, found: u64::from(found) })
    }
    let code_bytes = get_u32(page, CODE_BYTES_AT);
    let code_length = term(page, CODE_LENGTH_AT, "kind of code length", |number| match number {
        0 => Some(CodeLength::Fixed(code_bytes)),
        1 => Some(CodeLength::Variable { max_bytes: code_bytes }),
        _ => None,
    })?;
    Ok(Identity {
        element: term(page, ELEMENT_AT, "element type", ElementType::from_u8)?,
        metric: term(page, METRIC_AT, "metric", Metric::from_u8)?,
        code_kind: term(page, CODE_KIND_AT, "kind of code", CodeKind::from_u8)?,
        code_length,
        code_seed: get_u64(page, CODE_SEED_AT),
        dimensions: get_u32(page, DIMENSIONS_AT),
        m: get_u16(page, M_AT),
        ef_construction: get_u16(page, EF_CONSTRUCTION_AT),
        filter_columns: filter_columns::decode(page, FILTER_COLUMNS_AT)?,
    })
}

fn encode_class(class: &ClassExtents, page: &mut Page, at: usize) {
    let directory = |block: Option<u32>| block.unwrap_or(NONE);
    put_u32(page, at, class.base_block);
    put_u32(page, at + 4, class.base_pages);
    put_u32(page, at + 8, class.extents);
    put_u32(page, at + 12, directory(class.directory_head));
    put_u32(page, at + 16, directory(class.directory_tail));
    for (&block, at) in class.inline.iter().zip((at + 32..).step_by(4)) {
        put_u32(page, at, block);
    }
}

fn decode_classes(page: &Page) -> Result<[ClassExtents; CLASS_SLOTS], PageError> {
    let mut classes: [ClassExtents; CLASS_SLOTS] = Default::default();
    for (class, at) in classes.iter_mut().zip((CLASSES_AT..).step_by(CLASS_BYTES)) {
        if let Some(offset) = first_non_zero(page, at + 20, at + 32) {
            return Err(PageError::Reserved(offset as u32));
        }
        class.base_block = get_u32(page, at);
        class.base_pages = get_u32(page, at + 4);
        class.extents = get_u32(page, at + 8);
        class.directory_head = option(get_u32(page, at + 12));
        class.directory_tail = option(get_u32(page, at + 16));
        for (block, at) in class.inline.iter_mut().zip((at + 32..).step_by(4)) {
            *block = get_u32(page, at);
        }
    }
    Ok(classes)
}
