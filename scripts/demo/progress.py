#!/usr/bin/env python3
"""Draws a progress bar from the lines of JSON that progress.sql makes psql print, until its input ends."""

import json
import sys
import time

BAR_CELLS = 30
LINE_PERIOD_S = 5.0  # between two lines when the output is no terminal


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def describe(report):
    done, total, chunks = report["rows_done"], report["rows_total"], report["chunks_done"]
    elapsed_s = report["elapsed_s"]
    part = done / total if total else 0.0
    filled = int(part * BAR_CELLS)
    bar = f"[{'#' * filled}{' ' * (BAR_CELLS - filled)}] {done}/{total} pages  {chunks} chunks"
    if not done or elapsed_s < 0.5:  # too early for a rate
        return bar
    return f"{bar}  {chunks / elapsed_s:.0f} chunks/s  {clock(elapsed_s * (1 - part) / part)} left"


def main():
    terminal = sys.stdout.isatty()
    last_line = time.monotonic()
    for line in sys.stdin:
        if not line.startswith("{"):
            continue  # \watch prints the time and empty lines
        now = time.monotonic()
        text = describe(json.loads(line))
        if terminal:
            print(f"\r{text}\x1b[K", end="", flush=True)
        elif now - last_line >= LINE_PERIOD_S:
            print(text, flush=True)
            last_line = now
    if terminal:
        print("\r\x1b[K", end="", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
