//! The vectors: real embeddings of 384 dimensions from a file, more dimensions and more rows derived from them.
//!
//! - **More dimensions** have the same neighbourhoods: a random orthonormal map into them plus Gaussian noise of a fifth of
//!   the norm, normalised, rounded to half precision as the file is.
//! - **More rows**: row `n` beyond the real ones is the real row `n` modulo their count plus Gaussian noise of half the norm
//!   (cosine similarity to its origin about 0.89), normalised and rounded likewise.
//!
//! Everything is a function of the file, so both servers and every run get the same rows.

use crate::npy;
use crate::random::{mix, normals};
use crate::vectors::{add_scaled, dot, for_each_chunk, normalize, Vectors};
use half::f16;
use std::path::Path;

const FILE: &str = "minilm-61k.npy";
const QUERIES: usize = 1000;
const MAP_SEED: u64 = 11;
const WIDEN_SEED: u64 = 12;
const ROW_SEED: u64 = 13;
const WIDEN_NOISE: f32 = 0.2;
const ROW_NOISE: f32 = 0.5;

/// The file as it is.
pub struct Source {
    vectors: Vectors,
    fingerprint: u64,
}

/// One collection with its queries. The collection goes on after `rows` with the rows to insert.
pub struct Dataset {
    pub rows: usize,
    pub collection: Vectors,
    pub queries: Vectors,
    /// The same for the same vectors.
    pub fingerprint: u64,
}

impl Source {
    /// `None` where the folder does not have the file.
    pub fn read(folder: &Path) -> Result<Option<Self>, String> {
        let path = folder.join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: there is no {}", path.display());
                return Ok(None);
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        let vectors = npy::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        if vectors.len() <= QUERIES {
            return Err(format!("{}: {} rows are too few", path.display(), vectors.len()));
        }
        let fingerprint = bytes.chunks(8).fold(0, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash, u64::from_le_bytes(word))
        });
        Ok(Some(Self { vectors, fingerprint }))
    }

    /// `rows` rows and `more` to insert after them; the last rows of the file are the queries.
    pub fn dataset(&self, rows: usize, more: usize, dimensions: usize, queries: usize) -> Result<Dataset, String> {
        let from = self.vectors.dimensions;
        if dimensions < from {
            return Err(format!("the data has {from} dimensions: fewer cannot be made from it"));
        }
        let Vectors { mut values, .. } =
            if dimensions == from { self.copy() } else { widen(&self.vectors, dimensions) };
        let real = self.vectors.len() - QUERIES;
        let mut queries_only = values.split_off(real * dimensions);
        queries_only.truncate(queries * dimensions);
        let collection = extend(Vectors { dimensions, values }, rows + more);
        let queries = Vectors { dimensions, values: queries_only };
        Ok(Dataset { rows, collection, queries, fingerprint: mix(self.fingerprint, dimensions as u64) })
    }

    fn copy(&self) -> Vectors {
        Vectors { dimensions: self.vectors.dimensions, values: self.vectors.values.clone() }
    }
}

fn widen(from: &Vectors, dimensions: usize) -> Vectors {
    /// Rows that share one reading of the map.
    const BLOCK: usize = 8;
    let map = orthonormal(from.dimensions, dimensions);
    let noise_scale = WIDEN_NOISE / (dimensions as f32).sqrt();
    let mut wide = Vectors::zeros(from.len(), dimensions);
    for_each_chunk(&mut wide.values, BLOCK * dimensions, |block, rows| {
        for element in 0..from.dimensions {
            for (at, row) in rows.chunks_mut(dimensions).enumerate() {
                add_scaled(row, from.row(block * BLOCK + at)[element], map.row(element));
            }
        }
        let mut noise = vec![0.0; dimensions];
        for (at, row) in rows.chunks_mut(dimensions).enumerate() {
            normals(mix(WIDEN_SEED, (block * BLOCK + at) as u64), &mut noise);
            add_scaled(row, noise_scale, &noise);
            finish(row);
        }
    });
    wide
}

/// `count` orthonormal rows of `dimensions` elements, by Gram and Schmidt, twice for accuracy.
fn orthonormal(count: usize, dimensions: usize) -> Vectors {
    let mut basis = Vectors::zeros(count, dimensions);
    for at in 0..count {
        let (before, rest) = basis.values.split_at_mut(at * dimensions);
        let row = &mut rest[..dimensions];
        normals(mix(MAP_SEED, at as u64), row);
        for _ in 0..2 {
            for earlier in before.chunks(dimensions) {
                let share = dot(row, earlier);
                add_scaled(row, -share, earlier);
            }
            normalize(row);
        }
    }
    basis
}

/// Cuts to `rows` rows, or goes on with noisy copies.
fn extend(mut vectors: Vectors, rows: usize) -> Vectors {
    let Vectors { dimensions, .. } = vectors;
    let real = vectors.len();
    let noise_scale = ROW_NOISE / (dimensions as f32).sqrt();
    vectors.values.resize(rows * dimensions, 0.0);
    if rows > real {
        let (origins, copies) = vectors.values.split_at_mut(real * dimensions);
        for_each_chunk(copies, dimensions, |at, row| {
            normals(mix(ROW_SEED, (real + at) as u64), row);
            row.iter_mut().for_each(|value| *value *= noise_scale);
            add_scaled(row, 1.0, &origins[at % real * dimensions..][..dimensions]);
            finish(row);
        });
    }
    vectors
}

fn finish(row: &mut [f32]) {
    normalize(row);
    row.iter_mut().for_each(|value| *value = f16::from_f32(*value).to_f32());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let mut vectors = Vectors::zeros(QUERIES + 20, 24);
        for_each_chunk(&mut vectors.values, 24, |at, row| {
            normals(at as u64, row);
            finish(row);
        });
        Source { vectors, fingerprint: 1 }
    }

    #[test]
    fn more_dimensions_keep_the_angles() {
        let source = source();
        let wide = source.dataset(20, 0, 1536, 10).unwrap();
        assert_eq!((wide.collection.len(), wide.queries.len()), (20, 10));
        for row in 1..20 {
            let before = dot(source.vectors.row(0), source.vectors.row(row));
            let after = dot(wide.collection.row(0), wide.collection.row(row));
            assert!((before / 1.04 - after).abs() < 0.05, "{before} {after}"); // the noise adds 0.2² to each norm's square
        }
    }

    #[test]
    fn more_rows_are_near_their_origins() {
        let more = source().dataset(50, 5, 24, 10).unwrap();
        assert_eq!(more.collection.len(), 55);
        let similarities = (20..40).map(|row| dot(more.collection.row(row), more.collection.row(row - 20)));
        let mean = similarities.sum::<f32>() / 20.0;
        assert!((0.8..0.95).contains(&mean), "{mean}");
        assert_ne!(more.collection.row(20), more.collection.row(40));
    }
}
