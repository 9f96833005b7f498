"""Bulk loading and unloading with COPY, binary and text, as clients that load embeddings do."""

import numpy as np
import pytest
from pgvector import Bit, HalfVector, SparseVector, Vector

from samples import ALL, bits, raw

ROWS = 5000
COLUMNS = ["int4", "vector", "halfvec", "sparsevec", "bit"]


@pytest.fixture
def items(connection):
    connection.execute(
        "CREATE TEMPORARY TABLE items (id integer PRIMARY KEY, v vector(64), h halfvec(64), s sparsevec(1000), b bit(64))"
    )
    return connection


def rows(count: int) -> list[tuple]:
    """Some thousand rows; every hundredth has NULLs."""
    rng = np.random.default_rng(1)
    dense = rng.standard_normal((count, 64), dtype=np.float32)
    found = []
    for i in range(count):
        if i % 100 == 99:
            found.append((i, None, None, None, None))
            continue
        indices = rng.choice(1000, i % 30, replace=False).tolist()
        sparse = SparseVector(dict(zip(indices, dense[i].tolist())), 1000)
        found.append((i, Vector(dense[i]), HalfVector(dense[i]), sparse, Bit(dense[i] > 0)))
    return found


def same(got, expected) -> bool:
    return [tuple(map(raw_or_number, row)) for row in got] == [tuple(map(raw_or_number, row)) for row in expected]


def raw_or_number(value):
    if isinstance(value, str):
        value = Bit(value)
    return value if isinstance(value, int) else raw(value)


def load(connection, binary: bool, data: list[tuple]):
    options = "(FORMAT binary)" if binary else ""
    with connection.cursor().copy(f"COPY items FROM STDIN {options}") as copy:
        copy.set_types(COLUMNS)
        for row in data:
            copy.write_row(row)


@pytest.mark.parametrize("binary", [True, False])
def test_copy_in(items, binary):
    data = rows(ROWS)
    load(items, binary, data)
    assert same(items.execute("SELECT * FROM items ORDER BY id").fetchall(), data)
    # What was loaded is of use to the server, too.
    count, nearest = items.execute(
        "SELECT count(*), min(v <-> %s), min(h <#> %s), min(s <+> %s) FROM items", [data[7][1], data[7][2], data[7][3]]
    ).fetchone()[:2]
    assert (count, nearest) == (ROWS, 0)


@pytest.mark.parametrize("binary", [True, False])
def test_copy_out(items, binary):
    data = rows(ROWS)
    load(items, True, data)
    got = []
    options = "(FORMAT binary)" if binary else ""
    with items.cursor().copy(f"COPY (SELECT * FROM items ORDER BY id) TO STDOUT {options}") as copy:
        copy.set_types(COLUMNS)
        for row in copy.rows():
            # COPY in text gives bits as text, in binary as bytes: psycopg has no reader of its own for them.
            bit = row[4]
            if isinstance(bit, (bytes, memoryview)):
                bit = Bit.from_binary(bit)
            got.append((*row[:4], bit))
    assert same(got, data)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_copy_of_samples(connection, name, binary):
    """Every sample, also those of 16000 elements, and arrays of them."""
    make, _ = ALL[name]
    connection.execute(f"CREATE TEMPORARY TABLE samples (id integer, v {name}, vs {name}[])")
    data = [(i, v, [v, None, v]) for i, v in enumerate(make())]
    options = "(FORMAT binary)" if binary else ""
    with connection.cursor().copy(f"COPY samples FROM STDIN {options}") as copy:
        copy.set_types(["int4", name, f"{name}[]"])
        for row in data:
            copy.write_row(row)
    got = connection.execute("SELECT v, vs FROM samples ORDER BY id", binary=True).fetchall()
    assert [(raw(v), list(map(raw, vs))) for v, vs in got] == [(raw(v), list(map(raw, vs))) for _, v, vs in data]


def test_copy_of_bits(connection):
    connection.execute("CREATE TEMPORARY TABLE samples (id integer, b bit varying)")
    values = bits()
    with connection.cursor().copy("COPY samples FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "bit"])  # the wire format of both is the same, and pgvector's adapter is for bit
        for row in enumerate(values):
            copy.write_row(row)
    got = connection.execute("SELECT b FROM samples ORDER BY id").fetchall()
    assert [Bit(b) for (b,) in got] == values


def test_binary_out_is_binary_in(items):
    """The stream of one COPY is what the next one reads, byte by byte."""
    load(items, True, rows(300))
    with items.cursor().copy("COPY (SELECT * FROM items ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        first = b"".join(bytes(block) for block in copy)
    items.execute("TRUNCATE items")
    with items.cursor().copy("COPY items FROM STDIN (FORMAT binary)") as copy:
        copy.write(first)
    with items.cursor().copy("COPY (SELECT * FROM items ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
        second = b"".join(bytes(block) for block in copy)
    assert first == second
