#!/usr/bin/env bash
# Benchmarks: the model runtime alone, then ingest and answers through SQL. Prints a table, writes target/bench/DATE.json.
#
#   scripts/bench.sh [options of pg_rag_bench]
#
# Everything is a release build. The database is a demo of its own (DEMO_PAGES as in `make demo`), which stays for the
# next run under target/test/bench; `make clean` removes it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
cd "$ROOT"

export PG_RAG_CLUSTER_DIR=$ROOT/target/test/bench PG_RAG_PROFILE=release
stop_cluster() { scripts/cluster.sh stop; }
trap stop_cluster EXIT
mkdir -p "$ROOT/target/test" "$ROOT/target/bench"
scripts/demo.sh
cargo build --release -p pg_rag_bench
eval "$(scripts/cluster.sh env)"
target/release/pg_rag_bench --database "host=$PGHOST port=$PGPORT user=$PGUSER dbname=demo" \
    --json "target/bench/$(date -u +%Y%m%dT%H%M%SZ).json" "$@"
