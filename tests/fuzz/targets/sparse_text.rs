//! Text input of `sparsevec`: whatever is accepted is valid and prints to a text that reads back to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_rag_engine::sparse::{parse, print, SparseRef};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = parse(&String::from_utf8_lossy(bytes), None) {
        assert!(SparseRef::new(value.dimensions(), value.indices(), value.values()).is_ok());
        assert_eq!(parse(&print(value.as_ref()), None).expect("what was printed can be read"), value);
    }
});
