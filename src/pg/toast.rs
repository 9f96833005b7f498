//! Values stored out of line, fetched one after the other.
//!
//! PostgreSQL opens the TOAST table and its index, begins a scan and goes through the table's access method for every
//! chunk of every value. A reader of many values of one table keeps the scan open, and copies the chunks, which lie
//! side by side as they were stored, from their page at once. Whatever is not as it expects (compressed values, other
//! access methods, chunks that are missing or twice) it leaves to PostgreSQL.

use super::list::oids;
use pgrx::pg_sys;

/// Bytes of every chunk but the last: PostgreSQL's TOAST_MAX_CHUNK_SIZE, of which four fill a page.
const CHUNK_BYTES: usize = chunk_bytes();
/// The lower 30 bits of `va_extinfo`: how many bytes are stored.
const EXTERNAL_SIZE_MASK: u32 = (1 << 30) - 1;
const LINE_POINTERS_AT: usize = 24;
const LINE_POINTER_BYTES: usize = 4;

/// A page's room in four tuples, less their line pointers and headers, the two numbers of a chunk and its length.
const fn chunk_bytes() -> usize {
    let room = pg_sys::BLCKSZ as usize - (LINE_POINTERS_AT + 4 * LINE_POINTER_BYTES).next_multiple_of(8);
    let tuple = room / 4 / 8 * 8;
    tuple - 24 - 4 - 4 - 4
}

const _: () = assert!(pg_sys::BLCKSZ != 8192 || CHUNK_BYTES == 1996);

/// Reads values of one table.
pub struct ToastReader {
    toast: pg_sys::Relation,
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    /// The last value, with its header; and its bytes, with those of the header.
    value: Vec<u32>,
    length_bytes: usize,
    /// Where the chunks of the last value are.
    chunks: Vec<(pg_sys::BlockNumber, pg_sys::OffsetNumber)>,
}

impl ToastReader {
    /// Whether a datum is stored out of line.
    ///
    /// # Safety
    /// It is a valid varlena.
    pub unsafe fn is_external(datum: pg_sys::Datum) -> bool {
        // SAFETY: the caller's promise.
        unsafe { pgrx::varatt_is_1b_e(datum.cast_mut_ptr()) }
    }

    /// None if the table has no TOAST table of the usual kind.
    ///
    /// # Safety
    /// The table is open, and locked until [`ToastReader::end`].
    pub unsafe fn begin(table: pg_sys::Relation) -> Option<ToastReader> {
        let share = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: the caller's promise. What is opened is closed here or by `end`.
        unsafe {
            let id = (*(*table).rd_rel).reltoastrelid;
            if id == pg_sys::InvalidOid {
                return None;
            }
            let toast = pg_sys::table_open(id, share);
            let index = match std::ptr::eq((*toast).rd_tableam, pg_sys::GetHeapamTableAmRoutine()) {
                true => Self::open_index(toast, share),
                false => std::ptr::null_mut(),
            };
            if index.is_null() {
                pg_sys::table_close(toast, share);
                return None;
            }
            let scan = pg_sys::index_beginscan(toast, index, &raw mut pg_sys::SnapshotAnyData, 1, 0);
            Some(ToastReader { toast, index, scan, value: Vec::new(), length_bytes: 0, chunks: Vec::new() })
        }
    }

    /// The index that is valid; there is another one while that is built again.
    unsafe fn open_index(toast: pg_sys::Relation, lock: pg_sys::LOCKMODE) -> pg_sys::Relation {
        // SAFETY: the relation is open.
        unsafe {
            for id in oids(pg_sys::RelationGetIndexList(toast)) {
                let index = pg_sys::index_open(id, lock);
                if (*(*index).rd_index).indisvalid {
                    return index;
                }
                pg_sys::index_close(index, lock);
            }
            std::ptr::null_mut()
        }
    }

    /// Fetches a value that is stored out of line: a datum that lives until the next call. None if PostgreSQL has to do it.
    ///
    /// # Safety
    /// `datum` is of this table and [external](ToastReader::is_external), in a row that the active snapshot shows.
    pub unsafe fn fetch(&mut self, datum: pg_sys::Datum) -> Option<pg_sys::Datum> {
        // SAFETY: the caller's promise.
        unsafe {
            let external = datum.cast_mut_ptr::<pg_sys::varattrib_1b_e>();
            if u32::from((*external).va_tag) != pg_sys::vartag_external::VARTAG_ONDISK {
                return None;
            }
            let pointer = external.cast::<u8>().add(2).cast::<pg_sys::varatt_external>().read_unaligned();
            let bytes = (pointer.va_extinfo & EXTERNAL_SIZE_MASK) as usize;
            let is_plain = bytes + 4 == pointer.va_rawsize as usize;
            if pointer.va_toastrelid != (*self.toast).rd_id || !is_plain {
                return None;
            }
            self.length_bytes = 4 + bytes;
            self.value.resize(self.length_bytes.div_ceil(4), 0);
            pgrx::set_varsize_4b(self.value.as_mut_ptr().cast(), self.length_bytes as i32);
            self.copy_chunks(pointer.va_valueid)?;
            Some(pg_sys::Datum::from(self.value.as_mut_ptr()))
        }
    }

