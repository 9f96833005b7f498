//! The last 16 bytes of every page: whose it is, of what kind and version, which page of its class.
//!
//! Every reader goes through [`check`] before it looks at a payload; every writer of a fresh page through [`init`].

use super::bytes::{get_u16, get_u32, get_u8, put_u32, put_u8, Page};
use super::error::PageError;
use super::{META_END, NONE, PAGE_BYTES, PAYLOAD_OFFSET, SPECIAL_OFFSET};

/// `pgrh`, in this order in the file.
pub const MAGIC: u32 = u32::from_le_bytes(*b"pgrh");
/// The version that this code writes; it reads this and every earlier one.
pub const FORMAT_VERSION: u8 = 1;
pub const SPECIAL_BYTES: usize = 16;

const VERSION_AT: usize = SPECIAL_OFFSET + 5;
const FLAGS_AT: usize = SPECIAL_OFFSET + 6;
const INDEX_AT: usize = SPECIAL_OFFSET + 8;
const NEXT_AT: usize = SPECIAL_OFFSET + 12;
const _: () = assert!(NEXT_AT + 4 == PAGE_BYTES && SPECIAL_BYTES.is_multiple_of(8));

/// What a page holds. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    Meta = 1,
    Directory = 2,
    Code = 3,
    Node = 4,
    Upper = 5,
    Tids = 6,
    Keys = 7,
}

impl PageKind {
    pub const ALL: [PageKind; 7] = [
        PageKind::Meta,
        PageKind::Directory,
        PageKind::Code,
        PageKind::Node,
        PageKind::Upper,
        PageKind::Tids,
        PageKind::Keys,
    ];

    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&kind| kind as u8 == number)
    }
}

/// What the special area says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    pub kind: PageKind,
    pub version: u8,
    /// Which page of its class; of a directory page, which in the chain of its class.
    pub page_index: u32,
    /// The next page of a chain, if it is one and goes on.
    pub next_block: Option<u32>,
}

/// What the PostgreSQL layer sets as `pd_lower` of a page, once and for all: generic WAL zeroes the bytes from there to
/// `pd_upper`, which is always [`SPECIAL_OFFSET`].
pub const fn pd_lower(kind: PageKind) -> usize {
    match kind {
        PageKind::Meta => META_END,
        _ => SPECIAL_OFFSET,
    }
}

/// Whether nobody has initialised the page.
pub fn is_new(page: &Page) -> bool {
    page[SPECIAL_OFFSET..].iter().all(|&byte| byte == 0)
}

/// Makes an empty page: payload zero, special area set, PostgreSQL's header left alone.
pub fn init(page: &mut Page, kind: PageKind, page_index: u32) {
    page[PAYLOAD_OFFSET..].fill(0);
    put_u32(page, SPECIAL_OFFSET, MAGIC);
    put_u8(page, SPECIAL_OFFSET + 4, kind as u8);
    put_u8(page, VERSION_AT, FORMAT_VERSION);
    put_u32(page, INDEX_AT, page_index);
    put_u32(page, NEXT_AT, NONE);
}

/// Links a page of a chain to the one after it.
pub fn set_next_block(page: &mut Page, next_block: Option<u32>) {
    put_u32(page, NEXT_AT, next_block.unwrap_or(NONE));
}

/// Reads the special area of a page of any kind.
pub fn read(page: &Page) -> Result<Special, PageError> {
    let magic = get_u32(page, SPECIAL_OFFSET);
    if magic != MAGIC {
        return Err(if is_new(page) { PageError::New } else { PageError::Magic(magic) });
    }
    let version = get_u8(page, VERSION_AT);
    if version == 0 || version > FORMAT_VERSION {
        return Err(PageError::Version(u16::from(version)));
    }
    let number = get_u8(page, SPECIAL_OFFSET + 4);
    let kind = PageKind::from_u8(number).ok_or(PageError::Value { field: "page kind", found: u64::from(number) })?;
    if get_u16(page, FLAGS_AT) != 0 {
        return Err(PageError::Reserved(FLAGS_AT as u32));
    }
    let next_block = get_u32(page, NEXT_AT);
    let page_index = get_u32(page, INDEX_AT);
    Ok(Special { kind, version, page_index, next_block: (next_block != NONE).then_some(next_block) })
}

/// Checks that a page is of this kind and the one at this index of its class, in 3 loads and compares: the hot path.
#[inline]
pub fn check(page: &Page, kind: PageKind, page_index: u32) -> Result<(), PageError> {
    let expected = [kind as u8, FORMAT_VERSION, 0, 0];
    if get_u32(page, SPECIAL_OFFSET) == MAGIC
        && get_u32(page, SPECIAL_OFFSET + 4) == u32::from_le_bytes(expected)
        && get_u32(page, INDEX_AT) == page_index
    {
        return Ok(());
    }
    mismatch(page, kind, page_index)
}

#[cold]
fn mismatch(page: &Page, expected: PageKind, page_index: u32) -> Result<(), PageError> {
    let special = read(page)?;
    if special.kind != expected {
        Err(PageError::Kind { expected, found: special.kind as u8 })
    } else if special.page_index != page_index {
        Err(PageError::PageIndex { expected: page_index, found: special.page_index })
    } else {
        // An earlier version that this release still reads.
        Ok(())
    }
}
