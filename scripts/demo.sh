#!/usr/bin/env bash
# The demonstration: a private cluster with pages of the PostgreSQL manual, an index over them, four questions, a picture.
#
#   scripts/demo.sh
#
# DEMO_PAGES          default (about 150 pages), few, a number, or all
# PG_RAG_CLUSTER_DIR  folder of the cluster (default .demo in the checkout)
# PG_RAG_PROFILE      build profile: dev (default) or release
#
# A second run finds everything built, loaded and embedded, and only asks.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"

readonly SCRIPTS=$ROOT/scripts
readonly PAGES=${DEMO_PAGES:-default}
export PG_RAG_CLUSTER_DIR=${PG_RAG_CLUSTER_DIR:-$ROOT/.demo}
[[ $PAGES =~ ^(default|few|all|[1-9][0-9]*)$ ]] ||
    die "unknown value of DEMO_PAGES \"$PAGES\"" "use default, few, all or a number of pages"
began=$(now)

# --- what is needed --------------------------------------------------------------------------------------------------

"$SCRIPTS/setup.sh" demo
require_postgres
private_pg_config=$("$SCRIPTS/cluster.sh" tree)
PG_CONFIG=$private_pg_config "$SCRIPTS/install.sh" --profile "${PG_RAG_PROFILE:-dev}"
"$SCRIPTS/models.sh"

# A server that runs keeps the library it has loaded: a new one takes effect after a restart, and SQL objects that
# changed need a new database.
library_stamp=$(sha256sum "$("$private_pg_config" --pkglibdir)"/pg_rag* | cksum)
schema_stamp=$(cat "$("$private_pg_config" --sharedir)"/extension/pg_rag--*.sql | cksum)
if [[ $(cat "$PG_RAG_CLUSTER_DIR/library-stamp" 2>/dev/null) != "$library_stamp" ]]; then "$SCRIPTS/cluster.sh" stop; fi
"$SCRIPTS/cluster.sh" start
printf '%s\n' "$library_stamp" >"$PG_RAG_CLUSTER_DIR/library-stamp"

eval "$("$SCRIPTS/cluster.sh" env)"
psql_program=$("$PG_CONFIG" --bindir)/psql
run_psql() { "$psql_program" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }

if [[ $(cat "$PG_RAG_CLUSTER_DIR/schema-stamp" 2>/dev/null) != "$schema_stamp" ]]; then
    PGOPTIONS='-c client_min_messages=warning' run_psql -d postgres -c 'DROP DATABASE IF EXISTS demo WITH (FORCE)'
    run_psql -d postgres -c 'CREATE DATABASE demo'
    printf '%s\n' "$schema_stamp" >"$PG_RAG_CLUSTER_DIR/schema-stamp"
fi
export PGDATABASE=demo

# --- the corpus and its index ----------------------------------------------------------------------------------------

manual=/usr/share/doc/postgresql-doc-$PG_MAJOR/html
[[ -f $manual/index.html ]] || manual=$ROOT/target/manual$manual
[[ -f $manual/index.html ]] || die "no HTML manual of PostgreSQL $PG_MAJOR found" "run \"scripts/setup.sh demo\""

# Runs one statement that builds or refreshes the index while a second session draws its progress. Sets "result".
with_progress() {
    local statement=$1 work building watching drawing status=0
    work=$(mktemp -d)
    # A pipe with a name, so that the process number of psql is known.
    mkfifo "$work/reports"
    run_psql -c "$statement" >"$work/result" &
    building=$!
    "$psql_program" -X -q -A -t -f "$SCRIPTS/demo/progress.sql" >"$work/reports" 2>/dev/null &
    watching=$!
    python3 "$SCRIPTS/demo/progress.py" <"$work/reports" &
    drawing=$!
    # An interrupt reaches psql, too, which cancels its statement.
    wait "$building" || status=$?
    kill "$watching" 2>/dev/null || true
    wait "$watching" 2>/dev/null || true
    wait "$drawing" || true
    result=$(<"$work/result")
    rm -rf "$work"
    return "$status"
}

export PGOPTIONS='-c client_min_messages=warning'
run_psql -f "$SCRIPTS/demo/schema.sql"
# Left behind when a run ends between loading the pages and embedding them.
pending=$PG_RAG_CLUSTER_DIR/refresh-pending
was_pending=no
if [[ -e $pending ]]; then was_pending=yes; fi
touch "$pending"
changed=$(python3 "$SCRIPTS/demo/corpus.py" "$manual" "$PAGES" | run_psql -f "$SCRIPTS/demo/load.sql")
pages=$(run_psql -c 'SELECT count(*) FROM manual')
say "PostgreSQL $PG_MAJOR manual: $pages pages"

indexing=$(now)
if [[ $(run_psql -c "SELECT to_regclass('manual_rag') IS NOT NULL") == f ]]; then
    say "SELECT rag_create_index('manual', 'html');"
    with_progress "SELECT rag_create_index('manual', 'html')"
    elapsed=$(since "$indexing")
    chunks=$(run_psql -c 'SELECT count(*) FROM manual_rag')
    rate=$(awk -v n="$chunks" -v t="$elapsed" 'BEGIN { printf "%.0f", n / (t > 0 ? t : 1) }')
    echo "$pages pages, $chunks chunks, embedded in $elapsed s ($rate chunks/s)"
elif [[ $changed != 0 || $was_pending == yes ]]; then
    say "SELECT embedded FROM rag_refresh('manual_rag');"
    with_progress "SELECT embedded FROM rag_refresh('manual_rag')"
    echo "$pages pages, $result chunks embedded anew in $(since "$indexing") s"
else
    echo "$pages pages, $(run_psql -c 'SELECT count(*) FROM manual_rag') chunks: embedded already"
fi
rm -f "$pending"

# --- the questions ---------------------------------------------------------------------------------------------------

# ask QUESTION [CONDITION]
ask() {
    local question=$1 condition=${2:-} answer
    echo
    say "$question"
    if [[ -n $condition ]]; then note "where $condition"; fi
    echo
    answer=$(run_psql -v question="$question" -v condition="$condition" -f "$SCRIPTS/demo/ask.sql")
    python3 "$SCRIPTS/demo/show.py" <<<"$answer"
}

export BOLD DIM RESET
asking=$(now)
backup_chapter=$(run_psql -c "SELECT chapter FROM manual WHERE chapter LIKE 'Chapter%Backup and Restore' LIMIT 1")
ask "How do I create a partial index?"
ask "What does VACUUM do?"
ask "What is a lexeme in full text search?"
if [[ -n $backup_chapter ]]; then
    ask "Why should I run ANALYZE after restoring a dump?" "chapter = '$backup_chapter'"
else
    ask "Why should I run ANALYZE after restoring a dump?"
fi

# The same pages as a picture. Renamed into place: a browser that has it open never sees half of it.
map=$PG_RAG_CLUSTER_DIR/map.html
run_psql -c "SELECT rag_map('manual_rag', color_by => 'chapter', format => 'html')" >"$map.new"
mv "$map.new" "$map"

echo
echo "answers took $(since "$asking") s, everything $(since "$began") s"
echo
echo "A picture of the index, for a browser:"
say "  $map"
echo "The database is open:"
say "  psql -h $PGHOST -p $PGPORT -U $PGUSER demo"
echo "\"make demo-stop\" removes it."