    /// Copies the chunks of a value; None if they are not what makes up the value. No page of the index is locked while one
    /// of the table is.
    unsafe fn copy_chunks(&mut self, id: pg_sys::Oid) -> Option<()> {
        self.chunks.clear();
        // SAFETY: the scan is open.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
            pg_sys::ScanKeyInit(&mut key, 1, equal, pg_sys::Oid::from(pg_sys::F_OIDEQ), pg_sys::Datum::from(id));
            pg_sys::index_rescan(self.scan, &mut key, 1, std::ptr::null_mut(), 0);
            while let Some(tid) =
                pg_sys::index_getnext_tid(self.scan, pg_sys::ScanDirection::ForwardScanDirection).as_ref()
            {
                self.chunks.push(pgrx::itemptr::item_pointer_get_both(*tid));
            }
        }
        let words = self.value.as_mut_slice();
        // SAFETY: the words' own bytes.
        let value = unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), size_of_val(words)) };
        let mut rest = value.get_mut(4..self.length_bytes)?;
        let mut numbers = 0..;
        for of_page in self.chunks.chunk_by(|a, b| a.0 == b.0) {
            // SAFETY: the relation is open; the buffer is locked while it is looked at.
            unsafe {
                let buffer = pg_sys::ReadBuffer(self.toast, of_page.first()?.0);
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
                let page = super::buffer::page_of(buffer);
                for &(_, offset) in of_page {
                    let Some(chunk) = chunk_in(page, offset, id.to_u32(), numbers.next().unwrap_or(0)) else { break };
                    if chunk.len() != rest.len().min(CHUNK_BYTES) {
                        break;
                    }
                    let (place, behind) = rest.split_at_mut(chunk.len());
                    place.copy_from_slice(chunk);
                    rest = behind;
                }
                pg_sys::UnlockReleaseBuffer(buffer);
            }
        }
        // As many chunks as there are places for, each the right one.
        (rest.is_empty() && self.chunks.len() == (self.length_bytes - 4).div_ceil(CHUNK_BYTES)).then_some(())
    }

    /// Ends reading. Not a destructor: after an error the transaction has freed everything.
    pub fn end(self) {
        let share = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        // SAFETY: begun, not ended.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::index_close(self.index, share);
            pg_sys::table_close(self.toast, share);
        }
    }
}

/// The data of a chunk, if the tuple at a line pointer is that chunk of this value.
fn chunk_in(page: &[u8; super::buffer::BLOCK_BYTES], offset: u16, id: u32, number: u32) -> Option<&[u8]> {
    let at = LINE_POINTERS_AT + LINE_POINTER_BYTES * usize::from(offset).checked_sub(1)?;
    let bytes = page.get(at..at + LINE_POINTER_BYTES)?;
    // SAFETY: so many bytes, of any value.
    let pointer = unsafe { bytes.as_ptr().cast::<pg_sys::ItemIdData>().read_unaligned() };
    if pointer.lp_flags() != pg_sys::LP_NORMAL {
        return None;
    }
    let start = pointer.lp_off() as usize;
    let tuple = page.get(start..start + pointer.lp_len() as usize)?;
    // The last byte of a tuple's header before its bitmap of NULLs.
    let data = tuple.get(usize::from(*tuple.get(22)?)..)?;
    let word = |at: usize| Some(u32::from_ne_bytes(*data.get(at..)?.first_chunk()?));
    if (word(0)?, word(4)?) != (id, number) {
        return None;
    }
    // SAFETY: the bytes are there; the length is compared with what there is.
    let (header, length) = unsafe {
        let varlena = data.get(8..)?.as_ptr().cast::<pg_sys::varlena>();
        match pgrx::varatt_is_1b(varlena) {
            true => (1, pgrx::varsize_1b(varlena)),
            false => (4, word(8).map(|_| pgrx::varsize_4b(varlena))?),
        }
    };
    data.get(8 + header..8 + length)
}
