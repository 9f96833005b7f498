//! `adapter_config.json`: how strong an adapter is, and whether it is of a kind that can be applied here.

use crate::error::{ModelError, Result};
use serde_json::Value;
use std::path::Path;

/// File names of an adapter's folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// A pickle, which runs code when it is read.
pub const PICKLE_FILE: &str = "adapter_model.bin";

/// Ranks beyond this are no adapter.
const MOST_RANK: u64 = 4096;

const MOST_BYTES: u64 = 1 << 20;

/// Options that change what an adapter computes, and are not known here. Each must be absent, null, false or empty.
const UNSUPPORTED: [&str; 14] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "lora_bias",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "megatron_config",
];

/// The parts of an adapter's configuration that matter here. `fan_in_fan_out` does not: it says how the base's weights
/// lie, and the two factors lie the same way always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterConfig {
    pub rank: usize,
    /// What the product of the factors is multiplied with.
    pub scale: f32,
}

impl AdapterConfig {
    /// Reads the configuration in an adapter's folder.
    ///
    /// Errors: `Missing`, `Unreadable`, `Corrupt`; `Unsupported` naming the option.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG_FILE);
        let length = std::fs::metadata(&path).map_err(|error| ModelError::from_io(&path, error))?.len();
        if length > MOST_BYTES {
            return Err(ModelError::corrupt(&path, format!("file of {length} bytes is not a configuration")));
        }
        let bytes = std::fs::read(&path).map_err(|error| ModelError::from_io(&path, error))?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(&path, error))?;
        Self::from_json(&path, &json)
    }

    fn from_json(path: &Path, json: &Value) -> Result<Self> {
        let unsupported = |key: &str| {
            Err(ModelError::Unsupported(format!(
                "adapter with option \"{key}\": {}",
                json.get(key).unwrap_or(&Value::Null)
            )))
        };
        match json["peft_type"].as_str() {
            Some("LORA") => {}
            _ => return unsupported("peft_type"),
        }
        if !matches!(&json["bias"], Value::Null) && json["bias"].as_str() != Some("none") {
            return unsupported("bias");
        }
        let empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(values) => values.is_empty(),
            Value::Object(values) => values.is_empty(),
            _ => false,
        };
        if let Some(key) = UNSUPPORTED.iter().find(|key| !empty(&json[**key])) {
            return unsupported(key);
        }
        let rank = match json["r"].as_u64() {
            Some(rank @ 1..=MOST_RANK) => rank as usize,
            _ => return Err(ModelError::corrupt(path, format!("\"r\" is {}", json["r"]))),
        };
        let alpha = json["lora_alpha"].as_f64().map(|alpha| alpha as f32).filter(|alpha| alpha.is_finite());
        let alpha =
            alpha.ok_or_else(|| ModelError::corrupt(path, format!("\"lora_alpha\" is {}", json["lora_alpha"])))?;
        let divisor = if json["use_rslora"].as_bool() == Some(true) { (rank as f32).sqrt() } else { rank as f32 };
        Ok(Self { rank, scale: alpha / divisor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(changes: Value) -> Result<AdapterConfig> {
        let mut config = json!({
            "peft_type": "LORA", "r": 16, "lora_alpha": 8, "bias": "none", "fan_in_fan_out": false, "use_rslora": false,
            "use_dora": false, "modules_to_save": null, "rank_pattern": {}, "target_modules": ["q_proj"],
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        AdapterConfig::from_json(Path::new("adapter_config.json"), &config)
    }

    #[test]
    fn the_scale_is_that_of_peft() {
        assert_eq!(read(json!({})).unwrap(), AdapterConfig { rank: 16, scale: 0.5 });
        assert_eq!(read(json!({"use_rslora": true})).unwrap().scale, 2.0);
        assert_eq!(read(json!({"fan_in_fan_out": true})).unwrap().scale, 0.5);
    }

    #[test]
    fn what_cannot_be_applied_is_named() {
        for (changes, named) in [
            (json!({"use_dora": true}), "use_dora"),
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"bias": "all"}), "bias"),
            (json!({"modules_to_save": ["lm_head"]}), "lm_head"),
            (json!({"rank_pattern": {"q_proj": 4}}), "rank_pattern"),
            (json!({"layer_replication": [[0, 4]]}), "layer_replication"),
        ] {
            match read(changes) {
                Err(ModelError::Unsupported(message)) => assert!(message.contains(named), "{message}"),
                other => panic!("{other:?}"),
            }
        }
        for changes in [json!({"r": 0}), json!({"r": "4"}), json!({"r": 1e9}), json!({"lora_alpha": null})] {
            assert!(matches!(read(changes), Err(ModelError::Corrupt { .. })));
        }
    }
}
