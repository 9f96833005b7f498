//! From the token vectors of a text to the text's vector.

use super::modules::Pooling;

/// Writes the vector of one text to `result`: `hidden` numbers for each of `modes`, together scaled to length 1 if
/// `normalize`.
///
/// `rows` is `[tokens, hidden]`. A text without tokens gives zeros, and zeros cannot be scaled.
pub fn pool_rows(rows: &[f32], hidden: usize, modes: &[Pooling], normalize: bool, result: &mut [f32]) {
    result.fill(0.0);
    if !rows.is_empty() {
        for (mode, target) in modes.iter().zip(result.chunks_exact_mut(hidden)) {
            pool_into(rows, hidden, *mode, target);
        }
    }
    if normalize {
        self::normalize(result);
    }
}

/// Scales a vector to length 1.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    // The guard that torch.nn.functional.normalize uses.
    let scale = 1.0 / length.max(1e-12);
    vector.iter_mut().for_each(|value| *value *= scale);
}

/// `rows` has at least one row; `target` is zero.
fn pool_into(rows: &[f32], hidden: usize, mode: Pooling, target: &mut [f32]) {
    let tokens = rows.len() / hidden;
    match mode {
        Pooling::Cls => target.copy_from_slice(&rows[..hidden]),
        Pooling::LastToken => target.copy_from_slice(&rows[(tokens - 1) * hidden..]),
        Pooling::Max => {
            target.copy_from_slice(&rows[..hidden]);
            for row in rows.chunks_exact(hidden) {
                target.iter_mut().zip(row).for_each(|(best, value)| *best = best.max(*value));
            }
        }
        Pooling::Mean => weigh(rows, target, |_| 1.0, tokens as f32),
        Pooling::MeanSqrtLength => weigh(rows, target, |_| 1.0, (tokens as f32).sqrt()),
        Pooling::WeightedMean => weigh(rows, target, |row| (row + 1) as f32, (tokens * (tokens + 1) / 2) as f32),
    }
}

/// target ← sum of weight(i) · row i, divided by `divisor`
fn weigh(rows: &[f32], target: &mut [f32], weight: impl Fn(usize) -> f32, divisor: f32) {
    for (index, row) in rows.chunks_exact(target.len()).enumerate() {
        let weight = weight(index);
        target.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
    }
    target.iter_mut().for_each(|sum| *sum /= divisor);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [f32; 8] = [1.0, -2.0, 3.0, 4.0, 0.0, 1.0, 8.0, 5.0];

    fn pooled(mode: Pooling) -> Vec<f32> {
        let mut output = vec![7.0; 2];
        pool_rows(&ROWS, 2, &[mode], false, &mut output);
        output
    }

    #[test]
    fn modes_do_what_they_are_called() {
        assert_eq!(pooled(Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pooled(Pooling::LastToken), [8.0, 5.0]);
        assert_eq!(pooled(Pooling::Max), [8.0, 5.0]);
        assert_eq!(pooled(Pooling::Mean), [3.0, 2.0]);
        assert_eq!(pooled(Pooling::MeanSqrtLength), [6.0, 4.0]);
        assert_eq!(pooled(Pooling::WeightedMean), [3.9, 2.9]);
    }

    #[test]
    fn several_modes_are_concatenated_and_scaled_together() {
        let mut output = [7.0; 4];
        pool_rows(&[3.0, 0.0], 2, &[Pooling::Cls, Pooling::Max], true, &mut output);
        let expected = [0.5_f32.sqrt(), 0.0, 0.5_f32.sqrt(), 0.0];
        assert!(output.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{output:?}");
    }

    #[test]
    fn no_tokens_give_zeros() {
        let mut output = [7.0; 3];
        pool_rows(&[], 3, &[Pooling::Mean], true, &mut output);
        assert_eq!(output, [0.0; 3]);
    }
}
