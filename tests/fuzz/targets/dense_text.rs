//! Text input of `vector` and `halfvec`: whatever is accepted prints to a text that reads back to the same bits.
#![no_main]

use half::f16;
use libfuzzer_sys::fuzz_target;
use pg_rag_engine::vector::{check, parse, print, Element};

fn round_trip<E: Element>(text: &str) {
    if let Ok(elements) = parse::<E>(text) {
        assert!(check(&elements).is_ok());
        let again = parse::<E>(&print(&elements)).expect("what was printed can be read");
        let bits = |elements: &[E]| elements.iter().map(|x| x.to_f32().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&elements));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    round_trip::<f32>(&text);
    round_trip::<f16>(&text);
});
