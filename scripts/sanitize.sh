#!/usr/bin/env bash
# Runs the tests of the inner crates under AddressSanitizer, with arithmetic and pointer checks of the compiler on: the
# index engine by default, or the packages named. A stable toolchain is enough. It takes about five minutes.
#
#   scripts/sanitize.sh [PACKAGE…] [-- TEST]
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
while (($# > 0)) && [[ $1 != -- ]]; do
    packages+=(-p "$1")
    shift
done
((${#packages[@]} > 0)) || packages=(-p pg_rag_engine)
host=$(rustc -vV | sed -n 's/^host: //p')
# The sanitizer is an unstable option of the compiler; the standard library as it comes is good enough for it.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address -Zub-checks=yes -Cdebug-assertions=on -Coverflow-checks=on"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/sanitizer}
exec cargo test "${packages[@]}" --target "$host" --lib --tests "$@"
