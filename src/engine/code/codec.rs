//! The codec of an index: from values to codes and queries.

use half::f16;

use super::dispatch::{CodeProduct, ProductSet};
use super::estimate::{Estimate, Side};
use super::exact::{self, Plain};
use super::query::{Form as QueryForm, Quantised, Query};
use super::rotation::Rotation;
use super::sparse::{self, Measure, SparseQuery};
use super::values::{check_non_zero, CodeError, Values};
use super::{is_quantised, layout, quantise};
use crate::distance::{hamming, jaccard, Kernels, Metric};
use crate::sparse::SparseRef;

/// Makes and compares the codes of one index: a function of what the index keeps in its metapage, cheap to make.
///
/// Distances are in the order of the operator's: squared for [`Metric::L2`] as for [`Metric::L2Squared`], negative for
/// [`Metric::InnerProduct`]; under [`Metric::Cosine`] vectors need not be normalised, and a zero vector has distance 1
/// from all.
pub struct Codec {
    form: Form,
    dimensions: usize,
    /// Bytes that follow every code and mean nothing here.
    trailer_bytes: usize,
}

enum Form {
    Quantised { rotation: Rotation, estimate: Estimate, product: CodeProduct },
    Single(Metric),
    Half(Metric),
    Bits(BitMetric),
    Sparse(Measure),
}

/// What a vector consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    Single,
    Half,
}

/// A distance between bit strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitMetric {
    /// Bits that differ, `<~>`.
    Hamming,
    /// One minus the share of common bits among the bits set in either, `<%>`.
    Jaccard,
}

impl BitMetric {
    /// Exact: a bit string has fewer than 2²⁴ bits.
    pub(super) fn distance(self, a: &[u8], b: &[u8]) -> f32 {
        match self {
            BitMetric::Hamming => hamming(a, b) as f32,
            BitMetric::Jaccard => jaccard(a, b) as f32,
        }
    }
}

impl Codec {
    /// For vectors of 1 to 16,000 dimensions: 8-bit codes where they pay, else exact ones in the elements' type. Which
    /// is a function of metric and dimensions, for ever.
    pub fn new(metric: Metric, dimensions: usize, element: ElementType, seed: u64) -> Codec {
        if !is_quantised(metric, dimensions) {
            return Codec::exact(metric, dimensions, element);
        }
        let rotation = Rotation::new(dimensions, seed);
        let product = ProductSet::chosen().of_codes();
        Codec::of(Form::Quantised { rotation, estimate: Estimate(metric), product }, dimensions)
    }

    /// Codes that are the elements, for any metric and dimensions.
    pub fn exact(metric: Metric, dimensions: usize, element: ElementType) -> Codec {
        let form = match element {
            ElementType::Single => Form::Single(metric),
            ElementType::Half => Form::Half(metric),
        };
        Codec::of(form, dimensions)
    }

    fn of(form: Form, dimensions: usize) -> Codec {
        Codec { form, dimensions, trailer_bytes: 0 }
    }

    /// For codes that so many other bytes follow, which count as theirs wherever codes are handed over but in
    /// [`Codec::encode`]: a build carries what belongs to a row behind its code.
    pub fn with_trailer(self, trailer_bytes: usize) -> Codec {
        Codec { trailer_bytes, ..self }
    }

    /// For bit strings of as many bits.
    pub fn bits(metric: BitMetric, bits: usize) -> Codec {
        Codec::of(Form::Bits(metric), bits)
    }

