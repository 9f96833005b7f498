//! What a trigger's function is called with, and the rows of transition tables.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use std::ffi::{CStr, CString};

mod bare {
    use pgrx::pg_sys::{TupleTableSlot, Tuplestorestate};

    extern "C-unwind" {
        pub(super) fn tuplestore_select_read_pointer(state: *mut Tuplestorestate, pointer: i32);
        pub(super) fn tuplestore_gettupleslot(
            state: *mut Tuplestorestate,
            forward: bool,
            copy: bool,
            slot: *mut TupleTableSlot,
        ) -> bool;
        pub(super) fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attribute: i32);
    }
}

/// What a statement did to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A call of a trigger's function.
pub struct TriggerCall {
    data: *mut pg_sys::TriggerData,
}

impl TriggerCall {
    /// None if the function was not called by a trigger.
    ///
    /// # Safety
    /// `call` is what PostgreSQL called the function with, and outlives the value.
    pub unsafe fn of(call: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: the caller's promise; the context of a trigger is marked by its tag.
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            Some(Self { data: context.cast() })
        }
    }

    pub fn event(&self) -> Event {
        // SAFETY: the data lives as long as the call.
        match unsafe { (*self.data).tg_event } & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Event::Insert,
            pg_sys::TRIGGER_EVENT_DELETE => Event::Delete,
            pg_sys::TRIGGER_EVENT_UPDATE => Event::Update,
            _ => Event::Truncate,
        }
    }

    /// Whether the trigger is called for each row.
    pub fn is_for_row(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.data).tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 }
    }

    /// The table, which is open.
    pub fn relation(&self) -> pg_sys::Relation {
        // SAFETY: as above.
        unsafe { (*self.data).tg_relation }
    }

    pub fn relation_oid(&self) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { (*(*self.data).tg_relation).rd_id }
    }

    /// Rows as they were, of a trigger for each statement with such a transition table.
    pub fn old_rows(&self) -> Option<TransitionRows> {
        // SAFETY: as above.
        unsafe { TransitionRows::of((*self.data).tg_oldtable, self.relation()) }
    }

    /// Rows as they are now.
    pub fn new_rows(&self) -> Option<TransitionRows> {
        // SAFETY: as above.
        unsafe { TransitionRows::of((*self.data).tg_newtable, self.relation()) }
    }

    /// The row as it was and as it is, of a trigger for each row.
    pub fn row(&self) -> (Option<Row>, Option<Row>) {
        // SAFETY: as above; PostgreSQL fills the slots that the event has.
        let (first, second) = unsafe { ((*self.data).tg_trigslot, (*self.data).tg_newslot) };
        let row = |slot: *mut pg_sys::TupleTableSlot| (!slot.is_null()).then_some(Row { slot });
        match self.event() {
            Event::Insert => (None, row(first)),
            Event::Update => (row(first), row(second)),
            Event::Delete => (row(first), None),
            Event::Truncate => (None, None),
        }
    }
}

/// A row in a slot.
#[derive(Clone, Copy)]
pub struct Row {
    slot: *mut pg_sys::TupleTableSlot,
}

impl Row {
    /// Makes the columns up to number `last` readable.
    fn fill(self, last: i16) {
        // SAFETY: the slot holds a row.
        unsafe {
            if (*self.slot).tts_nvalid < last {
                pg_sys::slot_getsomeattrs_int(self.slot, i32::from(last));
            }
        }
    }

    /// The value of column number `column`; None for NULL.
    pub fn value(self, column: i16) -> Option<pg_sys::Datum> {
        self.fill(column);
        let at = usize::try_from(column - 1).ok()?;
        // SAFETY: so many columns are filled.
        unsafe { (!*(*self.slot).tts_isnull.add(at)).then(|| *(*self.slot).tts_values.add(at)) }
    }
}

