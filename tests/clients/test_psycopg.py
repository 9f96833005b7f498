"""psycopg 3 with pgvector's adapters: text and binary, parameters and results, arrays, NULL, prepared statements."""

import numpy as np
import psycopg
import pytest
from pgvector import Bit, HalfVector, SparseVector, Vector
from psycopg.types import TypeInfo

import samples
from samples import ALL, raw

# How parameters go and results come: %t is text, %b binary
FORMATS = [("%t", False), ("%t", True), ("%b", False), ("%b", True)]


@pytest.mark.parametrize("placeholder,binary", FORMATS)
@pytest.mark.parametrize("name", ALL)
def test_round_trip(connection, name, placeholder, binary):
    make, kind = ALL[name]
    with connection.cursor(binary=binary) as cursor:
        for value in make():
            got = cursor.execute(f"SELECT {placeholder}", [value]).fetchone()[0]
            assert isinstance(got, kind)
            assert raw(got) == raw(value)


@pytest.mark.parametrize("placeholder,binary", FORMATS)
def test_round_trip_of_bit(connection, placeholder, binary):
    with connection.cursor(binary=binary) as cursor:
        for value in samples.bits():
            # bit without a length is bit(1) in a cast, so the parameter keeps the type that its adapter gives it.
            got, length = cursor.execute(f"SELECT v, length(v) FROM (SELECT {placeholder} AS v) s", [value]).fetchone()
            assert Bit(got) == value if isinstance(got, str) else Bit.from_binary(got) == value
            assert length == len(value.to_text())


@pytest.mark.parametrize("name", ALL)
def test_parameters_have_the_type(connection, name):
    make, _ = ALL[name]
    assert connection.execute("SELECT pg_typeof(%s)::text", [make()[0]]).fetchone() == (name,)


def test_arrays_of_numpy_are_vectors(connection):
    value = samples.SINGLES
    for placeholder in ["%t", "%b"]:
        got = connection.execute(f"SELECT {placeholder}", [value], binary=True).fetchone()[0]
        assert got.to_numpy().tobytes() == value.tobytes()
    got = connection.execute("SELECT %s::halfvec", [np.array([1, 2.5], dtype=np.float64)]).fetchone()[0]
    assert got == HalfVector([1, 2.5])


@pytest.mark.parametrize("name", ALL)
def test_text_without_adapters(plain, name):
    """A client that knows no vectors sends and gets their text."""
    make, kind = ALL[name]
    for value in make():
        got = plain.execute(f"SELECT %s::{name}", [value.to_text()]).fetchone()[0]
        assert isinstance(got, str)
        assert raw(kind.from_text(got)) == raw(value)


@pytest.mark.parametrize("name", ALL)
def test_binary_without_adapters(plain, name):
    make, _ = ALL[name]
    with plain.cursor(binary=True) as cursor:
        for value in make():
            got = cursor.execute(f"SELECT %s::{name}", [value.to_text()]).fetchone()[0]
            assert bytes(got) == raw(value)


@pytest.mark.parametrize("placeholder,binary", FORMATS)
def test_null(connection, placeholder, binary):
    row = connection.execute(
        f"SELECT {placeholder}::vector, {placeholder}::halfvec, {placeholder}::sparsevec, {placeholder}::bit(3)",
        [None] * 4,
        binary=binary,
    ).fetchone()
    assert row == (None,) * 4


@pytest.mark.parametrize("placeholder,binary", FORMATS)
@pytest.mark.parametrize("name", ALL)
def test_arrays(connection, name, placeholder, binary):
    make, _ = ALL[name]
    values = [*make(), None, make()[0]]
    got = connection.execute(f"SELECT {placeholder}::{name}[]", [values], binary=binary).fetchone()[0]
    assert [raw(v) for v in got] == [raw(v) for v in values]
    nested = [values[:2], values[2:4]]
    got = connection.execute(f"SELECT {placeholder}::{name}[]", [nested], binary=binary).fetchone()[0]
    assert [[raw(v) for v in row] for row in got] == [[raw(v) for v in row] for row in nested]


