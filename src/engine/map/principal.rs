//! Principal components: the two directions in which the vectors vary most, by subspace iteration from a random start
//! (Halko, Martinsson and Tropp, SIAM Review 2011).
//!
//! A few more directions than are wanted are iterated, which is what makes the first two converge in few steps. The start is
//! the same every time, and so is the sign of a direction: its largest element is positive.

use super::{Rows, SplitMix};

/// Directions that are iterated.
const BLOCK: usize = 8;
const STEPS: usize = 12;
/// Sweeps of the Jacobi method; a matrix of eight rows takes about five.
const SWEEPS: usize = 30;

/// Points in the plane of the first two components.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub points: Vec<[f64; 2]>,
    /// The share of the variance that each of the two axes has.
    pub explained: [f64; 2],
}

/// Projects the rows. `pause` is called now and then, and may unwind.
pub fn project(rows: Rows<'_>, pause: &mut dyn FnMut()) -> Plane {
    let (count, dimensions) = (rows.len(), rows.dimensions());
    let block = BLOCK.min(dimensions);
    let mut mean = vec![0.0f64; dimensions];
    for at in 0..count {
        mean.iter_mut().zip(rows.row(at)).for_each(|(sum, &element)| *sum += f64::from(element));
    }
    mean.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);

    let mut random = SplitMix(1);
    let mut directions: Vec<Vec<f64>> =
        (0..block).map(|_| (0..dimensions).map(|_| random.signed()).collect()).collect();
    orthonormalise(&mut directions);
    for _ in 0..STEPS {
        // The covariance, applied without being formed.
        let mut next = vec![vec![0.0f64; dimensions]; block];
        for at in 0..count {
            let row = centred(rows.row(at), &mean);
            for (direction, sum) in directions.iter().zip(&mut next) {
                let along = dot(direction, &row);
                sum.iter_mut().zip(&row).for_each(|(sum, element)| *sum += along * element);
            }
            if at % 256 == 0 {
                pause();
            }
        }
        directions = next;
        orthonormalise(&mut directions);
    }

    // Within the subspace found, the components are the eigenvectors of a small matrix.
    let mut coordinates = Vec::with_capacity(count);
    let mut small = vec![vec![0.0f64; block]; block];
    let mut total = 0.0;
    for at in 0..count {
        let row = centred(rows.row(at), &mean);
        total += dot(&row, &row);
        let along: Vec<f64> = directions.iter().map(|direction| dot(direction, &row)).collect();
        for (i, line) in small.iter_mut().enumerate() {
            line.iter_mut().zip(&along).for_each(|(sum, other)| *sum += along[i] * other);
        }
        coordinates.push(along);
    }
    let (values, vectors) = eigen(small);
    let mut order: Vec<usize> = (0..block).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let axis = |place: usize| -> Option<Vec<f64>> {
        let chosen = *order.get(place)?;
        let axis: Vec<f64> = vectors.iter().map(|line| line[chosen]).collect();
        let element =
            |at: usize| directions.iter().zip(&axis).map(|(direction, share)| direction[at] * share).sum::<f64>();
        let largest = (0..dimensions).map(element).fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        Some(axis.iter().map(|share| if largest < 0.0 { -share } else { *share }).collect())
    };
    let axes = [axis(0), axis(1)];
    let along = |row: &Vec<f64>, axis: &Option<Vec<f64>>| axis.as_ref().map_or(0.0, |axis| dot(row, axis));
    let share = |place: usize| match order.get(place) {
        Some(&at) if total > 0.0 => (values[at] / total).clamp(0.0, 1.0),
        _ => 0.0,
    };
    Plane {
        points: coordinates.iter().map(|row| [along(row, &axes[0]), along(row, &axes[1])]).collect(),
        explained: [share(0), share(1)],
    }
}

fn centred(row: &[f32], mean: &[f64]) -> Vec<f64> {
    row.iter().zip(mean).map(|(&element, mean)| f64::from(element) - mean).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram and Schmidt, twice, so that rounding leaves nothing. What depends on those before becomes zero.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for at in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(at);
        let vector = &mut rest[0];
        let length_before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(other, vector);
                vector.iter_mut().zip(other).for_each(|(element, other)| *element -= along * other);
            }
        }
        let length = dot(vector, vector).sqrt();
        let scale = if length > 1e-12 * length_before && length > 0.0 { 1.0 / length } else { 0.0 };
        vector.iter_mut().for_each(|element| *element *= scale);
    }
}

