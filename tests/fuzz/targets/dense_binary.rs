//! Binary input of `vector` and `halfvec`: whatever is accepted is valid and encodes to the bytes it came from.
#![no_main]

use half::f16;
use libfuzzer_sys::fuzz_target;
use pg_rag_engine::vector::{check, decode_binary, encode_binary, Element};

fn round_trip<E: Element>(bytes: &[u8]) {
    if let Ok(elements) = decode_binary::<E>(bytes, None) {
        assert!(check(&elements).is_ok());
        assert_eq!(encode_binary(&elements), bytes);
    }
}

fuzz_target!(|bytes: &[u8]| {
    round_trip::<f32>(bytes);
    round_trip::<f16>(bytes);
});
