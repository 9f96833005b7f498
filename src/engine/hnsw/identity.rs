//! From what a user declares to what an index is: which codes it keeps, and the codec that reads them.

use super::filter::RowShape;
use super::page::filter_columns::FilterColumn;
use super::page::meta::Identity;
use super::page::{CodeKind, CodeLength, ElementType, Metric};
use crate::code::{self, BitMetric, Codec};
use crate::distance;

/// The codec of an index.
fn codec_of(element: ElementType, metric: Metric, dimensions: u32, seed: u64) -> Codec {
    let dimensions = dimensions as usize;
    let Some(dense) = metric_of_elements(metric) else {
        let bits = if metric == Metric::Jaccard { BitMetric::Jaccard } else { BitMetric::Hamming };
        return Codec::bits(bits, dimensions);
    };
    match element {
        ElementType::Vector => Codec::new(dense, dimensions, code::ElementType::Single, seed),
        ElementType::Halfvec => Codec::new(dense, dimensions, code::ElementType::Half, seed),
        ElementType::Sparsevec => Codec::sparse(dense, dimensions),
        // No operator class pairs bits with these; a metapage that does is damaged, and gives some distance.
        ElementType::Bit => Codec::bits(BitMetric::Hamming, dimensions),
    }
}

/// A metric of numbers; None if it is one of bits.
fn metric_of_elements(metric: Metric) -> Option<distance::Metric> {
    Some(match metric {
        Metric::L2 => distance::Metric::L2,
        Metric::InnerProduct => distance::Metric::InnerProduct,
        Metric::Cosine => distance::Metric::Cosine,
        Metric::L1 => distance::Metric::L1,
        Metric::Hamming | Metric::Jaccard => return None,
    })
}

/// Whether an index over such a column keeps estimates, so that distances are exact only where rows are read.
pub fn has_estimated_codes(element: ElementType, metric: Metric, dimensions: u32) -> bool {
    matches!(element, ElementType::Vector | ElementType::Halfvec)
        && metric_of_elements(metric).is_some_and(|metric| code::is_quantised(metric, dimensions as usize))
}

impl Identity {
    /// What an index over such a column is. `seed` is drawn once per index.
    pub fn of_column(
        element: ElementType,
        metric: Metric,
        dimensions: u32,
        m: u16,
        ef_construction: u16,
        seed: u64,
    ) -> Identity {
        let codec = codec_of(element, metric, dimensions, seed);
        let code_kind = match element {
            ElementType::Sparsevec => CodeKind::Sparse,
            ElementType::Bit => CodeKind::Bits1,
            _ if has_estimated_codes(element, metric, dimensions) => CodeKind::Bits8,
            ElementType::Vector => CodeKind::F32,
            ElementType::Halfvec => CodeKind::F16,
        };
        let code_bytes = codec.code_bytes() as u32;
        let code_length = match element {
            ElementType::Sparsevec => CodeLength::Variable { max_bytes: code_bytes },
            _ => CodeLength::Fixed(code_bytes),
        };
        Identity {
            element,
            metric,
            code_kind,
            code_length,
            code_seed: seed,
            dimensions,
            m,
            ef_construction,
            filter_columns: Vec::new(),
        }
    }

    /// About how many bytes a code has.
    pub fn code_bytes_estimate(&self) -> usize {
        match self.code_length {
            CodeLength::Fixed(bytes) => bytes as usize,
            // Sparse embeddings have some hundred elements.
            CodeLength::Variable { .. } => 1024,
        }
    }

    /// The codec that wrote the codes of this index.
    pub fn codec(&self) -> Codec {
        codec_of(self.element, self.metric, self.dimensions, self.code_seed)
    }

    /// The codec of a build, whose codes carry the filter keys of their rows.
    pub fn build_codec(&self) -> Codec {
        self.codec().with_trailer(self.row_keys().bytes())
    }

    /// Where the filter keys of a row lie.
    pub fn row_keys(&self) -> RowShape {
        RowShape::of(&self.filter_columns)
    }

    /// With these filter columns.
    pub fn with_filters(self, filter_columns: Vec<FilterColumn>) -> Identity {
        Identity { filter_columns, ..self }
    }
}
