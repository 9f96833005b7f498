//! Choosing the next token from the logits.

use crate::error::{ModelError, Result};
use pg_rag_protocol::message::GenerateParams;

/// Tokens that the repeat penalty looks back at, the prompt's included.
const PENALTY_TOKENS: usize = 64;

/// Chooses tokens; deterministic for the same parameters, seed and history.
///
/// In this order: repeat penalty (Keskar et al., "CTRL", 2019); the most probable token if the temperature is 0;
/// otherwise temperature, top-k, top-p (Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020) and a
/// random draw.
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    top_k: usize,
    repeat_penalty: f32,
    random: SplitMix64,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    /// Logit first, then the probability relative to the best candidate's.
    weight: f32,
}

impl Candidate {
    /// The more probable first; equal ones in the order of their ids, so that the choice does not depend on a sort.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.weight.total_cmp(&self.weight).then(self.id.cmp(&other.id))
    }
}

impl Sampler {
    /// Errors: `InvalidArgument` for numbers outside their range.
    pub fn new(params: &GenerateParams) -> Result<Self> {
        let check = |valid: bool, name: &str, range: &str| match valid {
            true => Ok(()),
            false => Err(ModelError::InvalidArgument(format!("\"{name}\" must be {range}"))),
        };
        let penalty = params.repeat_penalty;
        check(params.temperature.is_finite() && params.temperature >= 0.0, "temperature", "0 or more")?;
        check(params.top_p > 0.0 && params.top_p <= 1.0, "top_p", "more than 0 and at most 1")?;
        check(penalty.is_finite() && penalty > 0.0, "repeat_penalty", "more than 0")?;
        Ok(Self {
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: usize::try_from(params.top_k).unwrap_or(usize::MAX),
            repeat_penalty: penalty,
            random: SplitMix64(params.seed),
            candidates: Vec::new(),
        })
    }

    /// Whether the most probable token is chosen always.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// The next token after `history`. Changes `logits` by the penalty.
    ///
    /// Errors: `Internal` when no logit is a number, which weights of nonsense can lead to.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32> {
        self.penalize(logits, &history[history.len().saturating_sub(PENALTY_TOKENS)..]);
        let best = best(logits).ok_or_else(|| ModelError::Internal("model gave no finite logit".into()))?;
        if self.temperature == 0.0 {
            return Ok(best.id);
        }
        let top = best.weight;
        self.candidates.clear();
        let all = logits.iter().zip(0..).map(|(&weight, id)| Candidate { id, weight });
        self.candidates.extend(all.filter(|candidate| candidate.weight.is_finite()));
        if self.top_k > 0 && self.top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(self.top_k - 1, Candidate::order);
            self.candidates.truncate(self.top_k);
        }
        let mut total = 0.0;
        for candidate in &mut self.candidates {
            candidate.weight = ((candidate.weight - top) / self.temperature).exp();
            total += f64::from(candidate.weight);
        }
        if self.top_p < 1.0 {
            total = self.keep_nucleus(total);
        }
        Ok(self.draw(total, best.id))
    }

    fn penalize(&self, logits: &mut [f32], recent: &[u32]) {
        if self.repeat_penalty == 1.0 {
            return;
        }
        for (index, &id) in recent.iter().enumerate() {
            if recent[..index].contains(&id) {
                continue;
            }
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = if *logit > 0.0 { *logit / self.repeat_penalty } else { *logit * self.repeat_penalty };
            }
        }
    }

    /// Keeps the most probable candidates until they have `top_p` of the weight, and returns their weight.
    ///
    /// Candidates below `(1 - top_p) / n` of the weight have less than `1 - top_p` together, so the set is reached
    /// without them: they go before the sort, which leaves few to be sorted.
    fn keep_nucleus(&mut self, total: f64) -> f64 {
        let threshold = total * (1.0 - f64::from(self.top_p)) / self.candidates.len() as f64;
        self.candidates.retain(|candidate| f64::from(candidate.weight) >= threshold);
        self.candidates.sort_unstable_by(Candidate::order);
        let mut kept = 0.0;
        let wanted = total * f64::from(self.top_p);
        let reached = self.candidates.iter().position(|candidate| {
            kept += f64::from(candidate.weight);
            kept >= wanted
        });
        if let Some(last) = reached {
            self.candidates.truncate(last + 1);
        }
        kept
    }

    fn draw(&mut self, total: f64, best: u32) -> u32 {
        let mut left = self.random.next_unit() * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Rounding can leave a trifle behind the last candidate.
        best
    }
}

