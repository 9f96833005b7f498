#!/usr/bin/env bash
# Runs the tests of the index engine under Miri, which interprets them and reports undefined behaviour: accesses outside
# of memory or of a reference's rights, data races, unaligned or uninitialised reads. The tests do less than compiled ones
# (src/engine/test_scale.rs). Needs a nightly toolchain with the components miri and rust-src.
#
#   scripts/miri.sh [TEST…]
set -euo pipefail
cd "$(dirname "$0")/.."

toolchain=${MIRI_TOOLCHAIN:-nightly}
if ! cargo "+$toolchain" miri --version >/dev/null 2>&1; then
    echo "there is no Miri: rustup toolchain install $toolchain --component miri,rust-src" >&2
    exit 1
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/miri} PROPTEST_CASES=${PROPTEST_CASES:-4}

# run NAME MIRIFLAGS RUSTFLAGS TEST…
run() {
    echo "== $1"
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance $2" RUSTFLAGS=$3 \
        cargo "+$toolchain" miri test -p pg_rag_engine --lib -- "${@:4}"
}

if (($# > 0)); then
    run "${*}" "" "" "$@"
    exit
fi
run "all tests, portable kernels" "" ""
# A seed is an order of the steps of the threads.
run "builds by several threads, eight orders" "-Zmiri-many-seeds=0..8" "" hnsw::build::tests
run "the same by the rules of tree borrows" "-Zmiri-tree-borrows" "" hnsw::build::tests code::tests::products
# Of F16C, which the kernels for vectors want beside AVX2, Miri may not know the conversions.
run "AVX2 kernels of codes and of filters" "" "-Ctarget-feature=+avx2" code::tests hnsw::filter
