#!/usr/bin/env bash
# Installs what is missing to build, test or demonstrate pg_rag on Debian or Ubuntu, and nothing else.
#
#   scripts/setup.sh [build|test|demo]
#
# Runs as root or as a user with sudo. A second run finds everything and does nothing. No database cluster is created,
# and no existing one is touched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"

scope=${1:-build}
[[ $scope =~ ^(build|test|demo)$ ]] || die "unknown scope \"$scope\"" "use build, test or demo"

# --- Debian packages -------------------------------------------------------------------------------------------------

missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
    done
}

apt_updated=no
apt_update() {
    [[ $apt_updated == no ]] || return 0
    as_root apt-get update -qq
    apt_updated=yes
}

apt_install() {
    apt_update
    say "installing: $*"
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
        apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# The PostgreSQL package would create and start a cluster "main"; a drop-in prevents that for this one installation.
install_postgres_server() {
    local dropin=/etc/postgresql-common/createcluster.d/zz-pg_rag-setup.conf
    [[ -z $(missing_packages postgresql-common) ]] || apt_install postgresql-common
    as_root mkdir -p "$(dirname "$dropin")"
    printf '%s\n' "create_main_cluster = false" | as_root tee "$dropin" >/dev/null
    local status=0
    apt_install "$@" || status=$?
    as_root rm -f "$dropin"
    return "$status"
}

install_packages() {
    local wanted=(build-essential pkg-config libclang-dev clang libssl-dev ca-certificates python3)
    if [[ $scope != build ]]; then wanted+=(python3-pip); fi
    if [[ $scope == test ]]; then wanted+=(python3-venv); fi # for tests/clients
    if [[ $scope == test ]] && is_root; then wanted+=(sudo); fi # `cargo pgrx test --runas` calls it

    local config major server=()
    if config=$(find_pg_config); then
        major=$("$config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    elif [[ -n ${PG_CONFIG:-} ]]; then
        die "PG_CONFIG names no pg_config: \"$PG_CONFIG\""
    else
        apt_update
        major=$(apt-cache depends postgresql | sed -nE 's/.*Depends: postgresql-([0-9]+)$/\1/p' | head -n 1)
        [[ -n $major ]] || die "the distribution offers no PostgreSQL" "install a server and set PG_CONFIG"
        server=("postgresql-$major")
        config=/usr/lib/postgresql/$major/bin/pg_config
    fi
    # Headers come with a PostgreSQL from source; the distribution ships them apart.
    if [[ $config == /usr/lib/postgresql/* ]]; then wanted+=("postgresql-server-dev-$major"); fi
    if [[ $scope != build && ! -f $(manual_folder "$major")/index.html ]]; then wanted+=("postgresql-doc-$major"); fi

    local missing
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    if ((${#server[@]})); then
        install_postgres_server "${server[@]}"
    fi
    if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
    if [[ $scope != build ]]; then unpack_manual "$major"; fi
}

manual_folder() {
    local packaged=/usr/share/doc/postgresql-doc-$1/html
    if [[ -f $packaged/index.html ]]; then echo "$packaged"; else echo "$ROOT/target/manual$packaged"; fi
}

# Minimal images tell dpkg to leave out /usr/share/doc: then the package's files are unpacked under target/.
unpack_manual() {
    [[ ! -f $(manual_folder "$1")/index.html ]] || return 0
    local download
    apt_update
    download=$(mktemp -d)
    (cd "$download" && apt-get download -qq "postgresql-doc-$1")
    mkdir -p "$ROOT/target/manual"
    dpkg-deb -x "$download"/postgresql-doc-*.deb "$ROOT/target/manual"
    rm -rf "$download"
    [[ -f $(manual_folder "$1")/index.html ]] || die "package postgresql-doc-$1 holds no HTML manual"
}

# --- Rust ------------------------------------------------------------------------------------------------------------

check_rust() {
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        die "no Rust toolchain found" "install one with rustup (https://rustup.rs), then run this again"
    fi
    local needed found
    needed=$(sed -nE 's/^rust-version = "([0-9.]+)"$/\1/p' "$ROOT/Cargo.toml" | head -n 1)
    found=$(rustc --version | awk '{ print $2 }')
    [[ $(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1) == "$needed" ]] ||
        die "rustc $found is too old: pg_rag needs $needed" "run \"rustup update stable\""
}

# The version is pinned to that of the pgrx crate. A user's own cargo-pgrx of another version stays as it is: ours then
# goes under target/, which PATH of every script names first.
install_cargo_pgrx() {
    local found
    found=$(cargo-pgrx --version 2>/dev/null | awk '{ print $2 }' || true)
    [[ $found != "$PGRX_VERSION" ]] || return 0
    say "installing: cargo-pgrx $PGRX_VERSION"
    # Not optimised: it is a driver of cargo, and a release build would take several minutes longer.
    CARGO_TARGET_DIR=$ROOT/target/tools/build cargo install cargo-pgrx --version "$PGRX_VERSION" --locked --debug \
        --config profile.dev.debug=false --root "$ROOT/target/tools" --no-track --force --quiet
    rm -rf "$ROOT/target/tools/build"
}

# Writes only the entry of this PostgreSQL, and only if there is none. `--no-run` keeps pgrx from making a cluster.
init_pgrx() {
    if grep -qsE "^pg$PG_MAJOR *=" "$PGRX_HOME/config.toml"; then return 0; fi
    say "registering PostgreSQL $PG_MAJOR with pgrx"
    cargo pgrx init --no-run "--pg$PG_MAJOR" "$PG_CONFIG"
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    install_packages
else
    note "not a Debian system: PostgreSQL with headers, libclang and a C compiler must be there already"
fi
require_postgres
[[ -f $("$PG_CONFIG" --includedir-server)/postgres.h ]] ||
    die "no server headers for $PG_CONFIG" "install the development package of PostgreSQL $PG_MAJOR"
check_rust
install_cargo_pgrx
init_pgrx
