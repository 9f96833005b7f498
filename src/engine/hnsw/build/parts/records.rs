//! What the temporary files of a build in parts hold: sequences of records, each a length followed by so many items.

use super::files::TempFile;
use crate::hnsw::page::HeapTid;

/// A neighbour in a list that is not merged yet: a row of its node, whether it was redundant in its list, and its distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Neighbour {
    pub(super) row: u32,
    pub(super) is_redundant: bool,
    pub(super) distance: f32,
}

const NEIGHBOUR_BYTES: usize = 8;
const REDUNDANT: u32 = 1 << 31;

impl Neighbour {
    fn encode(self) -> [u8; NEIGHBOUR_BYTES] {
        let word = self.row | if self.is_redundant { REDUNDANT } else { 0 };
        (u64::from(word) | u64::from(self.distance.to_bits()) << 32).to_le_bytes()
    }

    fn decode(bytes: [u8; NEIGHBOUR_BYTES]) -> Neighbour {
        let both = u64::from_le_bytes(bytes);
        let word = both as u32;
        Neighbour {
            row: word & !REDUNDANT,
            is_redundant: word & REDUNDANT != 0,
            distance: f32::from_bits((both >> 32) as u32),
        }
    }
}

/// A row's membership in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) row: u32,
    /// The part whose node the row will be.
    pub(super) home: u32,
    /// Where the row's code is.
    pub(super) code_offset: u64,
}

pub(super) const MEMBER_BYTES: usize = 16;

impl Member {
    pub(super) fn encode(self) -> [u8; MEMBER_BYTES] {
        (u128::from(self.row) | u128::from(self.home) << 32 | u128::from(self.code_offset) << 64).to_le_bytes()
    }

    pub(super) fn decode(bytes: [u8; MEMBER_BYTES]) -> Member {
        let all = u128::from_le_bytes(bytes);
        Member { row: all as u32, home: (all >> 32) as u32, code_offset: (all >> 64) as u64 }
    }
}

pub(super) const TID_BYTES: usize = 8;

pub(super) fn encode_tid(tid: HeapTid) -> [u8; TID_BYTES] {
    (u64::from(tid.block()) | u64::from(tid.offset()) << 32).to_le_bytes()
}

pub(super) fn decode_tid(bytes: [u8; TID_BYTES]) -> Option<HeapTid> {
    let both = u64::from_le_bytes(bytes);
    HeapTid::new(both as u32, (both >> 32) as u16)
}

/// Appends a code; gives where it is.
pub(super) fn append_code<F: TempFile>(file: &mut F, code: &[u8]) -> Result<u64, F::Error> {
    let offset = file.len_bytes();
    file.append(&(code.len() as u32).to_le_bytes())?;
    file.append(code)?;
    Ok(offset)
}

/// Reads the code at an offset into `into`; gives the offset behind it.
pub(super) fn read_code<F: TempFile>(file: &mut F, offset: u64, into: &mut Vec<u8>) -> Result<u64, F::Error> {
    read_items(file, offset, 1, into)
}

/// Appends a list of neighbours.
pub(super) fn append_list<F: TempFile>(
    file: &mut F,
    list: impl ExactSizeIterator<Item = Neighbour>,
) -> Result<(), F::Error> {
    let mut bytes = Vec::with_capacity(4 + NEIGHBOUR_BYTES * list.len());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(list.flat_map(Neighbour::encode));
    file.append(&bytes)
}

/// Reads the list at an offset and appends it to `into`; gives the offset behind it.
pub(super) fn read_list<F: TempFile>(
    file: &mut F,
    offset: u64,
    bytes: &mut Vec<u8>,
    into: &mut Vec<Neighbour>,
) -> Result<u64, F::Error> {
    let end = read_items(file, offset, NEIGHBOUR_BYTES, bytes)?;
    into.extend(bytes.as_chunks().0.iter().map(|&bytes| Neighbour::decode(bytes)));
    Ok(end)
}

/// Appends the heap tids of a node.
pub(super) fn append_tids<F: TempFile>(file: &mut F, tids: &[HeapTid]) -> Result<(), F::Error> {
    let mut bytes = Vec::with_capacity(4 + TID_BYTES * tids.len());
    bytes.extend((tids.len() as u32).to_le_bytes());
    bytes.extend(tids.iter().flat_map(|&tid| encode_tid(tid)));
    file.append(&bytes)
}

/// Reads the heap tids at an offset into `into`; gives the offset behind them.
pub(super) fn read_tids<F: TempFile>(
    file: &mut F,
    offset: u64,
    bytes: &mut Vec<u8>,
    into: &mut Vec<HeapTid>,
) -> Result<u64, F::Error> {
    let end = read_items(file, offset, TID_BYTES, bytes)?;
    into.clear();
    into.extend(bytes.as_chunks().0.iter().filter_map(|&bytes| decode_tid(bytes)));
    Ok(end)
}

fn read_items<F: TempFile>(file: &mut F, offset: u64, item_bytes: usize, into: &mut Vec<u8>) -> Result<u64, F::Error> {
    let mut count = [0; 4];
    file.read_at(offset, &mut count)?;
    into.resize(u32::from_le_bytes(count) as usize * item_bytes, 0);
    file.read_at(offset + 4, into)?;
    Ok(offset + 4 + into.len() as u64)
}
