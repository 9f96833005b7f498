#!/usr/bin/env python3
"""The peers of the embedding benchmark: sentence-transformers and onnxruntime, in fp32 and int8.

pg_rag_bench starts this script with the interpreter that PG_RAG_BENCH_PYTHON names, in whose environment the packages
sentence-transformers (with torch), onnxruntime and onnx are installed. Nothing is downloaded: the model is a local folder, and its ONNX files
are made from it, once, in a cache folder.

The first line on standard input is {"model": folder, "cache": folder, "threads": n, "texts": [[ids], ...], "question": [ids]}:
token ids, so that all sides compute the same tokens. The first answer is {"peers": [...]}, sent when all are ready. Then each line is
{"what": "texts" | "question" | "vector" (of the question), "peer": name}; the answer is one line, {"seconds": ...} or {"vector": [...]}.
"""

import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
data = json.loads(sys.stdin.readline())
folder, cache, threads = data["model"], data["cache"], data["threads"]
os.environ["OMP_NUM_THREADS"] = str(threads)

import numpy as np

# Standard output is for the answers; libraries that print get standard error.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def padded(batch):
    """Ids and mask of a batch, padded to its longest text."""
    width = max(map(len, batch))
    ids = np.zeros((len(batch), width), dtype=np.int64)
    mask = np.zeros((len(batch), width), dtype=np.int64)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


class SentenceTransformers:
    name = "sentence-transformers"

    def __init__(self):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = SentenceTransformer(folder, device="cpu")

    def embed(self, batch):
        ids, mask = map(self.torch.from_numpy, padded(batch))
        with self.torch.inference_mode():
            features = {"input_ids": ids, "attention_mask": mask, "token_type_ids": self.torch.zeros_like(ids)}
            return self.model(features)["sentence_embedding"].numpy()


class OnnxRuntime:
    def __init__(self, name, path):
        import onnxruntime

        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def embed(self, batch):
        ids, mask = padded(batch)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (rows,) = self.session.run(["last_hidden_state"], inputs)
        weights = mask[:, :, None].astype(np.float32)
        vectors = (rows * weights).sum(axis=1) / weights.sum(axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def export():
    """Paths of the model as ONNX, in fp32 with the fusions for its architecture, and quantised dynamically to int8."""
    plain, fused, int8 = (os.path.join(cache, name) for name in ("plain.onnx", "fused.onnx", "int8.onnx"))
    if os.path.exists(int8):
        return fused, int8
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    os.makedirs(cache, exist_ok=True)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones((2, 9), dtype=torch.int64) for _ in names)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "last_hidden_state"]}
    torch.onnx.export(
        Encoder(),
        example,
        plain,
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    heads, hidden = model.config.num_attention_heads, model.config.hidden_size
    optimised = optimizer.optimize_model(plain, model_type="bert", num_heads=heads, hidden_size=hidden)
    print("fusions:", optimised.get_fused_operator_statistics(), file=sys.stderr)
    optimised.save_model_to_file(fused)
    # Types of what the fused operators return are not inferred; all of it is FLOAT.
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True}
    quantize_dynamic(fused, int8, weight_type=QuantType.QInt8, per_channel=True, extra_options=options)
    return fused, int8


def batches(texts, size):
    """Texts by length, in batches of at most `size` tokens, padding included."""
    batch = []
    for text in sorted(texts, key=len):
        if batch and (len(batch) + 1) * len(text) > size:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def seconds(peer, work):
    started = time.perf_counter()
    for batch in work:
        peer.embed(batch)
    return time.perf_counter() - started


def main():
    fused, int8 = export()
    peers = [
        SentenceTransformers(),
        OnnxRuntime("onnxruntime", fused),
        OnnxRuntime("onnxruntime int8", int8),
    ]
    best = {}
    for peer in peers:
        # The size of a batch that suits the peer best, tried on every tenth text.
        sizes = [512, 1024, 2048, 4096, 8192]
        tenth = data["texts"][::10]
        times = {size: min(seconds(peer, list(batches(tenth, size))) for _ in range(2)) for size in sizes}
        size = min(sizes, key=times.get)
        print(f"{peer.name}: batches of {size} tokens, padding included", file=sys.stderr)
        best[peer.name] = list(batches(data["texts"], size))
    print(json.dumps({"peers": [peer.name for peer in peers]}), file=answers)
    by_name = {peer.name: peer for peer in peers}
    for line in sys.stdin:
        request = json.loads(line)
        what, name = request["what"], request["peer"]
        if what == "vector":
            answer = {"vector": by_name[name].embed([data["question"]])[0].tolist()}
        else:
            work = best[name] if what == "texts" else [[data["question"]]]
            answer = {"seconds": seconds(by_name[name], work)}
        print(json.dumps(answer), file=answers)


main()
