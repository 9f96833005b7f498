"""A database with the extension for each test module, and connections to it.

The server comes from PGHOST, PGPORT and PGUSER, as libpq reads them. The clients' own helpers that run
"CREATE EXTENSION vector" are never used: which extension brings the types is what PG_RAG_TEST_EXTENSION says.
"""

import os

import psycopg
import pytest
from psycopg import sql

EXTENSION = os.environ.get("PG_RAG_TEST_EXTENSION", "pg_rag")


@pytest.fixture(scope="module")
def database(request):
    """Name of a database that has the extension, and that lives as long as the module."""
    name = "clients_" + request.module.__name__.removeprefix("test_")
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
    with psycopg.connect("dbname=postgres", autocommit=True) as admin:
        admin.execute(drop)
        admin.execute(create)
    with psycopg.connect(dbname=name) as connection:
        connection.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(EXTENSION)))
    yield name
    with psycopg.connect("dbname=postgres", autocommit=True) as admin:
        admin.execute(drop)


@pytest.fixture
def plain(database):
    """A psycopg connection that knows nothing of vectors."""
    with psycopg.connect(dbname=database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def connection(plain):
    """A psycopg connection on which pgvector's adapters are registered."""
    from pgvector.psycopg import register_vector

    register_vector(plain)
    return plain
