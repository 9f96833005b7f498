#!/usr/bin/env python3
"""Writes smollm2_tokens.json: token ids and logits of SmolLM2-135M-Instruct, computed independently of pg_rag.

Usage:  make_smollm2_tokens.py FILE.gguf [OUTPUT]

Needs the Python packages gguf, tokenizers and numpy; nothing is downloaded. The tokenizer is built from the vocabulary
and merges in the GGUF file (digits one by one, then byte-level BPE as in GPT-2); the logits come from a plain numpy
forward pass over the dequantised weights. src/model/decoder/tests.rs compares pg_rag's decoder with the result.
"""

import json
import os
import sys

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXTS = [
    "",
    "Hello, world!",
    " leading and trailing \n",
    "How do I create a partial index?",
    "year 2024, 3.14159 and 1e-9",
    "It's what they'll say: we've DONE'it",
    "Ünïcödé naïve café Łódź",
    "数据库中的向量索引 データベース",
    "Emoji 🐘🚀 👩‍👩‍👧",
    "Быстрая лисица. שלום עולם",
    "fn main() {\n    let x = 1;\n\n\n\tprintln!(\"{x:?}\");\n}\r\n",
    "a" * 70 + "   " + "_" * 20,
    "tabs\t\tand   spaces    \u00a0 no-break",
]

PROMPT = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
)


def build_tokenizer(reader):
    field = lambda name: reader.fields["tokenizer.ggml." + name].contents()
    vocabulary = {token: index for index, token in enumerate(field("tokens"))}
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(field("tokens"), field("token_type")) if kind == 3]
    tokenizer.add_special_tokens(control)
    return tokenizer


def rotate(x, base):
    dims = x.shape[-1]
    angles = np.arange(len(x))[:, None] * base ** (-np.arange(0, dims, 2) / dims)
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def last_logits(reader, ids):
    value = lambda name: reader.fields["llama." + name].contents()
    weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    heads, kv_heads = value("attention.head_count"), value("attention.head_count_kv")
    epsilon, base = value("attention.layer_norm_rms_epsilon"), value("rope.freq_base")
    norm = lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * w
    count = len(ids)
    future = np.triu(np.full((count, count), -1e30), 1)
    x = weights["token_embd.weight"][ids]
    for layer in range(value("block_count")):
        w = lambda name: weights[f"blk.{layer}.{name}.weight"]
        h = norm(x, w("attn_norm"))
        q = rotate((h @ w("attn_q").T).reshape(count, heads, -1), base)
        k = rotate((h @ w("attn_k").T).reshape(count, kv_heads, -1), base)
        v = (h @ w("attn_v").T).reshape(count, kv_heads, -1)
        out = np.zeros_like(q)
        for head in range(heads):
            shared = head * kv_heads // heads
            scores = q[:, head] @ k[:, shared].T / np.sqrt(q.shape[-1]) + future
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            out[:, head] = scores / scores.sum(-1, keepdims=True) @ v[:, shared]
        x = x + out.reshape(count, -1) @ w("attn_output").T
        h = norm(x, w("ffn_norm"))
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return norm(x[-1], weights["output_norm.weight"]) @ weights["token_embd.weight"].T


def main():
    reader = GGUFReader(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    output = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "smollm2_tokens.json")
    tokenizer = build_tokenizer(reader)
    prompt = tokenizer.encode(PROMPT).ids
    logits = last_logits(reader, prompt)
    chosen = list(np.argsort(-logits)[:10]) + list(range(0, len(logits), 4999))
    reference = {
        "texts": [{"text": text, "ids": tokenizer.encode(text).ids} for text in TEXTS],
        "prompt_ids": prompt,
        "next_logits": [[int(index), round(float(logits[index]), 4)] for index in chosen],
    }
    with open(output, "w", encoding="utf-8") as file:
        json.dump(reference, file, ensure_ascii=False, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
