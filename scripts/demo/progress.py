#!/usr/bin/env python3
"""Draws a progress bar from the lines of JSON that progress.sql makes psql print, until its input ends."""

import json
import sys
import time

BAR_CELLS = 30
LINE_PERIOD_S = 5.0  # between two lines when the output is no terminal


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def describe(report, elapsed_s):
    done, total, chunks = report["rows_done"], report["rows_total"], report["chunks_done"]
    part = done / total if total else 0.0
    filled = int(part * BAR_CELLS)
    left = f"{clock(elapsed_s * (1 - part) / part)} left" if done else "starting"
    return (
        f"[{'#' * filled}{' ' * (BAR_CELLS - filled)}] {done}/{total} pages  {chunks} chunks  "
        f"{chunks / max(elapsed_s, 0.001):.0f} chunks/s  {left}"
    )


def main():
    terminal = sys.stdout.isatty()
    started = last_line = time.monotonic()
    for line in sys.stdin:
        if not line.startswith("{"):
            continue  # \watch prints the time and empty lines
        now = time.monotonic()
        text = describe(json.loads(line), now - started)
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
