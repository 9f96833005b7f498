#!/usr/bin/env bash
# Benchmarks: prints a table and writes JSON under target/bench. They run with the release profile in a cluster of their
# own, with memory enough to hold the tables, and the demo's database for what goes through SQL. The types are measured
# beside pgvector's where the PostgreSQL of PG_CONFIG has its library.
#
#   scripts/bench.sh [OPTION…]      options are passed on: --only models|embedding|generation|retrieval|rag|sql|serving|types, --peer DSN,
#                                   --eval DIR, --rows N, --repeat N, --threads N
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
cd "$ROOT"

export PG_RAG_PROFILE=release
export PG_RAG_CLUSTER_DIR=$ROOT/target/bench/cluster
export PG_RAG_CLUSTER_CONF="shared_buffers = 2GB
max_wal_size = 8GB
checkpoint_timeout = 1h"
mkdir -p "$ROOT/target/bench"
trap 'scripts/cluster.sh stop >/dev/null 2>&1 || true' EXIT

scripts/demo.sh
eval "$(scripts/cluster.sh env)"
cargo build --release -p pg_rag_bench
result=target/bench/$(date -u +%Y%m%dT%H%M%SZ).json
target/release/pg_rag_bench --server "host=$PGHOST port=$PGPORT user=$PGUSER" --json "$result" "$@"
