#!/usr/bin/env bash
# Benchmarks: prints a table and writes JSON under target/bench. With the demo's database running, ingest and answers
# through SQL are measured, too; otherwise it is made first.
#
#   scripts/bench.sh [OPTION…]      options are passed on: --only models|sql|types, --rows N, --repeat N, --threads N
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
cd "$ROOT"

scripts/demo.sh
eval "$(scripts/cluster.sh env)"
cargo build -p pg_rag_bench
mkdir -p target/bench
result=target/bench/$(date -u +%Y%m%dT%H%M%SZ).json
target/debug/pg_rag_bench --server "host=$PGHOST port=$PGPORT user=$PGUSER" --json "$result" "$@"
