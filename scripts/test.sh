#!/usr/bin/env bash
# Every test of pg_rag, from a clean checkout on Debian or Ubuntu: installs what is missing, then runs the stages below.
#
#   scripts/test.sh [STAGE…]     (default: all, in this order)
#     setup format lint purity build unit pgrx regress isolation clients cluster demo
#
# The first failure ends the run. Clusters are throwaway ones under target/test; a PostgreSQL that is installed keeps its
# files, and a demo that runs is left alone. The last line sums up the tests of all stages.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"
cd "$ROOT"

readonly ALL_STAGES=(setup format lint purity build unit pgrx regress isolation clients cluster demo)
readonly WORK=$ROOT/target/test
readonly LOGS=$WORK/logs
mkdir -p "$LOGS"
began=$(now)
passed=0 failed=0

# --- stages ----------------------------------------------------------------------------------------------------------

run_setup() { scripts/setup.sh test; }

run_format() {
    cargo fmt --all --check
    rustfmt --check --edition 2021 tests/fuzz/targets/*.rs # a workspace of its own
}

run_lint() {
    cargo clippy --workspace --all-targets --no-default-features --features "pg_rag/pg$PG_MAJOR pg_rag/pg_test" -- -D warnings
    if command -v shellcheck >/dev/null; then shellcheck -x scripts/*.sh tests/*/run.sh .ci/run; fi
}

# The seams of the design: algorithms know no PostgreSQL and no model runtime, the extension knows no model runtime.
run_purity() {
    local tree
    tree=$(cargo tree -p pg_rag_engine -e normal,build)
    if grep -E 'pgrx|candle' <<<"$tree"; then die "pg_rag_engine depends on pgrx or candle"; fi
    read -ra features < <(pg_features)
    tree=$(cargo tree -p pg_rag "${features[@]}" -e normal,build)
    if grep -E 'candle|pg_rag_model' <<<"$tree"; then die "pg_rag depends on the model runtime"; fi
    tree=$(cargo tree -p pg_rag_model -e normal,build)
    if grep -E 'pgrx' <<<"$tree"; then die "pg_rag_model depends on pgrx"; fi
}

# The model server is built first: it can then fetch the models.
run_build() {
    scripts/install.sh --build-only
    scripts/models.sh
    scripts/models.sh --check
}

run_unit() { cargo test -p pg_rag_engine -p pg_rag_protocol -p pg_rag_documents -p pg_rag_model -p pg_rag_bench_index; }

# In-backend tests. pgrx installs a library with test functions, so they have a PostgreSQL installation of their own.
run_pgrx() {
    local private
    private=$(PG_RAG_CLUSTER_DIR=$WORK/pgrx scripts/cluster.sh tree)
    PG_CONFIG=$private scripts/install.sh # for the model server beside the library
    export PGRX_HOME=$WORK/pgrx-home
    mkdir -p "$PGRX_HOME"
    printf '[configs]\npg%s = "%s"\n' "$PG_MAJOR" "$private" >"$PGRX_HOME/config.toml.new"
    # Rewritten only if it differs: build scripts watch its time.
    cmp -s "$PGRX_HOME/config.toml.new" "$PGRX_HOME/config.toml" || mv "$PGRX_HOME/config.toml.new" "$PGRX_HOME/config.toml"

    local data runas=() status=0
    data=$(mktemp -d /tmp/pg_rag-test-XXXXXX) # short: it also holds the socket
    if is_root; then
        chown postgres: "$data"
        chmod 755 "$data"
        runas=(--runas postgres)
    fi
    read -ra features < <(pg_features)
    cargo pgrx test "pg$PG_MAJOR" "${runas[@]}" --pgdata "$data" "${features[@]}" || status=$?
    rm -rf "$data"
    return "$status"
}

