#!/usr/bin/env python3
"""Prints one answer of rag_ask for people. Reads the JSON that ask.sql makes; the environment gives the escape codes."""

import json
import os
import shutil
import sys
import textwrap

WIDTH = max(60, min(shutil.get_terminal_size((100, 24)).columns, 110))
PASSAGE_CHARACTERS = 160
BOLD, DIM, RESET = (os.environ.get(name, "") for name in ("BOLD", "DIM", "RESET"))


def wrapped(text, indent):
    lines = []
    for paragraph in text.strip().split("\n"):
        lines += textwrap.wrap(paragraph, WIDTH - len(indent), break_on_hyphens=False) or [""]
    return "\n".join(indent + line for line in lines)


def timings(usage):
    def milliseconds(name):
        return usage.get(name) or 0

    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    prefill, decode = milliseconds("prefill_ms"), milliseconds("decode_ms")

    def rate(tokens, duration_ms):
        return f", {tokens * 1000 / duration_ms:.0f} tokens/s" if duration_ms else ""

    return (
        f"retrieval {milliseconds('retrieval_ms'):.0f} ms   "
        f"prefill {prefill / 1000:.1f} s ({prompt} tokens{rate(prompt, prefill)})   "
        f"decode {decode / 1000:.1f} s ({completion} tokens{rate(completion, decode)})"
    )


def main():
    asked = json.load(sys.stdin)
    if not asked["answer"] or not asked["sources"]:
        sys.exit("error: the answer or its sources are empty")
    print(wrapped(asked["answer"], "  "))
    print()
    for source in asked["sources"]:
        passage = " ".join((source.get("chunk") or "").split())
        cut = textwrap.shorten(passage, PASSAGE_CHARACTERS, placeholder=" …")
        print(f"  [{source['number']}] {source.get('title') or source.get('source_key')}  {DIM}score {source['score']:.3f}{RESET}")
        print(f"{DIM}{wrapped(cut, '      ')}{RESET}")
    print()
    print(f"  {DIM}{timings(asked['usage'])}{RESET}")


if __name__ == "__main__":
    main()