/// Eigenvalues of a symmetric matrix, and its eigenvectors as columns: Jacobi's rotations.
fn eigen(mut matrix: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> = (0..size).map(|i| (0..size).map(|j| f64::from(i == j)).collect()).collect();
    let diagonal: f64 = (0..size).map(|i| matrix[i][i].abs()).sum();
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..size {
            for q in p + 1..size {
                if matrix[p][q].abs() <= 1e-15 * diagonal {
                    continue;
                }
                rotated = true;
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
                let sine = tangent * cosine;
                for line in matrix.iter_mut().chain(vectors.iter_mut()) {
                    let (a, b) = (line[p], line[q]);
                    (line[p], line[q]) = (cosine * a - sine * b, sine * a + cosine * b);
                }
                let (upper, lower) = matrix.split_at_mut(q);
                for (first, second) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*first, *second) = (cosine * *first - sine * *second, sine * *first + cosine * *second);
                }
            }
        }
        if !rotated {
            break;
        }
    }
    ((0..size).map(|i| matrix[i][i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_scale::scaled;
    use proptest::prelude::*;

    fn plane(elements: &[f32], dimensions: usize) -> Plane {
        project(Rows::new(elements, dimensions), &mut || {})
    }

    /// Points of a plane that lies askew in a space of many dimensions, with a little noise around it.
    fn askew(count: usize, dimensions: usize, noise: f64) -> (Vec<[f64; 2]>, Vec<f32>) {
        let mut random = SplitMix(7);
        let mut axes: Vec<Vec<f64>> = (0..2).map(|_| (0..dimensions).map(|_| random.signed()).collect()).collect();
        orthonormalise(&mut axes);
        let flat: Vec<[f64; 2]> = (0..count).map(|_| [3.0 * random.signed(), random.signed()]).collect();
        let mut elements = Vec::new();
        for [x, y] in &flat {
            for (a, b) in axes[0].iter().zip(&axes[1]) {
                elements.push((5.0 + x * a + y * b + noise * random.signed()) as f32);
            }
        }
        (flat, elements)
    }

    #[test]
    fn distances_within_a_plane_are_kept() {
        const POINTS: usize = scaled(60, 12);
        const DIMENSIONS: usize = scaled(40, 6);
        let (flat, elements) = askew(POINTS, DIMENSIONS, 0.0);
        let found = plane(&elements, DIMENSIONS);
        let distance = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).hypot(a[1] - b[1]);
        for i in 0..POINTS {
            for j in 0..i {
                let error = distance(&flat[i], &flat[j]) - distance(&found.points[i], &found.points[j]);
                assert!(error.abs() < 1e-4, "{error}");
            }
        }
        assert!((found.explained[0] + found.explained[1] - 1.0).abs() < 1e-6);
        assert!(found.explained[0] > 3.0 * found.explained[1]);
    }

    #[test]
    fn noise_is_told_as_variance_that_is_not_shown() {
        const DIMENSIONS: usize = scaled(30, 8);
        let (_, elements) = askew(scaled(200, 20), DIMENSIONS, 0.3);
        let found = plane(&elements, DIMENSIONS);
        let shown = found.explained[0] + found.explained[1];
        assert!(shown > 0.6 && shown < 0.98, "{shown}");
        assert_eq!(found, plane(&elements, DIMENSIONS));
    }

    #[test]
    fn little_and_equal_vectors_have_points_too() {
        assert!(plane(&[], 3).points.is_empty());
        assert_eq!(plane(&[1.0, 2.0, 3.0], 3).points, [[0.0, 0.0]]);
        let equal = plane(&[0.5; 12], 3);
        assert_eq!((equal.points, equal.explained), (vec![[0.0, 0.0]; 4], [0.0, 0.0]));
        // One dimension has one axis.
        let line = plane(&[0.0, 1.0, 2.0], 1);
        assert!(line.points.iter().all(|point| point[1] == 0.0) && (line.explained[0] - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn any_vectors_give_finite_points_around_the_middle(
            elements in prop::collection::vec(-1e3f32..1e3, 0..scaled(120, 20)), dimensions in 1usize..9
        ) {
            let found = plane(&elements, dimensions);
            prop_assert_eq!(found.points.len(), elements.len() / dimensions);
            for axis in 0..2 {
                let sum: f64 = found.points.iter().map(|point| point[axis]).sum();
                prop_assert!(sum.abs() < 1e-3 * found.points.len().max(1) as f64, "{}", sum);
            }
            prop_assert!(found.explained.iter().all(|share| (0.0..=1.0).contains(share)));
        }
    }
}
