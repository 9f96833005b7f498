# shellcheck shell=bash disable=SC2034
# What every script here shares: where things are, who runs PostgreSQL, how to speak. Sourced, never run.
#
# Settings from outside: PG_CONFIG (which PostgreSQL), PG_RAG_MODELS (folder of the default models),
# NO_COLOR (plain output), PGRX_HOME, CARGO_HOME.

umask 022 # what is installed must be readable by the user who runs PostgreSQL
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly ROOT
readonly PGRX_VERSION=0.18.1
readonly DEFAULT_MODELS=/usr/local/share/pg_rag/models
export PG_RAG_MODELS=${PG_RAG_MODELS:-$DEFAULT_MODELS}
export PGRX_HOME=${PGRX_HOME:-$HOME/.pgrx}
# build.rs keeps pgrx's sections itself; without this, `cargo pgrx install` would build every dependency a second time
# with other linker flags.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
export CARGO_TARGET_DIR=$ROOT/target
# A cargo-pgrx of ours (see setup.sh) comes before another version that the user may have.
export PATH=$ROOT/target/tools/bin:${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' RESET=$'\e[0m'
else
    BOLD='' DIM='' RED='' GREEN='' RESET=''
fi
readonly BOLD DIM RED GREEN RESET

say() { printf '%s\n' "${BOLD}$*${RESET}"; }
note() { printf '%s\n' "${DIM}$*${RESET}"; }
die() {
    printf '%s\n' "${RED}error:${RESET} $1" >&2
    if [[ -n ${2:-} ]]; then printf '%s\n' "hint:  $2" >&2; fi
    exit 1
}

is_root() { [[ $EUID -eq 0 ]]; }

# Runs a command as root.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $*" "install sudo, or run as root"
    fi
}

# The operating-system user that runs throwaway clusters: PostgreSQL refuses root.
pg_owner() { if is_root; then echo postgres; else id -un; fi; }

# Runs a command as that user, from a folder which that user can open.
as_pg() (
    cd /
    if is_root; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups --reset-env env PATH="$PATH" LC_ALL=C.UTF-8 "$@"
    fi
    exec env LC_ALL=C.UTF-8 "$@"
)

# Majors that pgrx knows, newest first.
readonly PG_MAJORS="18 17 16 15"

# Prints the pg_config to use; fails when there is no PostgreSQL server.
find_pg_config() {
    if [[ -n ${PG_CONFIG:-} ]]; then
        command -v "$PG_CONFIG" || return 1
        return
    fi
    local major
    for major in $PG_MAJORS; do
        if [[ -x /usr/lib/postgresql/$major/bin/postgres ]]; then
            echo "/usr/lib/postgresql/$major/bin/pg_config"
            return
        fi
    done
    if command -v pg_config >/dev/null && [[ -x $(pg_config --bindir)/postgres ]]; then
        command -v pg_config
        return
    fi
    return 1
}

# Sets PG_CONFIG and PG_MAJOR, or stops.
require_postgres() {
    PG_CONFIG=$(find_pg_config) || die "no PostgreSQL server found" "run \"make setup\", or set PG_CONFIG"
    PG_MAJOR=$("$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    [[ " $PG_MAJORS " == *" $PG_MAJOR "* ]] ||
        die "PostgreSQL $PG_MAJOR is not supported" "supported are: $PG_MAJORS; set PG_CONFIG"
    export PG_CONFIG PG_MAJOR
}

# Feature flags of the extension's crate: the same for every cargo command, so that all share one build.
pg_features() { echo "--no-default-features --features pg$PG_MAJOR"; }

# Seconds since the epoch, with milliseconds.
now() { printf '%s' "${EPOCHREALTIME/,/.}"; }
# Seconds from $1 until now, one decimal.
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
