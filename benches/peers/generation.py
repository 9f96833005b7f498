"""The same work as benches/src/generation.rs, done by llama-cpp-python.

Reads a line of JSON per request from standard input and answers with one of seconds:
{"prefill": [ids]}                       -> {"seconds": …}
{"decode": [ids], "new_tokens": n}       -> {"seconds": …, "ids": [the n tokens, greedily]}
The first line names the model: {"model": path, "threads": n, "context": tokens}.
"""

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np


class Peer:
    def __init__(self, model, threads, context):
        self.llama = llama_cpp.Llama(
            model_path=model,
            n_ctx=context,
            n_batch=context,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
        self.vocabulary = self.llama.n_vocab()

    def prefill(self, ids):
        self.llama.reset()
        start = time.perf_counter()
        self.llama.eval(ids)
        self.best()
        return time.perf_counter() - start

    def decode(self, ids, new_tokens):
        self.prefill(ids)
        produced = []
        start = time.perf_counter()
        for _ in range(new_tokens):
            produced.append(self.best())
            self.llama.eval([produced[-1]])
        return time.perf_counter() - start, produced

    def best(self):
        """The most probable next token."""
        logits = llama_cpp.llama_get_logits_ith(self.llama.ctx, -1)
        address = ctypes.cast(logits, ctypes.c_void_p).value
        array = np.ctypeslib.as_array((ctypes.c_float * self.vocabulary).from_address(address))
        return int(array.argmax())


def main():
    peer = Peer(**json.loads(sys.stdin.readline()))
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "prefill" in request:
            answer = {"seconds": peer.prefill(request["prefill"])}
        else:
            seconds, produced = peer.decode(request["decode"], request["new_tokens"])
            answer = {"seconds": seconds, "ids": produced}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
