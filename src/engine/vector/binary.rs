//! The wire form of a dense vector, as pgvector's send and receive functions exchange it: `i16` dimensions, `i16` zero,
//! then the elements, all big-endian. Decoding is total: any byte string gives a vector or an error.

use super::{check_declared, check_dimensions, check_element, Element, VectorError};

const HEADER_BYTES: usize = 4;

/// The wire form of a valid vector.
pub fn encode_binary<E: Element>(elements: &[E]) -> Vec<u8> {
    debug_assert!(check_dimensions::<E>(elements.len()).is_ok());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + E::BYTES * elements.len());
    // A valid vector has at most MAX_DIMENSIONS elements, which fits into i16.
    bytes.extend_from_slice(&(elements.len() as i16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    elements.iter().for_each(|element| element.append_be(&mut bytes));
    bytes
}

/// Reads the wire form, for a column that may declare its dimensions. Dimensions are checked before anything is
/// allocated. The first fault in reading order is the one reported.
pub fn decode_binary<E: Element>(bytes: &[u8], declared: Option<usize>) -> Result<Vec<E>, VectorError> {
    let mut rest = bytes;
    let elements = read_binary(&mut rest, declared)?;
    if rest.is_empty() {
        Ok(elements)
    } else {
        Err(VectorError::Trailing)
    }
}

/// Reads the wire form off the front of `message`: PostgreSQL itself complains of what is left.
pub fn read_binary<E: Element>(message: &mut &[u8], declared: Option<usize>) -> Result<Vec<E>, VectorError> {
    let &[d0, d1, u0, u1, ref body @ ..] = *message else {
        return Err(VectorError::Truncated);
    };
    // A negative number of dimensions is an empty vector to pgvector.
    let dimensions = usize::try_from(i16::from_be_bytes([d0, d1])).unwrap_or(0);
    check_dimensions::<E>(dimensions)?;
    check_declared(declared, dimensions)?;
    let unused = i16::from_be_bytes([u0, u1]);
    if unused != 0 {
        return Err(VectorError::Unused(unused.into()));
    }
    let mut elements = Vec::with_capacity(dimensions);
    let mut rest = body;
    for _ in 0..dimensions {
        let (element, after) = E::split_be(rest).ok_or(VectorError::Truncated)?;
        check_element(element)?;
        elements.push(element);
        rest = after;
    }
    *message = rest;
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<Vec<f32>, VectorError> {
        decode_binary(bytes, None)
    }

    #[test]
    fn layout_is_big_endian_with_a_four_byte_header() {
        assert_eq!(encode_binary(&[1f32, -2.0]), [0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]);
        assert_eq!(encode_binary(&[f16::ONE]), [0, 1, 0, 0, 0x3c, 0]);
    }

    #[test]
    fn damaged_messages_are_refused() {
        assert_eq!(decode(&[]), Err(VectorError::Truncated));
        assert_eq!(decode(&[0, 0, 0, 0]), Err(VectorError::Empty("vector")));
        assert_eq!(decode(&[0xff, 0xff, 0, 0]), Err(VectorError::Empty("vector")));
        assert_eq!(
            decode(&[0x7f, 0xff, 0, 0]),
            Err(VectorError::TooManyDimensions { type_name: "vector", limit: 16_000 })
        );
        assert_eq!(decode(&[0, 1, 0, 7, 0, 0, 0, 0]), Err(VectorError::Unused(7)));
        assert_eq!(decode(&[0, 1, 0, 0, 0, 0, 0]), Err(VectorError::Truncated));
        assert_eq!(decode(&[0, 1, 0, 0, 0, 0, 0, 0, 0]), Err(VectorError::Trailing));
        assert_eq!(decode(&[0, 1, 0, 0, 0x7f, 0xc0, 0, 0]), Err(VectorError::Nan("vector")));
        assert_eq!(decode(&[0, 1, 0, 0, 0xff, 0x80, 0, 0]), Err(VectorError::Infinite("vector")));
        assert_eq!(decode_binary::<f16>(&[0, 2, 0, 0, 0x7e, 0], None), Err(VectorError::Nan("halfvec")));
    }

    #[test]
    fn declared_dimensions_are_checked_before_the_rest() {
        let error = decode_binary::<f32>(&[0, 1, 0, 7], Some(3)).unwrap_err();
        assert_eq!(error.to_string(), "expected 3 dimensions, not 1");
        assert_eq!(decode_binary::<f16>(&[0, 1, 0, 0, 0x3c, 0], Some(1)).unwrap(), [f16::ONE]);
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(elements in prop::collection::vec(-3.4e38f32..3.4e38, 1..200)) {
            prop_assert_eq!(decode(&encode_binary(&elements)).unwrap(), elements);
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(elements) = decode_binary::<f32>(&bytes, None) {
                prop_assert_eq!(encode_binary(&elements), &*bytes);
            }
            if let Ok(elements) = decode_binary::<f16>(&bytes, None) {
                prop_assert_eq!(encode_binary(&elements), bytes);
            }
        }
    }
}