    /// For sparse vectors of as many dimensions, up to [`crate::sparse::MAX_DIMENSIONS`]: exact codes of variable length.
    pub fn sparse(metric: Metric, dimensions: usize) -> Codec {
        Codec::of(Form::Sparse(Measure(metric)), dimensions)
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether distances are those of the values, so that nothing is gained by computing them again from the rows.
    pub fn is_exact(&self) -> bool {
        !matches!(self.form, Form::Quantised { .. })
    }

    /// Whether codes are of unequal length, as those of sparse vectors are.
    pub fn is_variable(&self) -> bool {
        matches!(self.form, Form::Sparse(_))
    }

    /// Bytes of every code, or of the longest one if [`Codec::is_variable`]; a multiple of four.
    pub fn code_bytes(&self) -> usize {
        match self.form {
            Form::Quantised { .. } => layout::code_bytes(self.dimensions),
            Form::Single(_) => self.dimensions * f32::BYTES,
            Form::Half(_) => (self.dimensions * f16::BYTES).next_multiple_of(4),
            Form::Bits(_) => self.dimensions.div_ceil(8).next_multiple_of(4),
            Form::Sparse(_) => sparse::most_code_bytes(self.dimensions),
        }
    }

    /// Bytes of the code of a value, a multiple of four: [`Codec::code_bytes`], or fewer if [`Codec::is_variable`].
    pub fn encoded_bytes<'a>(&self, value: impl Into<Values<'a>>) -> Result<usize, CodeError> {
        match self.form {
            Form::Sparse(_) => Ok(sparse::code_bytes(value.into().sparse(self.dimensions)?.indices().len())),
            _ => Ok(self.code_bytes()),
        }
    }

