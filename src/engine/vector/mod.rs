//! The rules of the dense SQL types `vector` and `halfvec`: 1 to [`MAX_DIMENSIONS`] finite elements, `f32` or `f16`.
//!
//! Limits, text form, wire form, element-wise results and error texts are those of pgvector 0.8, so that its clients,
//! dumps and tests work unchanged. A vector is a plain slice of an [`Element`] here; the PostgreSQL layer owns the datum
//! around it and calls these functions from the type's input, output, cast and operator functions. The order of the
//! checks is part of the contract where two faults can meet in one value. The sparse type is in [`crate::sparse`].

pub mod aggregate;
mod arithmetic;
mod binary;
mod binary_quantize;
mod convert;
mod element;
mod error;
mod float4;
mod hexadecimal;
mod max_sim;
mod number;
mod shortest;
mod subvector;
mod text;
pub mod window;

pub use arithmetic::{add, compare, concat, l2_normalized, multiply, norm, subtract};
pub use binary::{decode_binary, encode_binary, read_binary};
pub use binary_quantize::binary_quantize;
pub(crate) use convert::round_in_range;
pub use convert::{convert, from_f32s, from_f64s, from_i32s};
pub use element::Element;
pub use error::{ArithmeticError, TypeName, VectorError};
pub(crate) use float4::{write_float4, FLOAT4_SLOT_BYTES};
pub use max_sim::max_sim;
pub(crate) use number::{read_number, skip_space};
pub use subvector::subvector;
pub use text::{parse, print};

/// The most elements a dense vector can have, and the most non-zero ones of a sparse vector.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Checks that a vector may have this many dimensions.
pub fn check_dimensions<E: Element>(dimensions: usize) -> Result<(), VectorError> {
    if dimensions == 0 {
        Err(VectorError::Empty(E::TYPE_NAME))
    } else if dimensions > E::MAX_DIMENSIONS {
        Err(VectorError::TooManyDimensions { type_name: E::TYPE_NAME, limit: E::MAX_DIMENSIONS })
    } else {
        Ok(())
    }
}

/// Checks the dimensions that a column declares; without a declaration, any do.
pub fn check_declared(declared: Option<usize>, actual: usize) -> Result<(), VectorError> {
    match declared {
        Some(expected) if expected != actual => Err(VectorError::UnexpectedDimensions { expected, actual }),
        _ => Ok(()),
    }
}

/// Checks that one element is finite.
#[inline]
pub fn check_element<E: Element>(value: E) -> Result<(), VectorError> {
    check_finite(value.to_f32(), E::TYPE_NAME)
}

/// Checks that a number is finite; the error names the type that it was meant for.
#[inline]
pub(crate) fn check_finite(value: f32, type_name: TypeName) -> Result<(), VectorError> {
    if value.is_finite() {
        Ok(())
    } else if value.is_nan() {
        Err(VectorError::Nan(type_name))
    } else {
        Err(VectorError::Infinite(type_name))
    }
}

/// Checks every rule for a whole vector: dimensions and elements.
pub fn check<E: Element>(elements: &[E]) -> Result<(), VectorError> {
    check_dimensions::<E>(elements.len())?;
    elements.iter().try_for_each(|&value| check_element(value))
}

/// Checks that two vectors can be combined.
pub fn check_same_dimensions<E: Element>(a: &[E], b: &[E]) -> Result<(), ArithmeticError> {
    if a.len() == b.len() {
        Ok(())
    } else {
        Err(ArithmeticError::DifferentDimensions { type_name: E::TYPE_NAME, left: a.len(), right: b.len() })
    }
}
