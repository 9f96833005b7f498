"""A client has the first piece of an answer while the server writes the rest, however it reads rows one by one."""

import asyncio

import asyncpg
import psycopg
import pytest

from conftest import EXTENSION

pytestmark = pytest.mark.skipif(EXTENSION != "pg_rag", reason="only pg_rag generates")

PROMPT = "Count from one to one thousand, one number on each line."
STREAM = f"SELECT generate_stream('{PROMPT}', max_tokens => 1500, repeat_penalty => 1.0)"


def generating(database):
    with psycopg.connect(dbname=database) as observer:
        return observer.execute("SELECT generating FROM rag_server_status").fetchone()[0]


@pytest.fixture
def loaded(plain):
    """A connection to a server that has loaded the model."""
    plain.execute("SELECT generate('Say hello.', max_tokens => 1)")
    yield plain


def test_rows_of_a_plain_query(loaded, database):
    with loaded.cursor() as cursor:
        pieces = cursor.stream(STREAM)
        assert next(pieces)[0]
        assert generating(database) == 1
        loaded.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            for _ in pieces:
                pass


def test_rows_of_a_cursor_on_the_server(loaded, database):
    with loaded.transaction(), loaded.cursor(name="pieces") as cursor:
        cursor.execute(STREAM)
        assert cursor.fetchone()[0] and cursor.fetchone()[0]
        assert generating(database) == 1


def test_rows_of_a_portal(loaded, database):
    """As JDBC with a fetch size: a portal that is executed for some rows at a time."""

    async def read():
        connection = await asyncpg.connect(database=database)
        async with connection.transaction():
            cursor = await connection.cursor(STREAM)
            assert (await cursor.fetchrow())[0] and (await cursor.fetchrow())[0]
            running = generating(database)
        await connection.close()
        return running

    assert asyncio.run(read()) == 1