/// The rows of a transition table, one after the other.
pub struct TransitionRows {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl TransitionRows {
    /// # Safety
    /// `store` is null or a transition table of `relation`, which is open; both outlive the value.
    unsafe fn of(store: *mut pg_sys::Tuplestorestate, relation: pg_sys::Relation) -> Option<Self> {
        if store.is_null() {
            return None;
        }
        // SAFETY: the caller's promise. The read pointer is our own: other triggers read the same rows.
        unsafe {
            let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let slot = pg_sys::MakeSingleTupleTableSlot((*relation).rd_att, &pg_sys::TTSOpsMinimalTuple);
            Some(Self { store, pointer, slot })
        }
    }

    /// The next row, which is valid until the one after it is asked for.
    pub fn next(&mut self) -> Option<Row> {
        // SAFETY: store and slot are valid; the pointer is selected each time, as two tables may share a store.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot).then_some(Row { slot: self.slot })
        }
    }
}

/// A row of which only an integer is of interest.
#[derive(Clone, Copy, Default)]
pub struct IntegerRow {
    pub integer: i64,
    /// Whether another column of the row is NULL.
    pub is_null: bool,
}

impl TransitionRows {
    /// Reads rows until `rows` is full or the table ends: of each, the integer in column `integer` and whether the column
    /// number `other` is NULL. Returns how many it read.
    ///
    /// Functions of PostgreSQL are called bare behind one guard, since guards cost more than they do.
    pub fn read_integers(&mut self, integer: &Column, other: i16, rows: &mut [IntegerRow]) -> usize {
        let (store, pointer, slot) = (self.store, self.pointer, self.slot);
        let last = integer.number.max(other);
        let (integer_at, other_at) = (integer.number as usize - 1, other as usize - 1);
        let width = integer.kind.integer.unwrap_or(8);
        // SAFETY: store and slot are valid and the columns exist; the closure holds references and numbers only.
        unsafe {
            pg_guard_ffi_boundary(|| {
                bare::tuplestore_select_read_pointer(store, pointer);
                let mut read = 0;
                for row in rows.iter_mut() {
                    if !bare::tuplestore_gettupleslot(store, true, false, slot) {
                        break;
                    }
                    if (*slot).tts_nvalid < last {
                        bare::slot_getsomeattrs_int(slot, i32::from(last));
                    }
                    let value = (*(*slot).tts_values.add(integer_at)).value();
                    row.integer = match width {
                        2 => i64::from(value as i16),
                        4 => i64::from(value as i32),
                        _ => value as i64,
                    };
                    row.is_null = *(*slot).tts_isnull.add(other_at);
                    read += 1;
                }
                read
            })
        }
    }
}