# Starts the cluster that regress uses and makes PG_CONFIG its installation.
start_installed_cluster() {
    export PG_RAG_CLUSTER_DIR=$WORK/cluster
    local private
    private=$(scripts/cluster.sh tree)
    PG_CONFIG=$private scripts/install.sh
    scripts/cluster.sh start
    eval "$(scripts/cluster.sh env)"
}

# Golden SQL. setup.sql runs first, the others in the order of their names, each in the same database.
run_regress() {
    local input=tests/pg_regress output=$WORK/regress program tests
    [[ -d $input/sql ]] || die "no tests in $input"
    program=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress
    mapfile -t tests < <(find "$input/sql" -name '*.sql' ! -name setup.sql -printf '%f\n' | sed 's/\.sql$//' | sort)
    if [[ -f $input/sql/setup.sql ]]; then tests=(setup "${tests[@]}"); fi

    start_installed_cluster
    local psql
    psql=$("$PG_CONFIG" --bindir)/psql
    "$psql" -X -q -d postgres -c 'DROP DATABASE IF EXISTS regression' -c 'CREATE DATABASE regression'
    rm -rf "$output"
    mkdir -p "$output"
    # Without line numbers and source positions, which differ between majors.
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nexec "$@" -v VERBOSITY=terse\n' >"$output/launcher"
    chmod +x "$output/launcher"
    PGOPTIONS='-c client_min_messages=warning' "$program" --use-existing --dbname=regression --user=postgres \
        --host="$PGHOST" --port="$PGPORT" --bindir="$("$PG_CONFIG" --bindir)" --inputdir="$input" \
        --outputdir="$output" --launcher="$output/launcher" "${tests[@]}" || {
        cat "$output/regression.diffs" 2>/dev/null
        return 1
    }
}

