//! Guesses of the tokens to come, from the tokens there are (Saxena, "Prompt lookup decoding", 2023).
//!
//! Answers out of given texts repeat these, word by word in places. Where the last tokens have occurred before, those that
//! followed are a guess at what follows now. A pass over the last token and the guess tells, for little more than the last
//! token alone would cost, how far it was right; the tokens are the same as without guesses.

/// Lengths of the ends that are looked up: longer ones first, as they promise more.
const ENDS: [usize; 2] = [3, 2];

/// Most tokens of a guess: with the token before it, what the kernels multiply at a time.
pub const MOST_TOKENS: usize = 7;

/// Tokens of a guess to begin with.
const FIRST_TOKENS: usize = 3;

/// What a token of a guess costs, in tokens: the part of a pass that a further token adds.
const COST: f32 = 0.3;

/// Loss, in tokens, after which guessing pauses.
const PATIENCE: f32 = 2.0;

/// Tokens of the first pause; each further one is twice as long, up to the last.
const PAUSES: [usize; 2] = [16, 256];

/// Makes guesses for one sequence, and none where they do not pay.
pub struct Speculation {
    /// Tokens of the next guess at most: as many as the last ones had right, and a bit more.
    tokens: usize,
    /// Tokens gained, lately, less what guesses cost; never more than one pass can gain.
    gain: f32,
    pause: usize,
    next_pause: usize,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { tokens: FIRST_TOKENS, gain: 0.0, pause: 0, next_pause: PAUSES[0] }
    }
}

impl Speculation {
    /// Appends to `out` at most `most` tokens that may follow `tokens`.
    pub fn guess(&mut self, tokens: &[u32], most: usize, out: &mut Vec<u32>) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let most = most.min(self.tokens);
        for len in ENDS {
            let Some(start) = tokens.len().checked_sub(len) else { continue };
            let end = &tokens[start..];
            // The latest occurrence that is not the end itself.
            let found = tokens[..tokens.len() - 1].windows(len).rposition(|window| window == end);
            if let Some(at) = found {
                let follows = &tokens[at + len..];
                out.extend_from_slice(&follows[..most.min(follows.len())]);
                return;
            }
        }
    }

    /// Learns that of `guessed` tokens the first `right` were so.
    pub fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        self.tokens = if right == guessed { (2 * guessed).min(MOST_TOKENS) } else { (right + 1).min(MOST_TOKENS) };
        self.gain = (self.gain + right as f32 - COST * guessed as f32).min(MOST_TOKENS as f32);
        if self.gain < -PATIENCE {
            (self.gain, self.tokens) = (0.0, FIRST_TOKENS);
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSES[1]);
        } else if right == MOST_TOKENS {
            self.next_pause = PAUSES[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(speculation: &mut Speculation, tokens: &[u32], most: usize) -> Vec<u32> {
        let mut out = Vec::new();
        speculation.guess(tokens, most, &mut out);
        out
    }

    #[test]
    fn the_latest_and_longest_match_is_continued() {
        let mut speculation = Speculation::default();
        assert_eq!(guess(&mut speculation, &[1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 1, 2, 3], 9), [4, 5, 9]);
        assert_eq!(guess(&mut speculation, &[1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 0, 2, 3], 2), [7, 8]);
        assert_eq!(guess(&mut speculation, &[5, 5, 5, 5], 9), [5]);
        for none in [&[1, 2, 3, 4][..], &[1, 2], &[1], &[]] {
            assert!(guess(&mut speculation, none, 9).is_empty());
        }
    }

    #[test]
    fn guesses_grow_when_right_and_stop_when_they_do_not_pay() {
        let tokens: Vec<u32> = (0..20).chain(0..3).collect();
        let mut speculation = Speculation::default();
        assert_eq!(guess(&mut speculation, &tokens, 20).len(), 3);
        speculation.learn(3, 3);
        speculation.learn(6, 6);
        assert_eq!(guess(&mut speculation, &tokens, 20).len(), MOST_TOKENS);
        let mut wrong = 0;
        while speculation.pause == 0 {
            let guessed = guess(&mut speculation, &tokens, 20).len();
            speculation.learn(guessed, 0);
            wrong += 1;
            assert!(wrong < 100, "guesses that are always wrong go on");
        }
        let silent = (0..1000).take_while(|_| guess(&mut speculation, &tokens, 20).is_empty()).count();
        assert_eq!(silent, PAUSES[0]);
    }
}
