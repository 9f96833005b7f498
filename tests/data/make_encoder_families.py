#!/usr/bin/env python3
"""Writes encoder_families/: a tiny model of every family of encoders with random weights, and what the reference
implementations compute with it.

Usage:  make_encoder_families.py [OUTPUT_FOLDER]

Needs the Python packages sentence-transformers (made with 6.2.0, transformers 5.24.0, torch 2.15.0 on a CPU); nothing
is downloaded. src/model/tests/encoder_families.rs compares pg_rag's encoder with the results.

Weights are stored in 16 bits and computed with in 32. They are large enough that attention is far from even: an error in
positions, windows or the order of the parts of a layer shows in every number. Sizes are odd on purpose: heads that are no
multiple of 16 wide, texts longer than a local window and than the longest input.
"""

import json
import math
import os
import shutil
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "PostgreSQL evaluates the condition of a partial index for every row that is inserted or updated.",
    "A vacuum removes dead tuples; an autovacuum worker does so in the background, without blocking readers.",
    "How do I create a partial index? The planner chooses an index when its cost is lower than that of a scan.",
    "Ünïcödé naïve café résumé Łódź Ångström 数据库 中的 向量索引 データベース Быстрая лисица",
    "query: passage: search_query: search_document: memory row buffer snapshot transaction 0123456789",
]

LONG = " ".join(f"Step {n}: the worker reads row {n * 7} of the index and writes a buffer." for n in range(24))

TEXTS = [
    "",
    "index",
    "How do I create a partial index?",
    "A vacuum removes dead tuples; an autovacuum worker does so in the background.",
    "Ünïcödé café, 数据库中的 向量索引 и Быстрая лисица",
    "Emoji 🐘 and\ttabs\n lines   spaces",
    " ".join(CORPUS[:2]),
    LONG,
]

PAIRS = [
    ("How do I create a partial index?", [CORPUS[0], CORPUS[1], "", LONG, "index"]),
    (LONG, ["row", LONG, CORPUS[2]]),
    ("", ["index", ""]),
]


# Tokenizers: the three kinds, with the parts that real models have.


def wordpiece(folder):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=170, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return fast(tokenizer, folder, pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")


def unigram(folder):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=170, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return fast(tokenizer, folder, pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>", bos="<s>", eos="</s>")


def mpnet_words(folder):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=170, special_tokens=special))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    return fast(tokenizer, folder, pad="<pad>", unk="[UNK]", cls="<s>", sep="</s>", mask="<mask>")