# Sessions in all orders that matter, by PostgreSQL's own tester. setup.sql makes what the specs share.
run_isolation() {
    local input=tests/isolation output=$WORK/isolation folder program psql specs status=0
    folder=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/isolation
    for program in isolationtester pg_isolation_regress; do
        [[ -x $folder/$program ]] || die "no program \"$program\" in \"$folder\"" "postgresql-server-dev-$PG_MAJOR should have it"
    done
    mapfile -t specs < <(find "$input/specs" -name '*.spec' -printf '%f\n' | sed 's/\.spec$//' | sort)
    ((${#specs[@]})) || die "no specs in $input"

    start_installed_cluster
    psql=$("$PG_CONFIG" --bindir)/psql
    # What a vacuum may remove is in the outputs: nobody else may hold a snapshot of this database meanwhile.
    "$psql" -X -q -d postgres -c 'ALTER SYSTEM SET autovacuum = off' -c 'SELECT pg_reload_conf()' \
        -c 'DROP DATABASE IF EXISTS isolation' -c 'CREATE DATABASE isolation' >/dev/null
    PGOPTIONS='-c client_min_messages=warning' "$psql" -X -q -v ON_ERROR_STOP=1 -d isolation -f "$input/setup.sql"
    rm -rf "$output"
    mkdir -p "$output"
    "$folder/pg_isolation_regress" --use-existing --dbname=isolation --user=postgres --host="$PGHOST" --port="$PGPORT" \
        --bindir="$("$PG_CONFIG" --bindir)" --inputdir="$input" --outputdir="$output" "${specs[@]}" || {
        cat "$output/regression.diffs" 2>/dev/null
        status=1
    }
    "$psql" -X -q -d postgres -c 'ALTER SYSTEM RESET autovacuum' -c 'SELECT pg_reload_conf()' >/dev/null
    return "$status"
}

# The clients that people use with pgvector, unchanged.
run_clients() {
    start_installed_cluster
    tests/clients/run.sh "$WORK/clients-venv"
}

# Several sessions, signals, restarts: each test makes its own cluster from the installation that PG_CONFIG names.
run_cluster() {
    start_installed_cluster
    scripts/cluster.sh stop
    unset PGHOST PGPORT PGUSER
    cargo test -p pg_rag_cluster_tests
}

# The path of README's first command, on a few pages; then again, when nothing may be embedded a second time.
run_demo() {
    export PG_RAG_CLUSTER_DIR=$WORK/demo DEMO_PAGES=few
    scripts/cluster.sh destroy
    scripts/demo.sh
    scripts/demo.sh | tee "$LOGS/demo-again.out"
    grep -q 'embedded already' "$LOGS/demo-again.out" || die "the second run embedded again"
    grep -q '</svg>' "$PG_RAG_CLUSTER_DIR/map.html" || die "the demo drew no picture"
    scripts/cluster.sh destroy
    [[ ! -e $PG_RAG_CLUSTER_DIR ]] || die "the demo left \"$PG_RAG_CLUSTER_DIR\" behind"
}

# --- running them ----------------------------------------------------------------------------------------------------

remove_clusters() {
    local folder
    for folder in pgrx cluster demo; do
        PG_RAG_CLUSTER_DIR=$WORK/$folder scripts/cluster.sh stop >/dev/null 2>&1 || true
    done
    # pgrx and cluster keep their installations, so that a second run installs nothing; the demo goes.
    PG_RAG_CLUSTER_DIR=$WORK/demo scripts/cluster.sh destroy >/dev/null 2>&1 || true
}
trap remove_clusters EXIT

# Adds up what a stage's log says: lines of cargo, of pg_regress and of pytest. A stage without any counts as one test.
count() {
    local log=$1 status=$2 ok not_ok
    ok=$(awk '/^test result:/ { n += $4 } /^test +[^ ]+ +\.\.\. ok/ && / ms$/ { n++ } /^ok [0-9]+ / { n++ } /^[0-9]+ passed/ { n += $1 } END { print n + 0 }' "$log")
    not_ok=$(awk '/^test result:/ { n += $6 } /^test +[^ ]+ +\.\.\. FAILED/ && / ms$/ { n++ } /^not ok [0-9]+ / { n++ } END { print n + 0 }' "$log")
    if ((status == 0 && ok == 0)); then ok=1; fi
    if ((status != 0 && not_ok == 0)); then not_ok=1; fi
    passed=$((passed + ok)) failed=$((failed + not_ok))
}

# Which tests failed, and what golden output differs, again at the end: where only the last lines of a run are kept, these are
# the ones that tell why.
show_failures() {
    local log=$1
    grep -E '^not ok |^test +[^ ]+ +\.\.\. FAILED|^FAILED |^error(\[|:)' "$log" | sort -u | tail -n 10 || true
    grep -E '^[-+]' "$log" | grep -vE '^(---|\+\+\+) ' | tail -n 12 || true
}

stage() {
    local name=$1 started status log=$LOGS/$1.log
    started=$(now)
    say "=== $name (at $(since "$began") s)"
    set +e
    (
        set -e
        [[ $name == setup ]] || require_postgres
        "run_$name"
    ) </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    count "$log" "$status"
    if ((status == 0)); then
        say "=== $name: ${GREEN}ok${RESET}${BOLD} in $(since "$started") s"
        return 0
    fi
    say "=== $name: ${RED}failed${RESET}${BOLD} after $(since "$started") s; the log is $log"
    local server_log
    for server_log in "$WORK"/{cluster,demo}/log; do
        if [[ -s $server_log ]] && [[ $name =~ ^(regress|isolation|clients|demo)$ ]]; then
            note "last lines of $server_log:"
            tail -n 30 "$server_log"
        fi
    done
    show_failures "$log"
    echo "$passed passed, $failed failed"
    exit 1
}

if (($#)); then stages=("$@"); else stages=("${ALL_STAGES[@]}"); fi
for name in "${stages[@]}"; do
    [[ " ${ALL_STAGES[*]} " == *" $name "* ]] || die "unknown stage \"$name\"" "stages are: ${ALL_STAGES[*]}"
done
for name in "${stages[@]}"; do stage "$name"; done
say "all of it took $(since "$began") s"
echo "$passed passed, $failed failed"
