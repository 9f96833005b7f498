#!/usr/bin/env bash
# Tests of the vector types through the Python clients of pgvector, unchanged.
#
#   tests/clients/run.sh [VENV [PYTEST-ARGUMENT…]]     VENV: target/test/clients-venv by default
#
# The server is that of PGHOST, PGPORT and PGUSER, whose role may create databases. PG_RAG_TEST_EXTENSION names the
# extension that brings the types: pg_rag by default, vector to compare with pgvector itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=${1:-$here/../../target/test/clients-venv}
shift || true
stamp=$venv/requirements.installed

# A virtual environment that was left half made has no stamp, and is made again.
if ! cmp -s "$here/requirements.txt" "$stamp"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
fi

# No caches in the source folders.
export PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider --rootdir "$here" "$here" "$@"
