//! Vectors for tests: the same ones in every run, from a seed.

use std::fmt::Write;

/// SplitMix64: small, and good enough to make test data.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0);
        (self.bits() % limit as u64) as usize
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// A number around 0 with variance 1, nearly normal.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 3f32.sqrt()
    }

    fn flip(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }
}

/// What a column of vectors holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Vector,
    Halfvec,
    Sparsevec,
    Bit,
}

impl Element {
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Halfvec => "halfvec",
            Self::Sparsevec => "sparsevec",
            Self::Bit => "bit",
        }
    }
}

/// A source of values in clusters, as real embeddings lie, in the types' text form.
pub struct Source {
    element: Element,
    centres: Vec<Vec<f32>>,
    random: Random,
}

impl Source {
    pub fn new(element: Element, dimensions: usize, clusters: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let centres = (0..clusters)
            .map(|_| {
                (0..dimensions)
                    .map(|_| match element {
                        Element::Vector | Element::Halfvec => random.normal(),
                        // One dimension of ten can be other than zero.
                        Element::Sparsevec => f32::from(u8::from(random.flip(0.1))) * (0.5 + random.unit()),
                        Element::Bit => f32::from(u8::from(random.flip(0.5))),
                    })
                    .collect()
            })
            .collect();
        Self { element, centres, random }
    }

    /// The next value.
    pub fn value(&mut self) -> String {
        let centre = self.random.below(self.centres.len());
        let (centre, random) = (&self.centres[centre], &mut self.random);
        match self.element {
            Element::Vector | Element::Halfvec => {
                dense(&centre.iter().map(|at| at + 0.5 * random.normal()).collect::<Vec<_>>())
            }
            Element::Sparsevec => {
                let values = centre.iter().map(|at| match *at {
                    at if at != 0.0 && random.flip(0.8) => at + 0.3 * random.unit(),
                    _ => 0.0,
                });
                sparse(&values.collect::<Vec<_>>())
            }
            Element::Bit => {
                let bits = centre.iter().map(|at| if (*at != 0.0) ^ random.flip(0.15) { '1' } else { '0' });
                bits.collect()
            }
        }
    }

    pub fn values(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.value()).collect()
    }
}

/// The vector that belongs to a number: whoever knows the number knows the vector. No two are equal.
pub fn vector_of(number: i64, dimensions: usize) -> String {
    let mut random = Random::new(number.cast_unsigned());
    dense(&(0..dimensions).map(|_| random.unit()).collect::<Vec<_>>())
}

/// Text of a `vector` or `halfvec`.
pub fn dense(values: &[f32]) -> String {
    let mut text = String::from("[");
    for value in values {
        write!(text, "{value:.6},").expect("strings grow");
    }
    text.pop();
    text + "]"
}

/// Text of a `sparsevec`.
fn sparse(values: &[f32]) -> String {
    let entries: Vec<String> = values
        .iter()
        .enumerate()
        .filter(|(_, value)| **value != 0.0)
        .map(|(at, value)| format!("{}:{value:.6}", at + 1))
        .collect();
    format!("{{{}}}/{}", entries.join(","), values.len())
}
