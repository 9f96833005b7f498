#!/usr/bin/env python3
"""Writes minilm_reference.json: token ids and embeddings of all-MiniLM-L6-v2 as sentence-transformers computes them.

Usage:  make_minilm_reference.py FOLDER_OF_THE_MODEL [OUTPUT]

Needs the Python package sentence-transformers (made with 6.2.0, torch 2.15.0 on a CPU) and the model in a local folder;
nothing is downloaded. src/model/tests/encoder_reference.rs compares pg_rag's encoder with the result. Texts spell no
special token: sentence-transformers recognises those inside a text, pg_rag treats them as data.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

from sentence_transformers import SentenceTransformer

SENTENCE = "PostgreSQL evaluates the condition of a partial index for every row that is inserted or updated."

TEXTS = [
    "",
    " \t\n ",
    "index",
    "Partial indexes",
    "How do I create a partial index?",
    SENTENCE,
    "A vacuum removes dead tuples; an autovacuum worker does so in the background, without blocking readers.",
    "Ünïcödé naïve café résumé Łódź Ångström",
    "Cafe\u0301 with a combining accent, soft\u00adhyphen, zero\u200bwidth",
    "数据库中的向量索引 データベース 벡터 검색",
    "Emoji 🐘🚀 and flags 🇩🇪, family 👩‍👩‍👧",
    "Быстрая лисица перепрыгивает через ленивую собаку. Γειά σου Κόσμε. שלום عالم",
    "SELECT id, body FROM articles WHERE lang = 'en' AND embedding <=> $1 < 0.3 ORDER BY 2 LIMIT 10;",
    "fn main() {\n    let x: Vec<u32> = (0..10).filter(|n| n % 2 == 0).collect();\n    println!(\"{x:?}\");\n}",
    "https://example.org/docs/15/indexes-partial.html?lang=en#section-2",
    "a" * 99 + " " + "b" * 101,
    "1234567890 3.14159 -42 0x1F 1e-9 50% $99.99",
    " ".join(f"Paragraph {n}: {SENTENCE}" for n in range(3)),
    " ".join(f"Step {n}: {SENTENCE}" for n in range(9)),
    " ".join(f"word{n} memory row" for n in range(400)),
]


def main() -> None:
    folder = sys.argv[1]
    here = os.path.dirname(os.path.abspath(__file__))
    output = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "minilm_reference.json")
    model = SentenceTransformer(folder, device="cpu")
    tokenizer = model.tokenizer
    entries = []
    for text in TEXTS:
        # One text at a time: no padding can touch the reference.
        vector = model.encode([text], convert_to_numpy=True)[0]
        ids = tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]
        entries.append({"text": text, "ids": ids, "vector": [round(float(value), 7) for value in vector]})
    with open(output, "w", encoding="utf-8") as file:
        file.write('{"max_tokens": %d, "entries": [\n' % model.max_seq_length)
        file.write(",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in entries))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
