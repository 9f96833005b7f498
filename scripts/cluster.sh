#!/usr/bin/env bash
# A private, throwaway PostgreSQL cluster, with its own copy of the PostgreSQL programs and its own extension folder.
#
#   scripts/cluster.sh tree      make the private installation only, print its pg_config
#   scripts/cluster.sh start     make what is missing, start the server; does nothing when it runs
#   scripts/cluster.sh stop      stop the server
#   scripts/cluster.sh destroy   stop the server, delete the folder
#   scripts/cluster.sh psql …    open psql on it
#   scripts/cluster.sh env       print PGHOST, PGPORT, PGUSER and PG_CONFIG of it as shell assignments
#
# PG_RAG_CLUSTER_DIR   its folder (default .demo in the checkout)
# PG_RAG_CLUSTER_CONF  more lines for postgresql.conf, at the time the cluster is made
#
#   DIR/pgsql    the installation: programs copied, everything else linked to the PostgreSQL of PG_CONFIG. PostgreSQL
#                finds its folders relative to its program, so an extension goes in here and the system stays as it is.
#   DIR/data     data directory          DIR/log       server log          DIR/port      port number
#   DIR/socket   socket folder, closed to other users: whoever can enter it is superuser of this cluster
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"

readonly MARKER=.pg_rag_cluster
readonly SOCKET_PATH_BYTES=107
DIR=${PG_RAG_CLUSTER_DIR:-$ROOT/.demo}
[[ $DIR == /* ]] || DIR=$PWD/$DIR
readonly DIR

# Makes DIR. Where the checkout is closed to the cluster's user (a checkout of root under /root), the folder lies under
# /var/tmp and DIR is a link to it.
make_folder() {
    if [[ -e $DIR/$MARKER ]]; then return 0; fi
    [[ ! -e $DIR ]] || [[ -z $(ls -A "$DIR") ]] || die "\"$DIR\" exists and is not a cluster of pg_rag"
    if [[ -L $DIR ]]; then rm "$DIR"; fi
    mkdir -p "$DIR"
    if ! as_pg test -x "$DIR"; then
        local outside
        outside=$(mktemp -d "/var/tmp/pg_rag-$(basename "$DIR" | tr -d .)-XXXXXX")
        chmod 755 "$outside"
        rmdir "$DIR"
        ln -s "$outside" "$DIR"
    fi
    touch "$DIR/$MARKER"
}

real_dir() { readlink -f "$DIR"; }

# --- the private installation ----------------------------------------------------------------------------------------

# Prints where the private twin of folder $1 of the system's PostgreSQL lies.
twin() { echo "$(real_dir)/pgsql$1"; }

make_tree() {
    require_postgres
    local bin lib share headers stamp
    bin=$("$PG_CONFIG" --bindir) lib=$("$PG_CONFIG" --pkglibdir) share=$("$PG_CONFIG" --sharedir)
    headers=$("$PG_CONFIG" --includedir-server)
    # Of a shell that evaluated "cluster.sh env": PG_CONFIG is this installation itself.
    if [[ $(readlink -f "$bin") == "$(real_dir)"/* ]]; then return 0; fi
    stamp="$("$PG_CONFIG" --version) $(stat -L -c %Y "$bin/postgres") $bin $headers"
    if [[ $(cat "$DIR/pgsql/stamp" 2>/dev/null) == "$stamp" ]]; then return 0; fi
    stop # the system's PostgreSQL was replaced
    rm -rf "$DIR/pgsql"
    mkdir -p "$(twin "$bin")" "$(twin "$lib")" "$(twin "$share")"
    cp -L "$bin"/* "$(twin "$bin")/" # a link would lead PostgreSQL back to the system's folders
    cp -Rs "$lib/." "$(twin "$lib")/"
    cp -Rs "$share/." "$(twin "$share")/"
    # For builds against the private pg_config.
    mkdir -p "$(dirname "$(twin "$headers")")"
    ln -s "$headers" "$(twin "$headers")"
    # An installed pg_rag is not ours.
    rm -rf "$(twin "$lib")"/pg_rag* "$(twin "$share")"/extension/pg_rag*
    printf '%s\n' "$stamp" >"$DIR/pgsql/stamp"
}

# The pg_config of the private installation, without knowing the system's one.
private_pg_config() { find "$(real_dir)/pgsql" -type f -name pg_config -path '*/bin/*' | head -n 1; }

# --- the server ------------------------------------------------------------------------------------------------------

pg_ctl() { as_pg "$(dirname "$(private_pg_config)")/pg_ctl" -D "$(real_dir)/data" "$@"; }
running() { [[ -d $DIR/data && -d $DIR/pgsql ]] && pg_ctl status >/dev/null 2>&1; }

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000)) # below the range from which the kernel takes ports of outgoing connections
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    done
    echo "$port"
}

# A socket's path has a low limit: in a deep checkout the folder lies under /tmp and DIR/socket is a link.
make_socket_folder() {
    if [[ -d $DIR/socket ]]; then return 0; fi
    rm -f "$DIR/socket" # a link whose target is gone
    local path
    path=$(real_dir)/socket/.s.PGSQL.00000
    if ((${#path} <= SOCKET_PATH_BYTES)); then
        mkdir "$DIR/socket"
    else
        ln -s "$(mktemp -d /tmp/pg_rag-XXXXXX)" "$DIR/socket"
    fi
    if is_root; then chown postgres: "$(readlink -f "$DIR/socket")"; fi
    chmod 700 "$(readlink -f "$DIR/socket")"
}

make_data() {
    if [[ -f $DIR/data/PG_VERSION ]]; then return 0; fi
    local real
    real=$(real_dir)
    rm -rf "$DIR/data"
    mkdir -m 700 "$DIR/data"
    touch "$DIR/log"
    if is_root; then chown postgres: "$DIR/data" "$DIR/log"; fi
    # No password is set, so nobody comes in over TCP until somebody sets one.
    as_pg "$(dirname "$(private_pg_config)")/initdb" -D "$real/data" -U postgres -E UTF8 --locale=C.UTF-8 \
        --auth-local=trust --auth-host=scram-sha-256 >"$DIR/initdb.log" 2>&1 || {
        cat "$DIR/initdb.log" >&2
        rm -rf "$DIR/data"
        die "initdb failed"
    }
    {
        echo "listen_addresses = '127.0.0.1'"
        echo "shared_buffers = 256MB"
        echo "max_connections = 50"
        if [[ $PG_RAG_MODELS != "$DEFAULT_MODELS" ]]; then echo "pg_rag.model_path = '$PG_RAG_MODELS'"; fi
        printf '%s\n' "${PG_RAG_CLUSTER_CONF:-}"
    } >>"$DIR/data/postgresql.conf"
}

start() {
    make_folder
    make_tree
    if running; then return 0; fi
    make_data
    make_socket_folder
    local socket attempt
    socket=$(readlink -f "$DIR/socket")
    for attempt in 1 2 3; do
        # The port of last time, if it is still free: then the psql line of last time still works.
        if [[ $attempt -gt 1 || ! -s $DIR/port ]] || (exec 3<>"/dev/tcp/127.0.0.1/$(<"$DIR/port")") 2>/dev/null; then
            free_port >"$DIR/port"
        fi
        # Not to the terminal or to a pipe of ours: the server lives on.
        if pg_ctl start -w -t 60 -s -l "$(real_dir)/log" -o "-p $(<"$DIR/port") -k '$socket'" </dev/null >/dev/null 2>&1; then
            return 0
        fi
    done
    tail -n 20 "$DIR/log" >&2
    die "the cluster in \"$DIR\" did not start" "see $DIR/log"
}

stop() {
    if running; then pg_ctl stop -m fast -w -t 30 -s || pg_ctl stop -m immediate -w -s; fi
}

destroy() {
    if [[ ! -e $DIR ]]; then
        if [[ -L $DIR ]]; then rm "$DIR"; fi
        return 0
    fi
    [[ -e $DIR/$MARKER ]] || die "\"$DIR\" is not a cluster of pg_rag: nothing deleted"
    stop
    local real
    real=$(real_dir)
    if [[ -L $DIR/socket ]]; then rm -rf "$(readlink -f "$DIR/socket")"; fi
    rm -rf "$real"
    if [[ -L $DIR ]]; then rm "$DIR"; fi
}

print_env() {
    [[ -s $DIR/port ]] || die "no cluster in \"$DIR\"" "run \"scripts/cluster.sh start\""
    printf 'export PGHOST=%q PGPORT=%q PGUSER=postgres PG_CONFIG=%q\n' \
        "$(readlink -f "$DIR/socket")" "$(<"$DIR/port")" "$(private_pg_config)"
}

case ${1:-} in
tree)
    make_folder
    make_tree
    private_pg_config
    ;;
start) start ;;
stop) stop ;;
destroy) destroy ;;
env) print_env ;;
psql)
    shift
    eval "$(print_env)"
    exec "$("$PG_CONFIG" --bindir)/psql" "$@"
    ;;
*) die "usage: scripts/cluster.sh tree|start|stop|destroy|psql|env" ;;
esac
