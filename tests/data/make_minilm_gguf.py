#!/usr/bin/env python3
"""Writes all-MiniLM-L6-v2 as one GGUF file in single precision, with the names and keys of llama.cpp's converters.

Usage:  make_minilm_gguf.py FOLDER_OF_THE_MODEL OUTPUT

Needs the Python packages gguf, numpy and safetensors; nothing is downloaded. tests/cluster/tests/remote.rs lets
llama-cpp-python serve the file, so that vectors of a server of other people are compared with pg_rag's own.
"""

import json
import os
import sys

import gguf
from safetensors.numpy import load_file

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def gguf_name(name):
    """The tensor's name in GGUF, or None of one that makes no vector of a text."""
    if name == "embeddings.position_ids" or name.startswith("pooler."):
        return None
    stem, end = name.rsplit(".", 1)
    prefix = ""
    if stem.startswith("encoder.layer."):
        _, _, layer, stem = stem.split(".", 3)
        prefix = f"blk.{layer}."
    return f"{prefix}{NAMES[stem]}.{end}"


def spelling(token):
    """A token as llama.cpp spells it: what begins a word is marked instead of what goes on with one."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def main(folder, output):
    config = json.load(open(os.path.join(folder, "config.json")))
    tokens = open(os.path.join(folder, "vocab.txt"), encoding="utf-8").read().splitlines()
    assert config["model_type"] == "bert" and len(tokens) == config["vocab_size"]
    control = [token.startswith("[") and token.endswith("]") and len(token) > 2 for token in tokens]

    writer = gguf.GGUFWriter(output, "bert")
    writer.add_name(os.path.basename(os.path.normpath(folder)))
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_token_list([spelling(token) for token in tokens])
    writer.add_token_types([gguf.TokenType.CONTROL if is_control else gguf.TokenType.NORMAL for is_control in control])
    for token, add in [
        ("[CLS]", writer.add_bos_token_id),
        ("[SEP]", writer.add_sep_token_id),
        ("[UNK]", writer.add_unk_token_id),
        ("[PAD]", writer.add_pad_token_id),
        ("[MASK]", writer.add_mask_token_id),
    ]:
        add(tokens.index(token))

    for name, tensor in load_file(os.path.join(folder, "model.safetensors")).items():
        if (to := gguf_name(name)) is not None:
            writer.add_tensor(to, tensor.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
