"""The same work as rag_answer, done by sentence-transformers, pgvector and llama-cpp-python.

Reads a line of JSON per request from standard input and answers with one.
The first line: {"embedding_model": folder, "model": GGUF file, "threads": n, "context": tokens, "ours": DSN, "peer": DSN}.
Chunks and vectors are copied from the view "manual_rag" at "ours" to the server with pgvector at "peer".
{"question": text, "passages": k, "max_tokens": n}  -> {"seconds": …, "answer": text}
"""

import json
import sys
import time

import llama_cpp
import psycopg
import torch
from sentence_transformers import SentenceTransformer

SYSTEM = (
    "Answer the question in one to three sentences, using only the passages. Cite the passages you use like [1]. "
    "If the passages do not contain the answer, say that they do not."
)


class Peer:
    def __init__(self, embedding_model, model, threads, context, ours, peer):
        torch.set_num_threads(threads)
        self.encoder = SentenceTransformer(embedding_model, device="cpu")
        self.llama = llama_cpp.Llama(
            model_path=model, n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.connection = psycopg.connect(peer, autocommit=True)
        self.copy_chunks(ours)

    def copy_chunks(self, ours):
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.connection.execute("DROP TABLE IF EXISTS bench_chunks")
        self.connection.execute("CREATE TABLE bench_chunks (id bigserial PRIMARY KEY, chunk text, embedding vector(384))")
        with psycopg.connect(ours) as source, self.connection.cursor() as target:
            with target.copy("COPY bench_chunks (chunk, embedding) FROM STDIN") as copy:
                for row in source.execute("SELECT chunk, embedding::text FROM manual_rag"):
                    copy.write_row(row)
        self.connection.execute("CREATE INDEX ON bench_chunks USING hnsw (embedding vector_cosine_ops)")
        self.connection.execute("ANALYZE bench_chunks")

    def answer(self, question, passages, max_tokens):
        start = time.perf_counter()
        vector = self.encoder.encode(question, normalize_embeddings=True)
        rows = self.connection.execute(
            "SELECT chunk FROM bench_chunks ORDER BY embedding <=> %s::vector LIMIT %s",
            (str(vector.tolist()), passages),
        ).fetchall()
        context = "\n\n".join(f"[{number}]\n{chunk}" for number, (chunk,) in enumerate(rows, 1))
        reply = self.llama.create_chat_completion(
            messages=[
                {"role": "system", "content": SYSTEM},
                {
                    "role": "user",
                    "content": f"Passages:\n\n{context}\n\nAnswer the question in your own words, using the passages. "
                    f"Question: {question}",
                },
            ],
            max_tokens=max_tokens,
            temperature=0,
            repeat_penalty=1.1,
        )
        seconds = time.perf_counter() - start
        usage = reply["usage"]
        return {
            "seconds": seconds,
            "answer": reply["choices"][0]["message"]["content"],
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
        }


def main():
    peer = Peer(**json.loads(sys.stdin.readline()))
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
