//! The wire form of a vector, as `vector_send` and `vector_recv` exchange it: `u16` dimensions, `u16` zero, then each
//! element as a big-endian `f32`. Decoding is total: any byte string gives a vector or an error.

use super::{check_dimensions, check_element, VectorError};

const HEADER_BYTES: usize = 4;

/// The wire form of a valid vector.
pub fn encode_binary(elements: &[f32]) -> Vec<u8> {
    debug_assert!(check_dimensions(elements.len()).is_ok());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * elements.len());
    // A valid vector has at most MAX_DIMENSIONS elements, which fits into u16.
    bytes.extend_from_slice(&(elements.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    for value in elements {
        bytes.extend_from_slice(&value.to_be_bytes());
    }
    bytes
}

/// Reads the wire form. Dimensions are checked before anything is allocated.
pub fn decode_binary(bytes: &[u8]) -> Result<Vec<f32>, VectorError> {
    let [d0, d1, u0, u1, body @ ..] = bytes else {
        return Err(VectorError::Truncated);
    };
    let dimensions = usize::from(u16::from_be_bytes([*d0, *d1]));
    check_dimensions(dimensions)?;
    let unused = i16::from_be_bytes([*u0, *u1]);
    if unused != 0 {
        return Err(VectorError::Unused(unused));
    }
    if body.len() < 4 * dimensions {
        return Err(VectorError::Truncated);
    }
    if body.len() > 4 * dimensions {
        return Err(VectorError::Trailing);
    }
    let mut elements = Vec::with_capacity(dimensions);
    for chunk in body.chunks_exact(4) {
        let value = f32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        check_element(value)?;
        elements.push(value);
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_big_endian_with_a_four_byte_header() {
        assert_eq!(encode_binary(&[1.0, -2.0]), [0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]);
    }

    #[test]
    fn damaged_messages_are_refused() {
        assert_eq!(decode_binary(&[]), Err(VectorError::Truncated));
        assert_eq!(decode_binary(&[0, 0, 0, 0]), Err(VectorError::Empty));
        assert_eq!(decode_binary(&[0xff, 0xff, 0, 0]), Err(VectorError::TooMany));
        assert_eq!(decode_binary(&[0, 1, 0, 7, 0, 0, 0, 0]), Err(VectorError::Unused(7)));
        assert_eq!(decode_binary(&[0, 1, 0, 0, 0, 0, 0]), Err(VectorError::Truncated));
        assert_eq!(decode_binary(&[0, 1, 0, 0, 0, 0, 0, 0, 0]), Err(VectorError::Trailing));
        assert_eq!(decode_binary(&[0, 1, 0, 0, 0x7f, 0xc0, 0, 0]), Err(VectorError::Nan));
        assert_eq!(decode_binary(&[0, 1, 0, 0, 0xff, 0x80, 0, 0]), Err(VectorError::Infinite));
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(elements in prop::collection::vec(-3.4e38f32..3.4e38, 1..200)) {
            prop_assert_eq!(decode_binary(&encode_binary(&elements)).unwrap(), elements);
        }

        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(elements) = decode_binary(&bytes) {
                prop_assert_eq!(encode_binary(&elements), bytes);
            }
        }
    }
}
