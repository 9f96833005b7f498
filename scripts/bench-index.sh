#!/usr/bin/env bash
# Benchmark of the index access method hnsw: prints tables and writes JSON under target/bench.
#
#   scripts/bench-index.sh [OPTION…]      options are passed on, see benches/index/src/main.rs
#
# PG_RAG_BENCH_DATA   folder with the vectors; without it nothing is measured
# PG_RAG_BENCH_PEER   DSN of a database to compare with, on a server with the same settings as below
#
# pg_rag is built with the release profile and installed into a cluster made for this. Its database is made anew.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
cd "$ROOT"

if [[ -z ${PG_RAG_BENCH_DATA:-} ]]; then
    note "skipped: PG_RAG_BENCH_DATA does not name the folder with the vectors"
    exit 0
fi
arguments=(--data "$PG_RAG_BENCH_DATA")
if [[ -n ${PG_RAG_BENCH_PEER:-} ]]; then arguments+=(--peer "$PG_RAG_BENCH_PEER"); fi

export PG_RAG_CLUSTER_DIR=$ROOT/target/bench/index
export PG_RAG_CLUSTER_CONF="shared_buffers = 4GB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off"
mkdir -p "$ROOT/target/bench"
trap 'scripts/cluster.sh stop >/dev/null 2>&1 || true' EXIT

require_postgres
private_pg_config=$(scripts/cluster.sh tree)
PG_CONFIG=$private_pg_config scripts/install.sh --profile release
cargo build --release -p pg_rag_bench_index
scripts/cluster.sh stop # one that runs keeps the library it has loaded
scripts/cluster.sh start
eval "$(scripts/cluster.sh env)"
psql_program=$("$PG_CONFIG" --bindir)/psql
"$psql_program" -X -q -d postgres -c 'DROP DATABASE IF EXISTS bench WITH (FORCE)' -c 'CREATE DATABASE bench'
target/release/pg_rag_bench_index --ours "host=$PGHOST port=$PGPORT user=$PGUSER dbname=bench" \
    --json "target/bench/index-$(date -u +%Y%m%dT%H%M%SZ).json" "${arguments[@]}" "$@"
