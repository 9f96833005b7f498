//! Grouping texts into batches for one forward pass each.
//!
//! The encoder packs texts without padding, so a batch costs what its tokens cost; a batch is bounded by tokens, which
//! bounds the memory of a pass and the time until the scheduler can look at its queue again. Called by whoever has
//! all texts at hand, as the benchmarks do; the server's queue fills its batches as requests arrive.

/// Distributes texts of the given lengths over batches of at most `max_batch_tokens` tokens.
///
/// Returns indexes into `lengths`; every index occurs exactly once. Texts are taken from the shortest to the longest
/// (equal lengths in order), so texts of similar length share a batch and no short one waits behind the long ones. A
/// text longer than the bound gets a batch of its own.
pub fn plan_batches(lengths: &[usize], max_batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut batch: Vec<usize> = Vec::new();
    let mut batch_tokens = 0_usize;
    for index in order {
        if !batch.is_empty() && batch_tokens.saturating_add(lengths[index]) > max_batch_tokens {
            batches.push(std::mem::take(&mut batch));
            batch_tokens = 0;
        }
        batch_tokens = batch_tokens.saturating_add(lengths[index]);
        batch.push(index);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::plan_batches;
    use proptest::prelude::*;

    #[test]
    fn similar_lengths_share_a_batch() {
        assert_eq!(plan_batches(&[100, 3, 90, 4], 100), vec![vec![1, 3, 2], vec![0]]);
    }

    #[test]
    fn a_text_longer_than_the_bound_is_alone() {
        assert_eq!(plan_batches(&[5, 500, 600], 100), vec![vec![0], vec![1], vec![2]]);
    }

    #[test]
    fn nothing_to_plan_is_no_batch() {
        assert!(plan_batches(&[], 100).is_empty());
    }

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_batches_respect_the_bound(
            lengths in prop::collection::vec(0_usize..300, 0..100),
            max_batch_tokens in 1_usize..1000,
        ) {
            let batches = plan_batches(&lengths, max_batch_tokens);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for batch in batches {
                let tokens: usize = batch.iter().map(|&index| lengths[index]).sum();
                prop_assert!(batch.len() == 1 || tokens <= max_batch_tokens);
            }
        }
    }
}
