"""Makes the folders tiny_llama, tiny_llama_lora and tiny_llama_rslora, and tiny_llama_reference.json, beside this file.

A model of the llama family with random weights, two PEFT adapters for it, and what transformers and peft say about
them: the logits behind a few token ids for the base and for the base with each adapter merged into it, and the ids of a
few texts.

Needs torch, transformers, peft and tokenizers from PyPI.
"""

import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
TEXT = """An index is a data structure that makes searches faster. A partial index covers only the rows that a condition
admits, so it is smaller. The planner uses it when the query implies the condition. A vacuum removes dead rows and
frees space; it runs 2 or 3 times a day, or 10 times, as the settings say. Tables, rows, columns, queries, settings.
"""
TEXTS = ["A partial index is smaller.", "42 rows and 1007 columns", "  spaces\n\tand é 漢字 🙂", ""]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=TEMPLATE,
    )


def randomize(model, seed):
    """Weights that let every part have a say in the logits, in numbers that bf16 holds."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            values = 1 + 0.2 * torch.randn(weight.shape, generator=generator)
        else:
            values = torch.randn(weight.shape, generator=generator) * (1.2 / weight.shape[-1] ** 0.5)
        weight.data = values.to(torch.bfloat16).to(torch.float32)


def logits(model, ids):
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0]
    return [[round(x, 5) for x in row] for row in rows[[0, len(ids) // 2, len(ids) - 1]].tolist()]


def main():
    torch.manual_seed(1)
    tokens = tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        tie_word_embeddings=False,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    folder = HERE / "tiny_llama"
    shutil.rmtree(folder, ignore_errors=True)
    base = LlamaForCausalLM(config)
    randomize(base, 2)
    base.to(torch.bfloat16).save_pretrained(folder)
    tokens.save_pretrained(folder)
    base = base.to(torch.float32).eval()

    ids = tokens.encode(TEXT)[:40]
    reference = {
        "ids": ids,
        "positions": [0, len(ids) // 2, len(ids) - 1],
        "base": logits(base, ids),
        "texts": [{"text": text, "ids": tokens.encode(text, add_special_tokens=False)} for text in TEXTS],
    }
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    adapters = {
        "lora": dict(r=4, lora_alpha=8, target_modules=attention),
        "rslora": dict(r=8, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"]),
    }
    for seed, (name, options) in enumerate(adapters.items()):
        torch.manual_seed(10 + seed)
        path = HERE / f"tiny_llama_{name}"
        shutil.rmtree(path, ignore_errors=True)
        fresh = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        # Both factors random: an adapter as it is made does nothing.
        model = get_peft_model(fresh, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options))
        for key, weight in model.named_parameters():
            if "lora_" in key:
                weight.data = torch.randn(weight.shape) * (0.4 if "lora_B" in key else 0.2)
        model.peft_config["default"].base_model_name_or_path = "tiny_llama"
        model.save_pretrained(path)
        (path / "README.md").unlink(missing_ok=True)
        fresh = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        merged = PeftModel.from_pretrained(fresh, path).merge_and_unload().eval()
        reference[name] = logits(merged, ids)
    (HERE / "tiny_llama_reference.json").write_text(json.dumps(reference, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
