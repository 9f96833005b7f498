"""asyncpg, whose codecs for pgvector are binary, and which prepares every statement."""

import asyncio

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector, SparseVector, Vector
from pgvector.asyncpg import register_vector

import samples
from samples import ALL, raw


@pytest.fixture
def run(database):
    """Runs a coroutine function with a connection that has the codecs."""

    def runner(body, register=True):
        async def connected():
            connection = await asyncpg.connect(database=database)
            try:
                if register:
                    await register_vector(connection)
                return await body(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    return runner


@pytest.mark.parametrize("name", ALL)
def test_round_trip(run, name):
    make, kind = ALL[name]

    async def body(connection):
        for value in make():
            got = await connection.fetchval(f"SELECT $1::{name}", value)
            assert isinstance(got, kind)
            assert raw(got) == raw(value)
        assert await connection.fetchval(f"SELECT $1::{name}", None) is None

    run(body)


@pytest.mark.parametrize("name", ALL)
def test_arrays(run, name):
    make, _ = ALL[name]

    async def body(connection):
        values = [*make(), None]
        got = await connection.fetchval(f"SELECT $1::{name}[]", values)
        assert [raw(v) for v in got] == [raw(v) for v in values]
        nested = [values[:2], values[2:4]]
        got = await connection.fetchval(f"SELECT $1::{name}[]", nested)
        assert [[raw(v) for v in row] for row in got] == [[raw(v) for v in row] for row in nested]

    run(body)


@pytest.mark.parametrize("name", ALL)
def test_text_codec(run, name):
    """A client that knows no vectors may ask for their text."""
    make, kind = ALL[name]

    async def body(connection):
        await connection.set_type_codec(name, schema="public", encoder=str, decoder=str, format="text")
        for value in make():
            got = await connection.fetchval(f"SELECT $1::{name}", value.to_text())
            assert raw(kind.from_text(got)) == raw(value)

    run(body, register=False)


def test_lists_and_numpy(run):
    async def body(connection):
        assert (await connection.fetchval("SELECT $1::vector", [1, 2.5])) == Vector([1, 2.5])
        value = samples.random_singles(1, 500)
        got = await connection.fetchval("SELECT $1::vector", value)
        assert got.to_numpy().tobytes() == value.tobytes()
        assert (await connection.fetchval("SELECT $1::halfvec", [1, 2.5])) == HalfVector([1, 2.5])
        assert (await connection.fetchval("SELECT $1::sparsevec", np.array([0, 2.5]))) == SparseVector({1: 2.5}, 2)

    run(body)


def test_bits(run):
    async def body(connection):
        for value in samples.bits():
            text = value.to_text()
            got = await connection.fetchval("SELECT $1::varbit", asyncpg.BitString(text))
            assert got.as_string().replace(" ", "") == text
            ones = await connection.fetchval("SELECT $1::varbit <~> ~ $1::varbit", asyncpg.BitString(text))
            assert ones == len(text)
        quantized = await connection.fetchval("SELECT binary_quantize($1::vector)", [1, -1, 2])
        assert quantized.as_string().replace(" ", "") == "101"

    run(body)


def test_table_with_copy(run):
    """copy_records_to_table is binary COPY; the columns' codecs encode."""
    count = 4000
    rng = np.random.default_rng(2)
    dense = rng.standard_normal((count, 32), dtype=np.float32)

    async def body(connection):
        await connection.execute("CREATE TABLE items (id integer, v vector(32), h halfvec(32), s sparsevec(32))")
        records = [(i, dense[i], dense[i], dense[i] * (dense[i] > 1)) for i in range(count)]
        records.append((count, None, None, None))
        await connection.copy_records_to_table("items", records=records)
        got = await connection.fetch("SELECT * FROM items ORDER BY id")
        assert len(got) == count + 1 and got[-1]["v"] is None
        for row, vector in zip(got, dense):
            assert row["v"].to_numpy().tobytes() == vector.tobytes()
            assert row["h"].to_numpy().tobytes() == vector.astype(np.float16).tobytes()
            assert (row["s"].to_numpy() == vector * (vector > 1)).all()

        # Nearest neighbours as numpy finds them, with a prepared statement
        statement = await connection.prepare("SELECT id, v <-> $1 AS distance FROM items ORDER BY v <-> $1, id LIMIT 5")
        for query in dense[:10]:
            rows = await statement.fetch(query)
            expected = np.sqrt(((dense.astype(np.float64) - query) ** 2).sum(axis=1))
            assert [row["id"] for row in rows] == np.argsort(expected, kind="stable")[:5].tolist()
            np.testing.assert_allclose([row["distance"] for row in rows], np.sort(expected)[:5], rtol=1e-5, atol=1e-6)

        # Rows in batches of a cursor
        async with connection.transaction():
            seen = [row["id"] async for row in connection.cursor("SELECT id, v FROM items ORDER BY id", prefetch=100)]
        assert seen == list(range(count + 1))

    run(body)


def test_aggregates(run):
    async def body(connection):
        row = await connection.fetchrow(
            "SELECT avg(v), sum(v), avg(v::halfvec) AS avg_half FROM unnest($1::vector[]) v",
            [Vector([1, 2]), Vector([3, 6]), None],
        )
        assert (row["avg"], row["sum"], row["avg_half"]) == (Vector([2, 4]), Vector([4, 8]), HalfVector([2, 4]))

    run(body)


def test_errors(run):
    async def body(connection):
        for query, value, error, message in [
            ("SELECT $1::vector(2)", [1, 2, 3], asyncpg.DataError, "expected 2 dimensions, not 3"),
            ("SELECT $1::vector", [float("nan")], asyncpg.DataError, "NaN not allowed in vector"),
            ("SELECT $1::vector", [float("inf")], asyncpg.DataError, "infinite value not allowed in vector"),
            ("SELECT $1::halfvec", [float("nan")], asyncpg.DataError, "NaN not allowed in halfvec"),
            ("SELECT $1::vector", [], asyncpg.DataError, "vector must have at least 1 dimension"),
            ("SELECT $1::vector", [0] * 16001, asyncpg.ProgramLimitExceededError, "vector cannot have more than 16000 dimensions"),
            ("SELECT $1::sparsevec", SparseVector({3: 1}, 3), asyncpg.DataError, "sparsevec index out of bounds"),
            ("SELECT $1::vector + $1::vector", [3e38], asyncpg.NumericValueOutOfRangeError, "value out of range: overflow"),
        ]:  # fmt: skip
            with pytest.raises(error) as raised:
                await connection.fetchval(query, value)
            assert raised.value.message == message
        assert await connection.fetchval("SELECT 1") == 1

    run(body)