/// The largest finite logit, the first of equal ones.
fn best(logits: &[f32]) -> Option<Candidate> {
    let largest = largest_finite(logits);
    let id = logits.iter().position(|&logit| logit == largest).filter(|_| largest.is_finite())?;
    Some(Candidate { id: id as u32, weight: largest })
}

/// The largest finite number, or negative infinity.
fn largest_finite(numbers: &[f32]) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &number) in lanes.iter_mut().zip(chunk) {
            // Comparisons with a number that is none are false.
            *lane = if number > *lane && number < f32::INFINITY { number } else { *lane };
        }
    }
    let finite = rest.iter().copied().filter(|&number| number < f32::INFINITY);
    finite.chain(lanes).fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

/// Small seeded generator (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn next_unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> GenerateParams {
        GenerateParams {
            max_tokens: 1,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            repeat_penalty: 1.0,
            seed: 7,
            stop: Vec::new(),
            whole_sentences: false,
            json_schema: None,
        }
    }

    fn counts(params: &GenerateParams, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(params).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(&mut logits.to_vec(), &[]).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.1_f32.ln(), 0.6_f32.ln(), 0.3_f32.ln()];
        let counts = counts(&params(), &logits, 10_000);
        for (count, want) in counts.iter().zip([1000.0, 6000.0, 3000.0]) {
            assert!((*count as f64 - want).abs() < 200.0, "{counts:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_drop_the_improbable() {
        let logits: Vec<f32> = [0.05_f32, 0.4, 0.05, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let top_k = counts(&GenerateParams { top_k: 2, ..params() }, &logits, 2000);
        assert!(top_k[1] > 0 && top_k[3] > 0 && top_k[0] + top_k[2] + top_k[4] == 0, "{top_k:?}");
        let top_p = counts(&GenerateParams { top_p: 0.8, ..params() }, &logits, 2000);
        assert!(top_p[1] > 0 && top_p[3] > 0 && top_p[4] > 0 && top_p[0] + top_p[2] == 0, "{top_p:?}");
        let one = counts(&GenerateParams { top_p: 0.01, ..params() }, &logits, 100);
        assert_eq!(one[1], 100);
    }

    #[test]
    fn temperature_zero_takes_the_first_best() {
        let greedy = GenerateParams { temperature: 0.0, ..params() };
        assert_eq!(counts(&greedy, &[f32::NAN, 1.0, 3.0, 3.0, f32::INFINITY], 5)[2], 5);
    }

    #[test]
    fn equal_seeds_give_equal_draws_and_others_do_not() {
        let logits = [0.0; 1000];
        let draw = |seed| {
            let mut sampler = Sampler::new(&GenerateParams { seed, ..params() }).unwrap();
            (0..8).map(|_| sampler.sample(&mut logits.to_vec(), &[]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn penalty_counts_each_of_the_last_64_tokens_once() {
        let mut sampler = Sampler::new(&GenerateParams { temperature: 0.0, repeat_penalty: 2.0, ..params() }).unwrap();
        let mut logits = vec![4.0, -1.0, 2.5, 3.0];
        let mut history = vec![3];
        history.extend([0, 0, 1].iter().cycle().take(64));
        assert_eq!(sampler.sample(&mut logits, &history).unwrap(), 3);
        assert_eq!(logits, [2.0, -2.0, 2.5, 3.0]);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Sampler::new(&params()).unwrap().sample(&mut [f32::NAN; 4], &[]).is_err());
        for bad in [
            GenerateParams { temperature: -1.0, ..params() },
            GenerateParams { top_p: 0.0, ..params() },
            GenerateParams { top_p: f32::NAN, ..params() },
            GenerateParams { repeat_penalty: 0.0, ..params() },
        ] {
            assert!(matches!(Sampler::new(&bad), Err(ModelError::InvalidArgument(_))), "{bad:?}");
        }
    }
}
