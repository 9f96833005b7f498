//! Folders that are not adapters of a base are refused, and told why.

use super::*;

/// The shape of tests/data/tiny_llama, or another one.
struct Shape {
    layers: usize,
    hidden: usize,
}

impl Base for Shape {
    fn layers(&self) -> usize {
        self.layers
    }

    fn shape(&self, target: Target) -> (usize, usize) {
        match target {
            Target::Q | Target::AttentionOutput => (self.hidden, self.hidden),
            Target::K | Target::V => (self.hidden / 2, self.hidden),
            Target::Gate | Target::Up => (2 * self.hidden, self.hidden),
            Target::Down => (self.hidden, 2 * self.hidden),
        }
    }
}

const TINY: Shape = Shape { layers: 2, hidden: 64 };

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

#[test]
fn factors_are_read_for_the_matrices_that_have_them() {
    let adapter = AdapterFiles::open(&data("tiny_llama_lora")).unwrap();
    let factors = adapter.load(&TINY).unwrap();
    let targets: Vec<(usize, Target)> = factors.keys().copied().collect();
    let four = [Target::Q, Target::K, Target::V, Target::AttentionOutput];
    assert_eq!(targets, [0, 1].iter().flat_map(|layer| four.map(|target| (*layer, target))).collect::<Vec<_>>());
    let k = &factors[&(1, Target::K)];
    assert_eq!((k.rank, k.a.len(), k.b.len()), (4, 4 * 64, 32 * 4));
    assert_eq!(adapter.parameters(), 2 * 4 * (64 + 64 + 64 + 32 + 64 + 32 + 64 + 64));
}

#[test]
fn an_adapter_of_another_base_is_refused() {
    let adapter = AdapterFiles::open(&data("tiny_llama_lora")).unwrap();
    for (shape, reason) in [(Shape { layers: 1, hidden: 64 }, "layer"), (Shape { layers: 2, hidden: 96 }, "shape")] {
        match adapter.load(&shape) {
            Err(ModelError::Corrupt { reason: found, .. }) => assert!(found.contains(reason), "{found}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_pickle_is_refused_and_an_incomplete_folder_too() {
    let dir = std::env::temp_dir().join(format!("pg_rag_adapter_{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    assert!(matches!(AdapterFiles::open(&dir), Err(ModelError::Missing(path)) if path.ends_with(CONFIG_FILE)));
    std::fs::copy(data("tiny_llama_lora").join(CONFIG_FILE), dir.join(CONFIG_FILE)).unwrap();
    assert!(matches!(AdapterFiles::open(&dir), Err(ModelError::Missing(path)) if path.ends_with(WEIGHTS_FILE)));
    std::fs::write(dir.join("adapter_model.bin"), "").unwrap();
    match AdapterFiles::open(&dir) {
        Err(ModelError::Unsupported(message)) => assert!(message.contains("pickle"), "{message}"),
        other => panic!("{:?}", other.err()),
    }
    let whole = std::fs::read(data("tiny_llama_lora").join(WEIGHTS_FILE)).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        std::fs::write(dir.join(WEIGHTS_FILE), &whole[..length]).unwrap();
        assert!(matches!(AdapterFiles::open(&dir), Err(ModelError::Corrupt { .. })), "{length}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn only_factors_of_known_matrices_have_a_place() {
    let name = |rest: &str| format!("base_model.model.model.layers.{rest}");
    assert_eq!(parse(&name("3.mlp.up_proj.lora_B.weight")), Some((3, Target::Up, name("3.mlp.up_proj").as_str())));
    for other in [
        name("3.mlp.up_proj.lora_magnitude_vector"),
        name("x.mlp.up_proj.lora_A.weight"),
        name("3.mlp.experts.lora_A.weight"),
        "base_model.model.lm_head.lora_A.weight".to_owned(),
    ] {
        assert_eq!(parse(&other), None, "{other}");
    }
}
