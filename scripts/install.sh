#!/usr/bin/env bash
# Builds pg_rag and installs it into the PostgreSQL of PG_CONFIG, with the model server beside the library.
#
#   scripts/install.sh [--profile dev|release] [--build-only]      scripts/install.sh --uninstall
#
# Installs only what changed. Asks for root only if the folders of that PostgreSQL are not writable.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "$0")/env.sh"

profile=dev action=install
while (($#)); do
    case $1 in
    --profile)
        profile=${2:?"--profile needs a value"}
        shift
        ;;
    --build-only) action=build ;;
    --uninstall) action=uninstall ;;
    *) die "unknown option \"$1\"" "use --profile dev|release, --build-only or --uninstall" ;;
    esac
    shift
done
[[ $profile =~ ^(dev|release)$ ]] || die "unknown profile \"$profile\"" "use dev or release"
require_postgres
cd "$ROOT"

LIBRARY_FOLDER=$("$PG_CONFIG" --pkglibdir)
EXTENSION_FOLDER=$("$PG_CONFIG" --sharedir)/extension
readonly LIBRARY_FOLDER EXTENSION_FOLDER
if [[ -w $LIBRARY_FOLDER && -w $EXTENSION_FOLDER ]]; then writer=() sudo=(); else writer=(as_root) sudo=(--sudo); fi

installed_files() {
    find "$LIBRARY_FOLDER" -maxdepth 1 \( -name 'pg_rag.*' -o -name pg_rag_server \) 2>/dev/null
    find "$EXTENSION_FOLDER" -maxdepth 1 \( -name pg_rag.control -o -name 'pg_rag--*.sql' \) 2>/dev/null
}

if [[ $action == uninstall ]]; then
    mapfile -t files < <(installed_files)
    if ((${#files[@]})); then
        "${writer[@]}" rm -f "${files[@]}"
        printf 'removed %s\n' "${files[@]}"
    else
        note "pg_rag is not installed in $LIBRARY_FOLDER"
    fi
    exit 0
fi

if [[ $profile == release ]]; then flags=(--release) built=$ROOT/target/release; else flags=() built=$ROOT/target/debug; fi
read -ra features < <(pg_features)

# Two builds, as `cargo pgrx install` builds the library alone: with both in one, cargo would unite their features.
cargo build "${flags[@]}" -p pg_rag_model --bin pg_rag_server
cargo build "${flags[@]}" --lib "${features[@]}"
if [[ $action == build ]]; then exit 0; fi

# What the installation was made from, and what it consists of: unchanged means that nothing is to be done.
fingerprint() {
    sha256sum "$built"/libpg_rag.* "$built/pg_rag_server" pg_rag.control Cargo.toml
    find sql -name 'pg_rag--*--*.sql' -exec sha256sum {} + 2>/dev/null | sort
    installed_files | sort | xargs -r stat -c '%n %s %Y'
}
stamp=$ROOT/target/installed-$(printf '%s' "$LIBRARY_FOLDER" | cksum | cut -d ' ' -f 1)
if [[ -f $stamp && $(<"$stamp") == "$(fingerprint)" ]]; then exit 0; fi

cargo pgrx install "${sudo[@]}" --pg-config "$PG_CONFIG" "${flags[@]}" "${features[@]}"
# Renamed into place: a model server that runs keeps its program.
"${writer[@]}" install -m 755 "$built/pg_rag_server" "$LIBRARY_FOLDER/pg_rag_server.new"
"${writer[@]}" mv "$LIBRARY_FOLDER/pg_rag_server.new" "$LIBRARY_FOLDER/pg_rag_server"
fingerprint >"$stamp"
