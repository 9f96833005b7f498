//! What ANALYZE has found out about a column, from the catalog cache: the view `pg_stats` makes texts of it, which takes
//! longer than a search.

use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::CStr;

/// The share of the rows of a table that has each of these elements in a column of texts or of lexemes, as far as ANALYZE
/// counts them among the most common. Whether the caller may know them is for the caller of this function to see.
pub fn frequencies(table: pg_sys::Oid, column: &CStr, elements: &[String]) -> HashMap<String, f64> {
    let mut found = HashMap::new();
    // SAFETY: a cache entry is released where it was found, and the slot's arrays are copies of it until they are freed. The
    // elements of such a slot are of type text, whatever the column's type is.
    unsafe {
        let number = pg_sys::get_attnum(table, column.as_ptr());
        let entry = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::STATRELATTINH as i32,
            pg_sys::Datum::from(table),
            pg_sys::Datum::from(number),
            pg_sys::Datum::from(false),
        );
        if entry.is_null() {
            return found;
        }
        let mut slot = pg_sys::AttStatsSlot::default();
        let both = (pg_sys::ATTSTATSSLOT_VALUES | pg_sys::ATTSTATSSLOT_NUMBERS) as i32;
        let kind = pg_sys::STATISTIC_KIND_MCELEM as i32;
        if pg_sys::get_attstatsslot(&mut slot, entry, kind, pg_sys::InvalidOid, both) {
            if slot.valuetype == pg_sys::TEXTOID && slot.nvalues > 0 && slot.nnumbers >= slot.nvalues {
                let values = std::slice::from_raw_parts(slot.values, slot.nvalues as usize);
                // After the elements' own come the least and the greatest of them.
                let numbers = std::slice::from_raw_parts(slot.numbers, slot.nvalues as usize);
                let wanted: HashMap<&[u8], &String> =
                    elements.iter().map(|element| (element.as_bytes(), element)).collect();
                for (value, &frequency) in values.iter().zip(numbers) {
                    if let Some(&element) = wanted.get(text_bytes(*value)) {
                        found.insert(element.clone(), f64::from(frequency));
                    }
                }
            }
            pg_sys::free_attstatsslot(&mut slot);
        }
        pg_sys::ReleaseSysCache(entry);
    }
    found
}

/// The bytes of a text.
///
/// # Safety
/// It is a valid text, stored in line and not compressed, as elements of an array are.
unsafe fn text_bytes<'t>(text: pg_sys::Datum) -> &'t [u8] {
    let varlena = text.cast_mut_ptr::<pg_sys::varlena>();
    // SAFETY: the caller's promise.
    unsafe {
        let start = pgrx::vardata_any(varlena).cast::<u8>();
        std::slice::from_raw_parts(start, pgrx::varsize_any_exhdr(varlena))
    }
}
