#!/usr/bin/env python3
"""Writes decoder_families/: a tiny model of random weights of every family of generation models, and its logits.

Usage:  make_decoder_families.py [FOLDER]

Needs the Python packages transformers, torch, tokenizers, gguf and numpy; nothing is downloaded. Each model is written
twice: as transformers saves it, and as a GGUF file with the names, row orders and numbers of llama.cpp's converters.
Weights are 0 or plus or minus a power of two, so that they are exact in every element type and the files compress
well. The logits are those of transformers in single precision. src/model/decoder/family_tests.rs compares pg_rag's decoder
with them.
"""

import gzip
import json
import math
import os
import sys
import tempfile
import zlib

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save as save_safetensors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = ["th", "the", "in", "an", "and"]
MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("a", "n"), ("an", "d")]
VOCABULARY = 256 + len(WORDS) + len(SPECIAL)
IDS = [(i * i * 7 + 13 * i + 5) % 250 for i in range(40)]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=VOCABULARY - 1,
    pad_token_id=None,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=32)
LONG = dict(
    rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 5.0], original_max_position_embeddings=24,
)
GEMMA3 = dict(
    sliding_attention=dict(rope_type="default", rope_theta=100.0),
    full_attention=dict(rope_type="linear", rope_theta=10000.0, factor=8.0),
)

# Name, configuration class, architecture in GGUF, element type, and what differs from SHAPE.
CASES = [
    ("llama", "Llama", "llama", "F32", dict(tie_word_embeddings=False)),
    ("llama_linear", "Llama", "llama", "F16",
     dict(attention_bias=True, mlp_bias=True, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.5))),
    ("llama3", "Llama", "llama", "BF16", dict(head_dim=32, tie_word_embeddings=True, rope_parameters=LLAMA3)),
    ("mistral", "Mistral", "llama", "F16", dict(sliding_window=7)),
    ("qwen2", "Qwen2", "qwen2", "BF16", dict(tie_word_embeddings=True, rope_parameters=YARN)),
    ("qwen3", "Qwen3", "qwen3", "F16", dict(head_dim=32, tie_word_embeddings=True)),
    ("gemma", "Gemma", "gemma", "BF16", dict(head_dim=32, num_key_value_heads=1)),
    ("gemma2", "Gemma2", "gemma2", "BF16",
     dict(head_dim=32, query_pre_attn_scalar=32, sliding_window=6, attn_logit_softcapping=1.5,
          final_logit_softcapping=3.0)),
    ("gemma3", "Gemma3Text", "gemma3", "BF16",
     dict(hidden_size=32, intermediate_size=64, num_hidden_layers=6, head_dim=16, query_pre_attn_scalar=16,
          sliding_window=5, rope_parameters=GEMMA3)),
    ("phi3", "Phi3", "phi3", "F16", dict(sliding_window=9)),
    ("phi3_long", "Phi3", "phi3", "F16",
     dict(partial_rotary_factor=0.75, rope_parameters=LONG, original_max_position_embeddings=24,
          max_position_embeddings=96)),
    ("smollm3", "SmolLM3", "smollm3", "BF16", dict(num_hidden_layers=4, intermediate_size=64)),
]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def fill(model, gemma):
    for name, parameter in model.named_parameters():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        numbers = random.choice([-2, 0, 0, 0, 0, 0, 2], size=tuple(parameter.shape))
        numbers = torch.tensor(numbers, dtype=torch.float32)
        if parameter.dim() == 1 and name.endswith("bias"):
            numbers *= 2.0**-2
        elif parameter.dim() == 1:
            numbers = numbers * 2.0**-3 + (0.0 if gemma else 1.0)
        else:
            numbers *= 2.0 ** (-4 if "embed" in name else -3)
        parameter.data.copy_(numbers)
    model.tie_weights()


def tokens():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return alphabet + WORDS + SPECIAL


