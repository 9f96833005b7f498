//! The wire form of a sparse vector, as pgvector's send and receive functions exchange it: `i32` dimensions, `i32` count,
//! `i32` zero, then the indices, then the values, all big-endian. Decoding is total: any byte string gives a vector or an
//! error.

use super::{check_count, check_dimensions, check_index, check_stored_value, SparseRef, SparseVector, VectorError};
use crate::vector::check_declared;

const HEADER_BYTES: usize = 12;
const ELEMENT_BYTES: usize = 8;

/// The wire form.
pub fn encode_binary(vector: SparseRef<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + ELEMENT_BYTES * vector.indices().len());
    // A valid vector has at most MAX_NON_ZERO elements.
    for header in [vector.dimensions(), vector.indices().len() as i32, 0] {
        bytes.extend_from_slice(&header.to_be_bytes());
    }
    vector.indices().iter().for_each(|index| bytes.extend_from_slice(&index.to_be_bytes()));
    vector.values().iter().for_each(|value| bytes.extend_from_slice(&value.to_be_bytes()));
    bytes
}

/// Reads the wire form, for a column that may declare its dimensions. The counts are checked before anything is
/// allocated. The first fault in reading order is the one reported.
pub fn decode_binary(bytes: &[u8], declared: Option<usize>) -> Result<SparseVector, VectorError> {
    let mut rest = bytes;
    let vector = read_binary(&mut rest, declared)?;
    if rest.is_empty() {
        Ok(vector)
    } else {
        Err(VectorError::Trailing)
    }
}

/// Reads the wire form off the front of `message`: PostgreSQL itself complains of what is left.
pub fn read_binary(message: &mut &[u8], declared: Option<usize>) -> Result<SparseVector, VectorError> {
    let [dimensions, count, unused] = [read_i32(message)?, read_i32(message)?, read_i32(message)?];
    check_dimensions(dimensions)?;
    check_count(count.into(), dimensions)?;
    check_declared(declared, dimensions as usize)?;
    if unused != 0 {
        return Err(VectorError::Unused(unused));
    }
    let mut indices = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let index = read_i32(message)?;
        check_index(index, indices.last().copied(), dimensions)?;
        indices.push(index);
    }
    let mut values = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let value = f32::from_bits(read_i32(message)? as u32);
        check_stored_value(value)?;
        values.push(value);
    }
    Ok(SparseVector { dimensions, indices, values })
}

fn read_i32(rest: &mut &[u8]) -> Result<i32, VectorError> {
    let (first, after) = rest.split_first_chunk().ok_or(VectorError::Truncated)?;
    *rest = after;
    Ok(i32::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(words: &[u32]) -> String {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        decode_binary(&bytes, None).unwrap_err().to_string()
    }

    const ONE: u32 = 0x3f80_0000;

    #[test]
    fn layout_is_big_endian_with_a_twelve_byte_header() {
        let vector = SparseVector::new(5, vec![2], vec![1.0]).unwrap();
        let bytes = [0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0x3f, 0x80, 0, 0];
        assert_eq!(encode_binary(vector.as_ref()), bytes);
        assert_eq!(decode_binary(&bytes, Some(5)).unwrap(), vector);
    }

    #[test]
    fn damaged_messages_are_refused() {
        assert_eq!(message(&[1, 0]), "insufficient data left in message");
        assert_eq!(message(&[0, 0, 0]), "sparsevec must have at least 1 dimension");
        assert_eq!(message(&[u32::MAX, 0, 0]), "sparsevec must have at least 1 dimension");
        assert_eq!(message(&[1_000_000_001, 0, 0]), "sparsevec cannot have more than 1000000000 dimensions");
        assert_eq!(message(&[5, u32::MAX, 0]), "sparsevec cannot have negative number of elements");
        assert_eq!(message(&[99_999, 16_001, 0]), "sparsevec cannot have more than 16000 non-zero elements");
        assert_eq!(message(&[5, 6, 0]), "sparsevec cannot have more elements than dimensions");
        assert_eq!(message(&[5, 1, u32::MAX]), "expected unused to be 0, not -1");
        assert_eq!(message(&[5, 1, 0, 5]), "sparsevec index out of bounds");
        assert_eq!(message(&[5, 2, 0, 1, 0]), "sparsevec indices must be in ascending order");
        assert_eq!(message(&[5, 2, 0, 1, 1]), "sparsevec indices must not contain duplicates");
        assert_eq!(message(&[5, 1, 0, 1]), "insufficient data left in message");
        assert_eq!(message(&[5, 1, 0, 1, 0x7fc0_0000]), "NaN not allowed in sparsevec");
        assert_eq!(
            message(&[5, 1, 0, 1, 0x8000_0000]),
            "binary representation of sparsevec cannot contain zero values"
        );
        assert_eq!(message(&[5, 1, 0, 1, ONE, 0]), "incorrect binary data format");
        let error = decode_binary(&[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 7], Some(4)).unwrap_err();
        assert_eq!(error.to_string(), "expected 4 dimensions, not 5");
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            words in prop::collection::vec(prop_oneof![0u32..6, any::<u32>()], 0..8), extra in 0usize..4,
        ) {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            bytes.extend_from_slice(&[0; 3][..extra.min(3)]);
            if let Ok(vector) = decode_binary(&bytes, None) {
                prop_assert!(SparseRef::new(vector.dimensions(), vector.indices(), vector.values()).is_ok());
                prop_assert_eq!(encode_binary(vector.as_ref()), bytes);
            }
        }
    }
}
