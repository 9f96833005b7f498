//! The codec of an index: from values to codes and queries.

use half::f16;

use super::dispatch::{CodeProduct, ProductSet};
use super::estimate::{Estimate, Side};
use super::exact::{self, Plain};
use super::query::{Form as QueryForm, Quantised, Query};
use super::rotation::Rotation;
use super::values::{CodeError, Values};
use super::{is_quantised, layout, quantise, sparse};
use crate::distance::{hamming, jaccard, Metric};
use crate::sparse::{SparseRef, MAX_NON_ZERO};

/// Makes and compares the codes of one index: a function of what the index keeps in its metapage, cheap to make.
///
/// Distances are in the order of the operator's: squared for [`Metric::L2`] as for [`Metric::L2Squared`], negative for
/// [`Metric::InnerProduct`]; under [`Metric::Cosine`] vectors need not be normalised, and a zero vector has distance 1
/// from all.
pub struct Codec {
    form: Form,
    dimensions: usize,
}

enum Form {
    Quantised { rotation: Rotation, estimate: Estimate, product: CodeProduct },
    Single(Metric),
    Half(Metric),
    Bits(BitMetric),
    Sparse(Metric),
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
        Codec { form: Form::Quantised { rotation, estimate: Estimate(metric), product }, dimensions }
    }

    /// Codes that are the elements, for any metric and dimensions.
    pub fn exact(metric: Metric, dimensions: usize, element: ElementType) -> Codec {
        let form = match element {
            ElementType::Single => Form::Single(metric),
            ElementType::Half => Form::Half(metric),
        };
        Codec { form, dimensions }
    }

    /// For bit strings of as many bits.
    pub fn bits(metric: BitMetric, bits: usize) -> Codec {
        Codec { form: Form::Bits(metric), dimensions: bits }
    }

    /// For sparse vectors, whose codes differ in length.
    pub fn sparse(metric: Metric, dimensions: usize) -> Codec {
        Codec { form: Form::Sparse(metric), dimensions }
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Whether distances are those of the values, so that nothing is gained by computing them again from the rows.
    pub fn is_exact(&self) -> bool {
        !matches!(self.form, Form::Quantised { .. })
    }

    /// Bytes of every code, a multiple of four; with sparse vectors, of the longest.
    pub fn code_bytes(&self) -> usize {
        match self.form {
            Form::Quantised { .. } => layout::code_bytes(self.dimensions),
            Form::Single(_) => self.dimensions * f32::BYTES,
            Form::Half(_) => (self.dimensions * f16::BYTES).next_multiple_of(4),
            Form::Bits(_) => self.dimensions.div_ceil(8).next_multiple_of(4),
            Form::Sparse(_) => sparse::code_bytes(MAX_NON_ZERO),
        }
    }

    /// The code of a value.
    pub fn encoded<'a>(&self, value: impl Into<Values<'a>>) -> Result<Vec<u8>, CodeError> {
        let value = value.into();
        if let (Form::Sparse(_), Values::Sparse(value)) = (&self.form, value) {
            let value = Values::Sparse(value).sparse(self.dimensions)?;
            let mut code = vec![0; sparse::code_bytes(value.values().len())];
            sparse::write(value, &mut code);
            return Ok(code);
        }
        let mut code = vec![0; self.code_bytes()];
        self.encode(value, &mut code)?;
        Ok(code)
    }

    /// Writes the code of a value, [`Codec::code_bytes`] of them, all of which it determines. Sparse vectors have
    /// [`Codec::encoded`] instead.
    pub fn encode<'a>(&self, value: impl Into<Values<'a>>, out: &mut [u8]) -> Result<(), CodeError> {
        let (expected, found) = (self.code_bytes(), out.len());
        if expected != found {
            return Err(CodeError::Bytes { expected, found });
        }
        let value = value.into();
        match &self.form {
            Form::Quantised { rotation, estimate, .. } => {
                let elements = value.singles(self.dimensions)?;
                let code = quantise::code(rotation, &elements, estimate.0 == Metric::Cosine);
                layout::write(code.factors, &code.integers, out);
            }
            Form::Single(_) => copy(&bytes(&value.singles(self.dimensions)?), out),
            Form::Half(_) => copy(&bytes(&halves(value, self.dimensions)?), out),
            Form::Bits(_) => copy(value.bytes(self.dimensions)?, out),
            Form::Sparse(_) => return Err(CodeError::Type),
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
            Form::Sparse(metric) => {
                let value = value.sparse(self.dimensions)?;
                QueryForm::Sparse(*metric, value.indices().to_vec(), value.values().to_vec())
            }
        };
        Ok(Query::new(form, self.dimensions, self.code_bytes()))
    }

    /// A query for which no value is nearer than another in any sense: zeros.
    pub fn query_of_nothing(&self) -> Result<Query, CodeError> {
        match self.form {
            Form::Quantised { .. } | Form::Single(_) | Form::Half(_) => self.query(vec![0.0; self.dimensions].as_slice()),
            Form::Bits(_) => self.query(vec![0u8; self.dimensions.div_ceil(8)].as_slice()),
            Form::Sparse(_) => self.query(SparseRef::trusted(self.dimensions as i32, &[], &[])),
        }
    }

    /// Prepares a code to be compared with many others: the same distances as [`Codec::distance_between`], sooner.
    pub fn query_of_code(&self, code: &[u8]) -> Result<Query, CodeError> {
        if let Form::Sparse(metric) = self.form {
            let form = sparse::with(code, self.dimensions, |value| {
                QueryForm::Sparse(metric, value.indices().to_vec(), value.values().to_vec())
            });
            return Ok(Query::new(form, self.dimensions, code.len()));
        }
        let (expected, found) = (self.code_bytes(), code.len());
        if expected != found {
            return Err(CodeError::Bytes { expected, found });
        }
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
            // Answered above: its codes have no fixed length.
            Form::Sparse(_) => return Err(too_short),
        };
        Ok(Query::new(form, self.dimensions, expected))
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
            Form::Sparse(metric) => Some(sparse::with(a, self.dimensions, |a| {
                sparse::with(b, self.dimensions, |b| sparse::compare(*metric, a, b))
            })),
        };
        distance.unwrap_or(f32::INFINITY)
    }

    fn exact_between<E: Plain>(&self, metric: Metric, a: &[u8], b: &[u8]) -> Option<f32> {
        let (a, b) = (exact::elements::<E>(a, self.dimensions)?, exact::elements::<E>(b, self.dimensions)?);
        Some(exact::distance(metric, &a, &b))
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