def byte_pairs(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return fast(tokenizer, folder, pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")


def fast(tokenizer, folder, **names):
    tokens = {f"{name}_token": token for name, token in names.items()}
    inputs = ["input_ids", "attention_mask"]
    if os.path.basename(folder) == "bert_pair":
        inputs.append("token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=longest(folder), model_input_names=inputs, **tokens
    )


LENGTHS = {}


def longest(folder):
    return LENGTHS.get(os.path.basename(folder), 64)


# Weights


def randomize(model, seed, scale=1.6):
    """Random weights that 16 bits hold exactly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name.lower() or name.startswith("emb_ln")
            if parameter.ndim == 1:
                value = 0.2 * noise + (1.0 if is_norm and name.endswith("weight") else 0.0)
            elif "embedding" in name or "relative_attention_bias" in name:
                value = noise
            else:
                value = noise * (scale / math.sqrt(parameter.shape[-1]))
            parameter.copy_(value.half().float())
    return model.eval()


def halve(folder):
    """Stores the weights of a saved folder in 16 bits."""
    from safetensors.torch import load_file

    for where, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".safetensors"):
                path = os.path.join(where, name)
                tensors = {key: tensor.half().contiguous() for key, tensor in load_file(path).items()}
                save_file(tensors, path, metadata={"format": "pt"})
    for name in ["README.md"]:
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    config = os.path.join(folder, "config.json")
    with open(config, encoding="utf-8") as file:
        content = json.load(file)
    if "dtype" in content:
        content["dtype"] = "float16"
    with open(config, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


# Models of sentence-transformers


def save_sentence_model(folder, model, tokenizer, pooling, dense=None, normalize=True, prompts=None, tokens=48):
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        transformer = Transformer(plain)
        transformer.max_seq_length = tokens
        modules = [transformer, Pooling(model.config.hidden_size, pooling)]
        if dense:
            modules.append(randomize(dense, 77, scale=0.3))
        if normalize:
            modules.append(Normalize())
        SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(folder, create_model_card=False)
    halve(folder)


def reference_of_sentences(folder):
    model = SentenceTransformer(folder, device="cpu")
    model.float()
    entries = []
    for text in TEXTS:
        entry = {"text": text}
        for purpose in ["query", "passage"]:
            name = {"query": "query", "passage": "document"}[purpose]
            prompt = (model.prompts or {}).get(name, "") or ""
            # One text at a time: no padding can touch the reference.
            vector = model.encode([prompt + text], prompt="", convert_to_numpy=True)[0]
            features = model.preprocess([prompt + text])
            entry[purpose] = {"ids": features["input_ids"][0].tolist(), "vector": rounded(vector)}
            if not prompt and purpose == "query":
                entry["passage"] = entry["query"]
        entry["hidden"] = some_rows(model[0](dict(model.preprocess([text])))["token_embeddings"][0].detach())
        entries.append(entry)
    write(folder, {"max_tokens": model.max_seq_length, "dims": model.get_embedding_dimension(), "entries": entries})


def some_rows(hidden):
    """By its number, every nineteenth token's last hidden state, and the last one's."""
    rows = sorted({*range(0, len(hidden), 19), len(hidden) - 1})
    return {row: rounded(hidden[row]) for row in rows}


def rounded(row):
    return [round(float(value), 5) for value in row]


def write(folder, reference):
    with open(os.path.join(folder, "reference.json"), "w", encoding="utf-8") as file:
        json.dump(reference, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def distilbert(folder):
    tokenizer = wordpiece(folder)
    config = transformers.DistilBertConfig(
        vocab_size=len(tokenizer), dim=24, n_heads=2, n_layers=2, hidden_dim=28, max_position_embeddings=48
    )
    model = randomize(transformers.DistilBertModel(config), 1)
    # Two ways of pooling side by side, a dense layer and no normalisation.
    dense = Dense(48, 20, activation_function=nn.Tanh())
    save_sentence_model(folder, model, tokenizer, ("max", "mean_sqrt_len_tokens"), dense, normalize=False)
    reference_of_sentences(folder)


def xlm_roberta(folder):
    tokenizer = unigram(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=40,
        max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
        eos_token_id=2,
    )
    model = randomize(transformers.XLMRobertaModel(config, add_pooling_layer=False), 2)
    prompts = {"query": "query: ", "document": "passage: "}
    save_sentence_model(folder, model, tokenizer, "mean", prompts=prompts, tokens=64)
    reference_of_sentences(folder)


def mpnet(folder):
    tokenizer = mpnet_words(folder)
    config = transformers.MPNetConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_attention_heads=2, num_hidden_layers=2, intermediate_size=28,
        max_position_embeddings=202, relative_attention_num_buckets=32, layer_norm_eps=1e-5, pad_token_id=1,
        bos_token_id=0, eos_token_id=2,
    )
    model = randomize(transformers.MPNetModel(config, add_pooling_layer=False), 3)
    # Longer than the distance from which on all distances have the same bias.
    save_sentence_model(folder, model, tokenizer, "mean", tokens=180)
    reference_of_sentences(folder)


def nomic_bert(folder):
    tokenizer = wordpiece(folder)
    config = transformers.NomicBertConfig(
        vocab_size=len(tokenizer), hidden_size=36, num_attention_heads=3, num_hidden_layers=2, intermediate_size=28,
        max_position_embeddings=96, type_vocab_size=2, layer_norm_eps=1e-12, pad_token_id=0,
    )
    model = randomize(transformers.NomicBertModel(config, add_pooling_layer=False), 4)
    prompts = {"query": "search_query: ", "document": "search_document: "}
    save_sentence_model(folder, model, tokenizer, "mean", prompts=prompts, tokens=90)
    reference_of_sentences(folder)


def modernbert(folder):
    tokenizer = byte_pairs(folder)
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=2, num_hidden_layers=3, intermediate_size=28,
        max_position_embeddings=128, local_attention=24, global_attn_every_n_layers=2, pad_token_id=0, cls_token_id=2,
        sep_token_id=3, bos_token_id=2, eos_token_id=3,
    )
    model = randomize(transformers.ModernBertModel(config), 5)
    save_sentence_model(folder, model, tokenizer, "cls", tokens=120)
    reference_of_sentences(folder)


def last_token_pairs(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    return fast(tokenizer, folder, pad="<|endoftext|>", eos="<|endoftext|>")


def qwen3(folder):
    tokenizer = last_token_pairs(folder)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=10,
        num_hidden_layers=2, intermediate_size=28, max_position_embeddings=128, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        tie_word_embeddings=True,
    )
    model = randomize(transformers.Qwen3Model(config), 10)
    # As Qwen3-Embedding: the last token, which closes every text, and an instruction before queries.
    prompts = {"query": "Instruct: answer\nQuery:", "document": ""}
    save_sentence_model(folder, model, tokenizer, "lasttoken", prompts=prompts, tokens=100)
    reference_of_sentences(folder)


class JinaBert(nn.Module):
    """The encoder of jina-embeddings-v2 (Günther et al., 2023): BERT with ALiBi in both directions (Press et al., 2022)
    and gated feed-forward blocks. Names are those of its weights."""

    def __init__(self, vocab, hidden, heads, layers, inner):
        super().__init__()
        self.heads = heads
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(vocab, hidden)
        self.embeddings.token_type_embeddings = nn.Embedding(2, hidden)
        self.embeddings.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([self.layer(hidden, inner) for _ in range(layers)])

    @staticmethod
    def layer(hidden, inner):
        layer = nn.Module()
        layer.attention = nn.ModuleDict({"self": nn.Module(), "output": nn.Module()})
        for name in ["query", "key", "value"]:
            setattr(layer.attention["self"], name, nn.Linear(hidden, hidden))
        layer.attention["output"].dense = nn.Linear(hidden, hidden)
        layer.attention["output"].LayerNorm = nn.LayerNorm(hidden, eps=1e-12)
        layer.mlp = nn.Module()
        layer.mlp.gated_layers = nn.Linear(hidden, 2 * inner, bias=False)
        layer.mlp.wo = nn.Linear(inner, hidden)
        layer.mlp.layernorm = nn.LayerNorm(hidden, eps=1e-12)
        return layer

    def slopes(self):
        def powers(count):
            return [2.0 ** (-8.0 * (index + 1) / count) for index in range(count)]

        lower = 2 ** int(math.log2(self.heads))
        return torch.tensor(powers(lower) + powers(2 * lower)[0::2][: self.heads - lower])

    def forward(self, ids):
        count = len(ids)
        state = self.embeddings.word_embeddings(ids) + self.embeddings.token_type_embeddings.weight[0]
        state = self.embeddings.LayerNorm(state)
        positions = torch.arange(count)
        bias = -self.slopes()[:, None, None] * (positions[:, None] - positions[None, :]).abs()
        for layer in self.encoder.layer:
            heads = lambda linear: linear(state).view(count, self.heads, -1).transpose(0, 1)
            part = layer.attention["self"]
            query, key, value = heads(part.query), heads(part.key), heads(part.value)
            scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]) + bias
            context = (scores.softmax(-1) @ value).transpose(0, 1).reshape(count, -1)
            output = layer.attention["output"]
            state = output.LayerNorm(output.dense(context) + state)
            gate, up = layer.mlp.gated_layers(state).chunk(2, dim=-1)
            state = layer.mlp.layernorm(layer.mlp.wo(nn.functional.gelu(gate) * up) + state)
        return state


def jina_bert(folder):
    tokenizer = wordpiece(folder)
    tokens = 100
    # Six heads: the slopes beyond the largest power of two come from the next one.
    model = randomize(JinaBert(len(tokenizer), 36, 6, 2, 28), 6)
    os.makedirs(folder)
    tokenizer.save_pretrained(folder)
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["JinaBertModel"], "model_type": "bert", "hidden_size": 36, "num_hidden_layers": 2,
        "num_attention_heads": 6, "intermediate_size": 28, "hidden_act": "gelu", "vocab_size": len(tokenizer),
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "position_embedding_type": "alibi", "feed_forward_type": "geglu", "emb_pooler": "mean",
    }
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    os.makedirs(os.path.join(folder, "1_Pooling"))
    for name, content in [
        ("config.json", config),
        ("modules.json", modules),
        ("1_Pooling/config.json", {"word_embedding_dimension": 36, "pooling_mode_mean_tokens": True}),
        ("sentence_bert_config.json", {"max_seq_length": tokens, "do_lower_case": False}),
    ]:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
    entries = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=tokens)["input_ids"]
        with torch.no_grad():
            hidden = model(torch.tensor(ids))
        result = {"ids": ids, "vector": rounded(hidden.mean(0))}
        entry = {"text": text, "query": result, "passage": result}
        entry["hidden"] = some_rows(hidden)
        entries.append(entry)
    write(folder, {"max_tokens": tokens, "dims": 36, "entries": entries})


# Cross-encoders


def save_cross_encoder(folder, model, tokenizer, activation=None):
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        reranker = CrossEncoder(plain, device="cpu", activation_fn=activation)
        reranker.save_pretrained(folder, create_model_card=False)
    halve(folder)
    reranker = CrossEncoder(folder, device="cpu")
    reranker.float()
    entries = []
    for query, passages in PAIRS:
        scores = [reranker.predict([(query, passage)])[0] for passage in passages]
        features = [reranker.preprocess([(query, passage)]) for passage in passages]
        entry = {"query": query, "passages": passages, "scores": rounded(scores)}
        entry["ids"] = [feature["input_ids"][0].tolist() for feature in features]
        if "token_type_ids" in features[0]:
            entry["types"] = [feature["token_type_ids"][0].tolist() for feature in features]
        entries.append(entry)
    write(folder, {"max_tokens": longest(folder), "entries": entries})


def bert_pair(folder):
    LENGTHS[os.path.basename(folder)] = 60
    tokenizer = wordpiece(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=36, num_attention_heads=3, num_hidden_layers=2, intermediate_size=40,
        max_position_embeddings=64, num_labels=1,
    )
    model = randomize(transformers.BertForSequenceClassification(config), 7)
    save_cross_encoder(folder, model, tokenizer)


def xlm_roberta_pair(folder):
    LENGTHS[os.path.basename(folder)] = 64
    tokenizer = unigram(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=40,
        max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
        eos_token_id=2, num_labels=1,
    )
    model = randomize(transformers.XLMRobertaForSequenceClassification(config), 8)
    # As the rerankers of MS MARCO: the score is not squeezed between 0 and 1.
    save_cross_encoder(folder, model, tokenizer, nn.Identity())


def modernbert_pair(folder):
    LENGTHS[os.path.basename(folder)] = 100
    tokenizer = byte_pairs(folder)
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_attention_heads=2, num_hidden_layers=2, intermediate_size=28,
        max_position_embeddings=128, local_attention=24, global_attn_every_n_layers=2, pad_token_id=0, cls_token_id=2,
        sep_token_id=3, bos_token_id=2, eos_token_id=3, classifier_pooling="mean", num_labels=1,
    )
    model = randomize(transformers.ModernBertForSequenceClassification(config), 9)
    save_cross_encoder(folder, model, tokenizer)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    output = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "encoder_families")
    families = [distilbert, xlm_roberta, mpnet, nomic_bert, modernbert, jina_bert, qwen3, bert_pair, xlm_roberta_pair,
                modernbert_pair]
    for family in families:
        folder = os.path.join(output, family.__name__)
        shutil.rmtree(folder, ignore_errors=True)
        torch.manual_seed(0)
        family(folder)
        print(folder)


if __name__ == "__main__":
    main()
