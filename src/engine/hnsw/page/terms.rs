//! The words of the format: element types, metrics, kinds of code, classes of pages, with their numbers on disk.

use super::special::PageKind;

/// An enum whose numbers are on disk, and its total decoding.
macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($variant = $number),* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            pub fn from_u8(number: u8) -> Option<Self> {
                match number {
                    $($number => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// The SQL type of the indexed column.
    ElementType { Vector = 1, Halfvec = 2, Sparsevec = 3, Bit = 4 }
}

numbered! {
    /// What the graph's edges and the search's order mean.
    Metric { L2 = 1, InnerProduct = 2, Cosine = 3, L1 = 4, Hamming = 5, Jaccard = 6 }
}

numbered! {
    /// How the bytes of a code are to be read; the page format itself never looks at them.
    CodeKind { F32 = 1, F16 = 2, Bits8 = 3, Bits4 = 4, Bits1 = 5, Sparse = 6 }
}

numbered! {
    /// What a page of records holds; the number less one is the place of its descriptor on the metapage.
    PageClass { Code = 1, Node = 2, Upper = 3, Tids = 4, Keys = 5 }
}

/// Descriptors on the metapage: some more than there are classes.
pub(super) const CLASS_SLOTS: usize = 8;
const _: () = assert!(PageClass::ALL.len() <= CLASS_SLOTS);

impl ElementType {
    /// The most dimensions that an index takes: those of the type, and 64,000 bits, as pgvector.
    pub const fn max_dimensions(self) -> u32 {
        match self {
            ElementType::Vector | ElementType::Halfvec => crate::vector::MAX_DIMENSIONS as u32,
            ElementType::Sparsevec => crate::sparse::MAX_DIMENSIONS as u32,
            ElementType::Bit => 64_000,
        }
    }
}

impl PageClass {
    /// The place of the class in arrays by class.
    pub const fn slot(self) -> usize {
        self as usize - 1
    }

    /// The kind of its pages.
    pub const fn kind(self) -> PageKind {
        match self {
            PageClass::Code => PageKind::Code,
            PageClass::Node => PageKind::Node,
            PageClass::Upper => PageKind::Upper,
            PageClass::Tids => PageKind::Tids,
            PageClass::Keys => PageKind::Keys,
        }
    }
}