def test_any_of_an_array(connection):
    found = connection.execute(
        "SELECT v FROM unnest(%s::vector[]) v WHERE v = ANY (%s) ORDER BY v",
        [[Vector([2]), Vector([1]), Vector([3])], [Vector([3]), Vector([1])]],
    ).fetchall()
    assert found == [(Vector([1]),), (Vector([3]),)]


def test_prepared_statements(connection):
    """The same statement, prepared on the server, many times and in both formats: plans become generic."""
    connection.execute("CREATE TEMPORARY TABLE items (id integer, v vector(3), h halfvec(3), s sparsevec(3), b bit(3))")
    insert = "INSERT INTO items VALUES (%s, %b, %b, %b, %b)"
    for i in range(20):
        row = [i, Vector([i, 0, 1]), HalfVector([i, 0, 1]), SparseVector([i, 0, 1]), Bit(format(i % 8, "03b"))]
        connection.execute(insert, row, prepare=True)
    for query, value in [
        ("SELECT id FROM items ORDER BY v <-> %s, id LIMIT 3", Vector([7, 0, 1])),
        ("SELECT id FROM items ORDER BY h <-> %s, id LIMIT 3", HalfVector([7, 0, 1])),
        ("SELECT id FROM items ORDER BY s <-> %s, id LIMIT 3", SparseVector([7, 0, 1])),
    ]:
        for placeholder in ["%t", "%b"] * 4:
            rows = connection.execute(query.replace("%s", placeholder), [value], prepare=True).fetchall()
            assert [i for (i,) in rows] == [7, 6, 8]
    rows = connection.execute("SELECT id FROM items ORDER BY b <~> %s, id LIMIT 2", [Bit("111")], prepare=True)
    assert rows.fetchall() == [(7,), (15,)]
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0] >= 5


def test_many_and_pipeline(connection):
    connection.execute("CREATE TEMPORARY TABLE items (id integer, v vector(3))")
    rows = [(i, Vector([i, -i, 0.5])) for i in range(500)]
    connection.cursor().executemany("INSERT INTO items VALUES (%s, %s)", rows[:250])
    with connection.pipeline():
        for row in rows[250:]:
            connection.execute("INSERT INTO items VALUES (%s, %b)", row)
    assert connection.execute("SELECT id, v FROM items ORDER BY id").fetchall() == rows


@pytest.mark.parametrize("binary", [False, True])
def test_cursor_on_the_server(connection, binary):
    with connection.transaction(), connection.cursor(name="c", binary=binary) as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT ARRAY[i, i + 1]::vector, ARRAY[i]::sparsevec FROM generate_series(1, 1000) i")
        assert [(v.to_list(), s.to_list()) for v, s in cursor] == [([i, i + 1], [i]) for i in range(1, 1001)]


def test_type_information(connection):
    for name in ALL:
        info = TypeInfo.fetch(connection, name)
        assert info is not None and info.array_oid != 0 and info.delimiter == ","
        assert info.regtype == name
    column = connection.execute("SELECT '[1,2,3]'::vector(3) AS v").description[0]
    assert (column.name, column.type_code) == ("v", TypeInfo.fetch(connection, "vector").oid)


def test_errors_have_codes(connection):
    with pytest.raises(psycopg.errors.DataException, match="^expected 2 dimensions, not 3$"):
        connection.execute("SELECT %s::vector(2)", [Vector([1, 2, 3])])
    with pytest.raises(psycopg.errors.DataException, match="^different vector dimensions 1 and 2$"):
        connection.execute("SELECT %s <-> %s", [Vector([1]), Vector([1, 2])])
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match='^"65520" is out of range for type halfvec$'):
        connection.execute("SELECT %s::halfvec", [Vector([65520])])
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        connection.execute("SELECT %s::vector", ["[1,"])
    assert connection.execute("SELECT 1").fetchone() == (1,)
