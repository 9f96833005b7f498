//! The passes of a device (a GPU where there is one, else candle's processor device): against the logits of an independent
//! implementation (the fixtures of tests/data/make_decoder_families.py) and against the processor's own passes.

use super::super::family_tests::{fixtures, unpacked, Case, Fixtures, Folder};
use super::super::tests::{model_path, some_ids};
use super::*;
use crate::accelerator::testing::{accelerator, device};
use crate::compute::Pool;
use crate::decoder::Decoder;
use crate::quantize::file_tests::{data, quantised, reference};
use std::path::Path;

/// Keys and values are kept as f16, as on the processor, and nothing else is rounded in a model of f32.
const TOLERANCE: f32 = 0.015;

/// Of models of bf16: a GPU has rows and products of that type, which candle's processor device does not multiply.
fn tolerance_of_folders() -> f32 {
    on_a_gpu(0.06, TOLERANCE)
}

/// A limit on a GPU, whose kernels round in another way, and one on candle's processor device.
fn on_a_gpu(limit: f32, otherwise: f32) -> f32 {
    if device().is_cpu() {
        otherwise
    } else {
        limit
    }
}

pub fn load(path: &Path) -> Decoder {
    Decoder::load_on(path, Some(&accelerator())).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn network(model: &Decoder) -> &AcceleratedNetwork {
    model.accelerated.as_ref().unwrap()
}

pub fn cache(model: &Decoder, capacity: usize) -> AcceleratedCache {
    AcceleratedCache::new(&model.network.config, capacity)
}

/// Logits of all tokens, which come behind those in the cache.
pub fn run(model: &Decoder, cache: &mut AcceleratedCache, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    let part = Run { cache, tokens, wanted: tokens.len() };
    assert!(network(model).pass(&mut [part], &mut logits, &|| false).unwrap());
    logits.chunks_exact(model.vocab_size()).map(<[f32]>::to_vec).collect()
}

/// Logits of all tokens of a sequence that is read in slices, into a cache for `capacity` tokens.
fn logits(model: &Decoder, ids: &[u32], slices: &[usize], capacity: usize) -> Vec<Vec<f32>> {
    let mut cache = cache(model, capacity);
    let (mut all, mut rest, mut lengths) = (Vec::new(), ids, slices.iter().cycle());
    while !rest.is_empty() {
        let (tokens, later) = rest.split_at((*lengths.next().unwrap()).min(rest.len()));
        all.extend(run(model, &mut cache, tokens));
        rest = later;
    }
    all
}

/// Largest difference.
pub fn distance(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
}

fn check(fixtures: &Fixtures, case: &Case, model: &Decoder, kind: &str, tolerance: f32) {
    let Fixtures { ids, middle, short, .. } = fixtures;
    let expect = |got: &[f32], want: &[f32], what: &str| {
        let worst = distance(&got[..want.len()], want);
        assert!(worst < tolerance, "{} ({kind}), {what}: off by {worst}", case.name);
    };
    for slices in [&[40][..], &[7], &[1], &[30, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
        let got = logits(model, ids, slices, ids.len());
        expect(&got[ids.len() - 1], &case.last_logits, &format!("last token, by {slices:?}"));
        // Those of a position in the middle are not those of a sequence that is short.
        if model.network.config.long_from().is_none() {
            expect(&got[*middle], &case.middle_logits, &format!("token {middle}, by {slices:?}"));
        }
    }
    let got = logits(model, &ids[..*short], &[9], *short);
    expect(&got[short - 1], &case.short_logits, "short text");
}

#[test]
fn every_family_gives_the_logits_of_the_reference() {
    let fixtures = fixtures();
    assert_eq!(fixtures.cases.len(), 12);
    for case in &fixtures.cases {
        let folder = Folder::safetensors(&case.name, &case.config);
        check(&fixtures, case, &load(&folder.0), "safetensors", tolerance_of_folders());
        let folder = Folder::gguf(&unpacked(&format!("{}.gguf.gz", case.name)));
        check(&fixtures, case, &load(&folder.0), "GGUF", TOLERANCE);
    }
}

#[test]
fn every_family_gives_the_logits_of_the_processor() {
    let fixtures = fixtures();
    let pool = Pool::new(2).unwrap();
    for case in &fixtures.cases {
        let folder = Folder::safetensors(&case.name, &case.config);
        let model = load(&folder.0);
        // The same decoder has both; this is the processor's.
        let want = model.all_logits(&pool, &fixtures.ids);
        let got = logits(&model, &fixtures.ids, &[11], fixtures.ids.len());
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let worst = distance(got, want);
            assert!(worst < tolerance_of_folders(), "{}: logits of {at} are off by {worst}", case.name);
        }
    }
}

#[test]
fn blocks_of_every_kind_give_about_the_logits_of_the_processor() {
    let (folder, pool, ids) = (crate::quantize::file_tests::Folder::new(), Pool::new(2).unwrap(), reference().ids);
    // Devices round rows to 8 bits where the processor keeps 15, and weights of random numbers make the most of every error.
    // Kernels for GPUs do not see to it that what they round off adds up to nothing.
    let blocks = on_a_gpu(0.25, 0.12);
    for (kind, limit) in [
        ("q4_0", blocks),
        ("q4_1", blocks),
        ("q5_0", blocks),
        ("q5_1", blocks),
        ("q8_0", 0.12),
        ("f16", 0.005),
        ("bf16", on_a_gpu(0.15, 0.005)),
    ] {
        let model = load(&quantised(&data("tiny_llama"), kind, &folder));
        let want = model.all_logits(&pool, &ids);
        let got = logits(&model, &ids, &[5], ids.len());
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let off = crate::quantize::file_tests::difference(got, want);
            assert!(off < limit, "{kind}: logits of {at} are off by {off}");
        }
    }
}

#[test]
fn the_real_model_gives_about_the_logits_of_the_processor() {
    let (model, pool) = (load(&model_path()), Pool::new(2).unwrap());
    let ids = some_ids(90);
    let want = model.all_logits(&pool, &ids);
    let got = logits(&model, &ids, &[64, 1, 7], ids.len());
    let same = got.iter().zip(&want).filter(|(got, want)| best(got) == best(want)).count();
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        // The second token is on an edge; see the tests against candle.
        let off = crate::quantize::file_tests::difference(got, want);
        assert!(off < on_a_gpu(0.3, 0.1) || at <= 1, "logits of {at} are off by {off}");
    }
    assert!(same * 10 >= ids.len() * 9, "the most probable token is the same for {same} of {}", ids.len());
}

/// The most probable token.
pub fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
}