impl Drop for TransitionRows {
    fn drop(&mut self) {
        // While an error unwinds, the transaction's end frees the slot.
        if !std::thread::panicking() {
            // SAFETY: made by `of`, dropped once.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}

/// How values of a column are written and compared, from the column's type.
pub struct ColumnType {
    output: pg_sys::FmgrInfo,
    length: i16,
    is_by_value: bool,
    integer: Option<u8>,
}

/// A column of a relation.
pub struct Column {
    pub number: i16,
    kind: ColumnType,
    /// Whether the text of a value depends on settings of the session.
    pub depends_on_settings: bool,
}

impl Column {
    /// None if the relation has no such column.
    pub fn of(relation: pg_sys::Oid, name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        let mut kind = pg_sys::InvalidOid;
        let mut output = pg_sys::FmgrInfo::default();
        let (mut length, mut is_by_value) = (0, false);
        // SAFETY: look-ups in PostgreSQL's caches; the pointers are to live locals, the function's data outlives the process.
        let number = unsafe {
            let number = pg_sys::get_attnum(relation, name.as_ptr());
            if number <= 0 {
                return None;
            }
            let (mut typmod, mut collation) = (0, pg_sys::InvalidOid);
            pg_sys::get_atttypetypmodcoll(relation, number, &mut kind, &mut typmod, &mut collation);
            let (mut function, mut is_varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(kind, &mut function, &mut is_varlena);
            pg_sys::fmgr_info_cxt(function, &mut output, pg_sys::TopMemoryContext);
            pg_sys::get_typlenbyval(kind, &mut length, &mut is_by_value);
            number
        };
        let integer = match kind {
            pg_sys::INT2OID => Some(2),
            pg_sys::INT4OID => Some(4),
            pg_sys::INT8OID => Some(8),
            _ => None,
        };
        let is_plain = integer.is_some()
            || matches!(
                kind,
                pg_sys::TEXTOID
                    | pg_sys::VARCHAROID
                    | pg_sys::BPCHAROID
                    | pg_sys::UUIDOID
                    | pg_sys::NUMERICOID
                    | pg_sys::BOOLOID
            );
        let kind = ColumnType { output, length, is_by_value, integer };
        Some(Self { number, kind, depends_on_settings: !is_plain })
    }

    /// Whether the column's values are integers.
    pub fn is_integer(&self) -> bool {
        self.kind.integer.is_some()
    }

    /// A value as its type writes it.
    ///
    /// # Safety
    /// The value is of this column.
    pub unsafe fn text(&mut self, value: pg_sys::Datum) -> String {
        match self.kind.integer {
            Some(2) => (value.value() as i16).to_string(),
            Some(4) => (value.value() as i32).to_string(),
            Some(_) => (value.value() as i64).to_string(),
            // SAFETY: the caller's promise; the text is PostgreSQL's and freed after it was copied.
            None => unsafe {
                let text = pg_sys::OutputFunctionCall(&mut self.kind.output, value);
                let own = CStr::from_ptr(text).to_string_lossy().into_owned();
                pg_sys::pfree(text.cast());
                own
            },
        }
    }

    /// Whether two values of the column are the same, byte for byte.
    ///
    /// # Safety
    /// Both values are of this column.
    pub unsafe fn is_same(&self, one: Option<pg_sys::Datum>, other: Option<pg_sys::Datum>) -> bool {
        let (one, other) = match (one, other) {
            (None, None) => return true,
            (Some(one), Some(other)) => (one, other),
            _ => return false,
        };
        if self.kind.is_by_value {
            return one.value() == other.value();
        }
        // SAFETY: the caller's promise: pointers to values of the column's length.
        unsafe {
            match self.kind.length {
                -1 => same_varlena(one.cast_mut_ptr(), other.cast_mut_ptr()),
                -2 => CStr::from_ptr(one.cast_mut_ptr()) == CStr::from_ptr(other.cast_mut_ptr()),
                length => {
                    let length = usize::try_from(length).unwrap_or(0);
                    let bytes = |value: pg_sys::Datum| std::slice::from_raw_parts(value.cast_mut_ptr::<u8>(), length);
                    bytes(one) == bytes(other)
                }
            }
        }
    }
}

/// Whether two values of variable length are the same, wherever they are stored.
///
/// # Safety
/// Both are valid.
unsafe fn same_varlena(one: *mut pg_sys::varlena, other: *mut pg_sys::varlena) -> bool {
    // SAFETY: the caller's promise. Values that are stored out of line and did not change are the same pointer.
    unsafe {
        let stored =
            |value: *mut pg_sys::varlena| std::slice::from_raw_parts(value.cast::<u8>(), pgrx::varsize_any(value));
        if stored(one) == stored(other) {
            return true;
        }
        let is_plain = |value: *mut pg_sys::varlena| !pgrx::varatt_is_1b_e(value) && !pgrx::varatt_is_4b_c(value);
        let size = |value: *mut pg_sys::varlena| pg_sys::toast_raw_datum_size(pg_sys::Datum::from(value));
        if size(one) != size(other) {
            return false;
        }
        let read = |value: *mut pg_sys::varlena| pg_sys::pg_detoast_datum_packed(value);
        let (own_one, own_other) = (read(one), read(other));
        let content = |value: *mut pg_sys::varlena| {
            std::slice::from_raw_parts(pgrx::vardata_any(value).cast::<u8>(), pgrx::varsize_any_exhdr(value))
        };
        let same = content(own_one) == content(own_other);
        for (value, own) in [(one, own_one), (other, own_other)] {
            if !is_plain(value) && value != own {
                pg_sys::pfree(own.cast());
            }
        }
        same
    }
}
