//! Binary input of `sparsevec`: whatever is accepted is valid and encodes to the bytes it came from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_rag_engine::sparse::{decode_binary, encode_binary, SparseRef};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = decode_binary(bytes, None) {
        assert!(SparseRef::new(value.dimensions(), value.indices(), value.values()).is_ok());
        assert_eq!(encode_binary(value.as_ref()), bytes);
    }
});
