#!/usr/bin/env bash
# Runs the fuzz targets, each for so many inputs, from the seeds in corpus/. A stable toolchain and a C++ compiler are
# enough: the coverage instrumentation is LLVM's own.
#
#   tests/fuzz/run.sh [RUNS [TARGET…]]      default: 1,000,000 inputs for each target
set -euo pipefail
cd "$(dirname "$0")"

runs=${1:-1000000}
shift || true
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(dense_text dense_binary sparse_text sparse_binary hnsw_pages hnsw_operations hnsw_parts)
fi
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-../../target/fuzz}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"

cargo build --release --target "$host"
for target in "${targets[@]}"; do
    # New inputs go into the target folder; those worth keeping are merged into corpus/ by hand:
    # TARGET -merge=1 corpus/TARGET FOLDER
    found=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$found"
    echo "=== $target: $runs inputs"
    "$CARGO_TARGET_DIR/$host/release/$target" -runs="$runs" -max_len=4096 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$CARGO_TARGET_DIR/" "$found" "corpus/$target"
done
