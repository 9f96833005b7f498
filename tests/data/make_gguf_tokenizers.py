#!/usr/bin/env python3
"""Writes gguf_tokenizers.json: small vocabularies as GGUF files hold them, and the token ids of some texts.

Usage:  make_gguf_tokenizers.py [OUTPUT]

Needs the Python packages tokenizers, transformers and sentencepiece; nothing is downloaded. The vocabularies are learned
from this file's own sentences. Ids are those of the libraries that models are made with: SentencePiece itself, BERT's
tokenizer in transformers, and for byte-level vocabularies the splitters that each family has in its tokenizer.json.
src/model/tokenizer/gguf/tests.rs compares what pg_rag makes of the same metadata.
"""

import io
import json
import os
import sys

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

SENTENCES = [
    "A vacuum removes dead tuples; autovacuum does so in the background.",
    "Indexes of type hnsw find the nearest vectors, and the planner chooses an index when it is cheaper than a scan.",
    "In 2024 there were 31415 rows and 9265 pages, or 3.14 rows a page.",
    "It's what they'll say: we've done it, you're right, I'd go, he isn't.",
    "def answer(question):\n    return question.strip() or None\n\n\nclass Table:\n\tpass\n",
    "Der Planer wählt einen Index. Le café naïf. Zażółć gęślą jaźń. Быстрая лисица прыгает.",
    "数据库中的向量索引。データベースの索引。",
    "HttpServer getValue XMLParser camelCase UPPER lower",
] * 4

TEXTS = [
    "",
    " ",
    "Hello, world!",
    " leading and trailing \n",
    "  two spaces,   three",
    "year 2024, 3.14159 and 1e-9 or 1234567",
    "It's what they'll say: we've DONE'it, isn'T",
    "Ünïcödé naïve café Łódź Zażółć",
    "e\u0301 decomposed, a\u0308\u0323 twice",
    "数据库中的向量索引 データベース 한국어",
    "Emoji 🐘🚀 👩‍👩‍👧 🇵🇱",
    "Быстрая лисица. שלום עולם مرحبا हिन्दी",
    "fn main() {\n    let x = 1;\n\n\n\tprintln!(\"{x:?}\");\n}\r\n",
    "aaaaaaaaaaaaaaaaaaaa   ____//--==",
    "tabs\t\tand   spaces    \u00a0 no-break\u2003em",
    "camelCaseHTTPServer XMLParser3 McDonald's",
    "<|im_end|> </s> <0x0A> ▁ [CLS]",
    "² ½ Ⅷ ٣ 𝟘",
]

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+SUFFIX|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*SUFFIX|"
    r"DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
# Splitter, normalizer, and whether words of the vocabulary are kept.
BYTE_LEVEL = {
    "gpt-2": (GPT2, None, False),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]), None, False),
    "llama-bpe": (split(WORDS.replace("DIGITS", r"\p{N}{1,3}")), None, True),
    "qwen2": (split(WORDS.replace("DIGITS", r"\p{N}")), normalizers.NFC(), False),
    "tekken": (split(CASED.replace("DIGITS", r"\p{N}").replace("SUFFIX", "")), None, True),
    "gpt-4o": (split(CASED.replace("DIGITS", r"\p{N}{1,3}").replace("SUFFIX", CONTRACTIONS + "?")), None, False),
}


def byte_level():
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = GPT2
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=520, initial_alphabet=alphabet, show_progress=False))
    state = json.loads(learner.to_str())["model"]
    vocabulary = sorted(state["vocab"], key=state["vocab"].get)
    merges = [tuple(merge) for merge in state["merges"]]
    ids = {}
    for name, (splitter, normalizer, keep) in BYTE_LEVEL.items():
        tokenizer = Tokenizer(models.BPE(state["vocab"], merges, ignore_merges=keep))
        tokenizer.pre_tokenizer = splitter
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        ids[name] = [tokenizer.encode(text).ids for text in TEXTS]
    control = "<|im_end|>"
    return {
        "tokens": vocabulary + [control],
        "types": [1] * len(vocabulary) + [3],
        "merges": [" ".join(merge) for merge in merges],
        "ids": ids,
    }


def sentence_piece(prefix):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, model_type="bpe", vocab_size=520, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=prefix, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, split_digits=True, character_coverage=0.98, minloglevel=2,
    )
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds = []
    for index in range(learned.get_piece_size()):
        kinds.append(
            2 if learned.is_unknown(index) else 3 if learned.is_control(index) else 5 if learned.is_unused(index)
            else 6 if learned.is_byte(index) else 1
        )
    return {
        "tokens": [learned.id_to_piece(index) for index in range(learned.get_piece_size())],
        "scores": [learned.get_score(index) for index in range(learned.get_piece_size())],
        "types": kinds,
        "prefix": prefix,
        "ids": [learned.encode(text) for text in TEXTS],
    }


def word_piece():
    words = "the index find s ##s ##es ##ing hello world cafe naive unicode ##a ##e ##i 2024 3 14159 . , ! ' : ; - _ 数 据 it what they".split()
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789") + ["##" + letter for letter in "bcdfghjklmnopqrtuvwxyz0123456789"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [token for token in dict.fromkeys(words + letters)]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})
    spelled = [
        token if token.startswith("[") and token.endswith("]") else token[2:] if token.startswith("##") else "▁" + token
        for token in tokens
    ]
    plain = [text for text in TEXTS if "[" not in text]
    return {
        "tokens": spelled,
        "types": [3] * 5 + [1] * (len(tokens) - 5),
        "texts": plain,
        "ids": [tokenizer(text)["input_ids"] for text in plain],
    }


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "gguf_tokenizers.json")
    reference = {
        "texts": TEXTS,
        "byte_level": byte_level(),
        "sentence_piece": [sentence_piece(True), sentence_piece(False)],
        "word_piece": word_piece(),
    }
    with open(output, "w", encoding="utf-8") as file:
        file.write(json.dumps(reference, ensure_ascii=False, separators=(",", ":")))
        file.write("\n")


if __name__ == "__main__":
    main()