    /// Makes the code of a value the content of `out`, which can be used again for the next; empty after an error.
    pub fn encode_into<'a>(&self, value: impl Into<Values<'a>>, out: &mut Vec<u8>) -> Result<(), CodeError> {
        let value = value.into();
        out.clear();
        out.resize(self.encoded_bytes(value)?, 0);
        self.encode(value, out).inspect_err(|_| out.clear())
    }

    /// Writes the code of a value, [`Codec::encoded_bytes`] of them, all of which it determines.
    pub fn encode<'a>(&self, value: impl Into<Values<'a>>, out: &mut [u8]) -> Result<(), CodeError> {
        let value = value.into();
        check_bytes(self.encoded_bytes(value)?, out.len())?;
        match &self.form {
            Form::Quantised { rotation, estimate, .. } => {
                let elements = value.singles(self.dimensions)?;
                let code = quantise::code(rotation, &elements, estimate.0 == Metric::Cosine);
                layout::write(code.factors, &code.integers, out);
            }
            Form::Single(_) => copy(&bytes(&value.singles(self.dimensions)?), out),
            Form::Half(_) => copy(&bytes(&halves(value, self.dimensions)?), out),
            Form::Bits(_) => copy(value.bytes(self.dimensions)?, out),
            Form::Sparse(measure) => sparse::write(*measure, value.sparse(self.dimensions)?, out),
        }
        Ok(())
    }

    /// Prepares a value to be compared with codes. With 8-bit codes it keeps 16 bits an element, so that only the
    /// codes' rounding counts.
    pub fn query<'a>(&self, value: impl Into<Values<'a>>) -> Result<Query, CodeError> {
        let value = value.into();
        let form = match &self.form {
            Form::Quantised { rotation, estimate, .. } => {
                let elements = value.singles(self.dimensions)?;
                let query = quantise::query(rotation, &elements, estimate.0 == Metric::Cosine);
                quantised(query.integers, Side::new(query.factors), *estimate)
            }
            Form::Single(metric) => QueryForm::Single(*metric, value.singles(self.dimensions)?.into_owned()),
            Form::Half(metric) => QueryForm::Half(*metric, halves(value, self.dimensions)?),
            Form::Bits(metric) => QueryForm::Bits(*metric, value.bytes(self.dimensions)?.to_vec()),
            Form::Sparse(measure) => {
                let vector = value.sparse(self.dimensions)?;
                QueryForm::Sparse(SparseQuery::new(*measure, vector, self.dimensions))
            }
        };
        Ok(Query::new(form, self.dimensions, self.code_bytes()))
    }

    /// A query to which no value is nearer than another: of zeros.
    pub fn query_of_nothing(&self) -> Result<Query, CodeError> {
        match self.form {
            Form::Bits(_) => self.query(vec![0u8; self.dimensions.div_ceil(8)].as_slice()),
            Form::Sparse(..) => self.query(SparseRef::trusted(self.dimensions as i32, &[], &[])),
            _ => self.query(vec![0.0f32; self.dimensions].as_slice()),
        }
    }

    /// Prepares a code to be compared with many others: the same distances as [`Codec::distance_between`], sooner. The
    /// bytes are those of the code, no more: a sparse one that says to be longer or shorter is refused.
    pub fn query_of_code(&self, code: &[u8]) -> Result<Query, CodeError> {
        let code = code.get(..code.len().saturating_sub(self.trailer_bytes)).unwrap_or_default();
        let (expected, found) = (self.bytes_said(code)?, code.len());
        check_bytes(expected, found)?;
        let too_short = CodeError::Bytes { expected, found };
        let form = match &self.form {
            Form::Quantised { estimate, .. } => {
                let (factors, elements) = layout::split(code, self.dimensions).ok_or(too_short)?;
                let words = elements.iter().map(|element| i16::from(*element as i8)).collect();
                quantised(words, Side::new(factors), *estimate)
            }
            Form::Single(metric) => {
                let elements = exact::elements(code, self.dimensions).ok_or(too_short)?;
                QueryForm::Single(*metric, elements.into_owned())
            }
            Form::Half(metric) => {
                let elements = exact::elements(code, self.dimensions).ok_or(too_short)?;
                QueryForm::Half(*metric, elements.into_owned())
            }
            Form::Bits(metric) => QueryForm::Bits(*metric, code[..self.dimensions.div_ceil(8)].to_vec()),
            Form::Sparse(measure) => {
                let code = sparse::Code::read(code).ok_or(too_short)?;
                QueryForm::Sparse(SparseQuery::of_code(*measure, &code, self.dimensions))
            }
        };
        Ok(Query::new(form, self.dimensions, self.code_bytes()))
    }

    /// How long a code says to be.
    fn bytes_said(&self, code: &[u8]) -> Result<usize, CodeError> {
        match self.form {
            Form::Sparse(_) => {
                let count = sparse::count(code);
                check_non_zero(self.dimensions, count)?;
                Ok(sparse::code_bytes(count))
            }
            _ => Ok(self.code_bytes()),
        }
    }

    /// The distance of the values that two codes were made of, as [`Query::distance`]; symmetric.
    #[inline]
    pub fn distance_between(&self, a: &[u8], b: &[u8]) -> f32 {
        let distance = match &self.form {
            Form::Quantised { estimate, product, .. } => {
                let sides = layout::split(a, self.dimensions).zip(layout::split(b, self.dimensions));
                sides.map(|((factors_a, a), (factors_b, b))| {
                    estimate.distance(Side::new(factors_a), Side::new(factors_b), product(a, b))
                })
            }
            Form::Single(metric) => self.exact_between::<f32>(*metric, a, b),
            Form::Half(metric) => self.exact_between::<f16>(*metric, a, b),
            Form::Bits(metric) => {
                let bytes = self.dimensions.div_ceil(8);
                a.get(..bytes).zip(b.get(..bytes)).map(|(a, b)| metric.distance(a, b))
            }
            Form::Sparse(measure) => sparse::between(*measure, a, b),
        };
        distance.unwrap_or(f32::INFINITY)
    }

    fn exact_between<E: Plain + Kernels>(&self, metric: Metric, a: &[u8], b: &[u8]) -> Option<f32> {
        let (a, b) = (exact::elements::<E>(a, self.dimensions)?, exact::elements::<E>(b, self.dimensions)?);
        Some(exact::distance(metric, &a, &b))
    }
}

fn check_bytes(expected: usize, found: usize) -> Result<(), CodeError> {
    if expected == found {
        Ok(())
    } else {
        Err(CodeError::Bytes { expected, found })
    }
}

fn quantised(words: Vec<i16>, side: Side, estimate: Estimate) -> QueryForm {
    QueryForm::Quantised(Quantised { words, side, estimate, product: ProductSet::chosen().of_query() })
}

/// The elements as halves; those of an `f32` vector are rounded.
fn halves(value: Values<'_>, dimensions: usize) -> Result<Vec<f16>, CodeError> {
    Ok(value.singles(dimensions)?.iter().map(|element| f16::from_f32(*element)).collect())
}

fn bytes<E: Plain>(elements: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.len() * E::BYTES);
    elements.iter().for_each(|element| element.append(&mut bytes));
    bytes
}

/// Copies to the start, and fills the rest with zeros.
fn copy(bytes: &[u8], out: &mut [u8]) {
    let (start, rest) = out.split_at_mut(bytes.len().min(out.len()));
    start.copy_from_slice(&bytes[..start.len()]);
    rest.fill(0);
}
