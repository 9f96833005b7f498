//! Rows of equal length in one allocation, work on them by all cores, and the arithmetic that the benchmark needs.

/// Vectors of one dimension, one after the other.
pub struct Vectors {
    pub dimensions: usize,
    pub values: Vec<f32>,
}

impl Vectors {
    pub fn zeros(rows: usize, dimensions: usize) -> Self {
        Self { dimensions, values: vec![0.0; rows * dimensions] }
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimensions..][..self.dimensions]
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Cuts `items` into chunks of `width` and hands each with its number to `work`, on all cores.
pub fn for_each_chunk<T: Send>(items: &mut [T], width: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let chunks = items.len().div_ceil(width);
    let per_thread = chunks.div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        for (thread, part) in items.chunks_mut(per_thread * width).enumerate() {
            let work = &work;
            scope.spawn(move || {
                for (at, chunk) in part.chunks_mut(width).enumerate() {
                    work(thread * per_thread + at, chunk);
                }
            });
        }
    });
}

/// Inner product in single precision, in lanes that the compiler turns into vector instructions.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (mut a, mut b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.by_ref().zip(b.by_ref()) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Inner product in double precision.
pub fn dot_exact(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// `to += factor * of`
pub fn add_scaled(to: &mut [f32], factor: f32, of: &[f32]) {
    for (to, of) in to.iter_mut().zip(of) {
        *to += factor * of;
    }
}

/// Makes the norm 1; zeros stay.
pub fn normalize(row: &mut [f32]) {
    let norm = dot_exact(row, row).sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
    }
}