def build_tokenizer():
    vocabulary = {token: index for index, token in enumerate(tokens()[: -len(SPECIAL)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def pack(path, contents):
    with open(path, "wb") as file:
        file.write(gzip.compress(contents, 9, mtime=0))


def permute(weights, heads):
    shape = weights.shape
    return weights.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def llama3_divisors(config, head_dim):
    rope = config["rope_parameters"]
    divisors = []
    for pair in range(head_dim // 2):
        wave = 2 * math.pi * rope["rope_theta"] ** (2 * pair / head_dim)
        original, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
        if wave < original / high:
            divisors.append(1.0)
        elif wave > original / low:
            divisors.append(rope["factor"])
        else:
            smooth = (original / wave - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(divisors, dtype=np.float32)


def write_gguf(path, name, architecture, config, state):
    writer = gguf.GGUFWriter(path, architecture)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    gemma = architecture.startswith("gemma")
    base = rope.get("full_attention", rope).get("rope_theta", config.get("rope_theta"))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(VOCABULARY)
    if base is not None:
        writer.add_rope_freq_base(base)
    if "head_dim" in config and config["head_dim"]:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture in ("llama", "smollm3", "phi3"):
        share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
        writer.add_rope_dimension_count(int(head_dim * share))
    if config.get("sliding_window") and name in ("mistral", "gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config["sliding_window"])
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture == "gemma3":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["full_attention"]["factor"])
        writer.add_float32("gemma3.rope.freq_base_swa", rope["sliding_attention"]["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config, head_dim))
    if rope.get("rope_type") == "longrope":
        original = rope["original_max_position_embeddings"]
        scale = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], dtype=np.float32))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens())
    writer.add_token_types([1] * (VOCABULARY - len(SPECIAL)) + [3] * len(SPECIAL))
    writer.add_token_merges([" ".join(merge) for merge in MERGES])
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    arch = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for own_name, weights in state.items():
        weights = weights.float().numpy()
        if architecture in ("llama", "smollm3"):
            if ".q_proj." in own_name:
                weights = permute(weights, heads)
            if ".k_proj." in own_name:
                weights = permute(weights, kv_heads)
        if gemma and own_name.endswith("norm.weight"):
            weights = weights + 1
        if weights.ndim > 1:
            weights = weights.astype(np.float16)
        writer.add_tensor(names.get_name(own_name, (".weight", ".bias")), np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def old_style(config):
    """The configuration as versions of transformers before 5 wrote it."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters", None) or {})
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    config["rope_theta"] = rope.pop("rope_theta", 10000.0)
    share = rope.pop("partial_rotary_factor", None)
    if share is not None:
        config["partial_rotary_factor"] = share
    kind = rope.pop("rope_type", "default")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return config


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "decoder_families")
    os.makedirs(folder, exist_ok=True)
    build_tokenizer().save(os.path.join(folder, "tokenizer.json"), pretty=False)
    cases = []
    for number, (name, family, architecture, element_type, changes) in enumerate(CASES):
        config = getattr(transformers, family + "Config")(**{**SHAPE, **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, family.replace("Gemma3Text", "Gemma3") + "ForCausalLM")(config).eval().float()
        fill(model, family.startswith("Gemma"))
        with torch.no_grad():
            lengths = [len(IDS), 20]
            logits = [model(torch.tensor([IDS[:length]])).logits[0].numpy() for length in lengths]
        saved = json.loads(config.to_json_string(use_diff=False))
        saved["architectures"] = [family + "ForCausalLM"]
        # Half of the families have the files of older versions.
        written = old_style(saved) if number % 2 else saved
        state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        if config.tie_word_embeddings:
            state.pop("lm_head.weight", None)
        exact = {key: value.to(DTYPES[element_type]) for key, value in state.items()}
        assert all(torch.equal(exact[key].float(), state[key]) for key in state), name
        pack(os.path.join(folder, name + ".safetensors.gz"), save_safetensors(exact))
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            write_gguf(file.name, name, architecture, saved, state)
            pack(os.path.join(folder, name + ".gguf.gz"), open(file.name, "rb").read())
        keep = lambda numbers: [round(float(number), 5) for number in numbers]
        cases.append({
            "name": name,
            "config": {key: value for key, value in written.items() if value is not None or key == "sliding_window"},
            "last_logits": keep(logits[0][-1]),
            "middle_logits": keep(logits[0][14][:40]),
            "short_logits": keep(logits[1][-1][:40]),
        })
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
        file.write(json.dumps({"ids": IDS, "middle": 14, "short": 20, "cases": cases}, separators=(",", ":")))
        file.write("\n")


if __name__ == "__main__":
    main()
