"""Binary input that is damaged: what each receive function refuses, with which code and words, and that it never
takes what it would not write itself.

The payloads come by COPY … FROM STDIN (FORMAT binary), and some as parameters, as a client with a bug sends them.
"""

import random
import struct

import psycopg
import pytest
from psycopg import pq

INVALID, LIMIT, PROTOCOL, REPRESENTATION = "22000", "54000", "08P01", "22P03"
SHORT = (PROTOCOL, "insufficient data left in message")
LONG = (REPRESENTATION, "incorrect binary data format")

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)


def copy_stream(*values: bytes) -> bytes:
    """A COPY stream with one column and a row for each value."""
    return SIGNATURE + b"".join(struct.pack(">hi", 1, len(v)) + v for v in values) + TRAILER


def vector(*values: float, dim: int | None = None, unused: int = 0) -> bytes:
    return struct.pack(f">Hh{len(values)}f", len(values) if dim is None else dim, unused, *values)


def halfvec(*values: float, dim: int | None = None, unused: int = 0) -> bytes:
    return struct.pack(f">Hh{len(values)}e", len(values) if dim is None else dim, unused, *values)


def sparsevec(dim: int, elements: list[tuple[int, float]], nnz: int | None = None, unused: int = 0) -> bytes:
    count = len(elements)
    indices, values = [i for i, _ in elements], [v for _, v in elements]
    return struct.pack(f">iii{count}i{count}f", dim, count if nnz is None else nnz, unused, *indices, *values)


def dense_cases(name, make, quiet_nan, other_nan, infinities):
    """Damage that vector and halfvec have in common. Lengths come first, then the unused field, then the values."""
    at_least = (INVALID, f"{name} must have at least 1 dimension")
    too_many = (LIMIT, f"{name} cannot have more than 16000 dimensions")
    nan = (INVALID, f"NaN not allowed in {name}")
    infinite = (INVALID, f"infinite value not allowed in {name}")
    header = make(dim=2)
    return [
        ("nothing", b"", *SHORT),
        ("one byte", b"\0", *SHORT),
        ("no unused field", b"\0\1", *SHORT),
        ("half an unused field", b"\0\1\0", *SHORT),
        ("no dimensions", make(), *at_least),
        ("no dimensions but a value", make(1, dim=0), *at_least),
        ("no dimensions and unused", make(unused=1), *at_least),
        ("16001 dimensions", make(*[1] * 16001), *too_many),
        ("16001 dimensions, no values", make(dim=16001), *too_many),
        ("32767 dimensions", make(dim=32767), *too_many),
        ("32768 dimensions are negative", make(dim=32768), *at_least),
        ("65535 dimensions are negative", make(dim=65535), *at_least),
        ("unused is 1", make(1, 2, unused=1), INVALID, "expected unused to be 0, not 1"),
        ("unused is -1", make(1, 2, unused=-1), INVALID, "expected unused to be 0, not -1"),
        ("unused is large", make(1, 2, unused=-32768), INVALID, "expected unused to be 0, not -32768"),
        ("unused before values", make(dim=2, unused=256), INVALID, "expected unused to be 0, not 256"),
        ("no values", header, *SHORT),
        ("one value is missing", make(1, dim=2), *SHORT),
        ("one byte is missing", make(1, 2)[:-1], *SHORT),
        ("16000 dimensions, no values", make(dim=16000), *SHORT),
        ("one byte too many", make(1, 2) + b"\0", *LONG),
        ("one value too many", make(1, 2, dim=1), *LONG),
        ("NaN", header + quiet_nan + make(1)[4:], *nan),
        ("NaN at the end", header + make(1)[4:] + quiet_nan, *nan),
        ("other NaN", header + other_nan + make(1)[4:], *nan),
        ("NaN before the end of data", header + quiet_nan, *nan),
        ("infinity", header + infinities[0] + make(1)[4:], *infinite),
        ("-infinity", header + make(1)[4:] + infinities[1], *infinite),
        ("NaN and one byte too many", make(dim=1) + quiet_nan + b"\0", *nan),
        ("zeros", bytes(8), *at_least),
    ]


CASES = {
    "vector": dense_cases(
        "vector", vector, b"\x7f\xc0\0\0", b"\xff\x80\0\1", [struct.pack(">f", v) for v in (float("inf"), -float("inf"))]
    ),
    "halfvec": dense_cases("halfvec", halfvec, b"\x7e\0", b"\xfc\1", [b"\x7c\0", b"\xfc\0"]),
    "sparsevec": [
        ("nothing", b"", *SHORT),
        ("half a header", sparsevec(3, [])[:7], *SHORT),
        ("no unused field", sparsevec(3, [])[:8], *SHORT),
        ("no dimensions", sparsevec(0, []), INVALID, "sparsevec must have at least 1 dimension"),
        ("negative dimensions", sparsevec(-1, []), INVALID, "sparsevec must have at least 1 dimension"),
        ("least dimensions", sparsevec(-(2**31), []), INVALID, "sparsevec must have at least 1 dimension"),
        ("too many dimensions", sparsevec(10**9 + 1, []), LIMIT, "sparsevec cannot have more than 1000000000 dimensions"),
        ("most dimensions", sparsevec(2**31 - 1, []), LIMIT, "sparsevec cannot have more than 1000000000 dimensions"),
        ("negative count", sparsevec(3, [], nnz=-1), INVALID, "sparsevec cannot have negative number of elements"),
        ("least count", sparsevec(3, [], nnz=-(2**31)), INVALID, "sparsevec cannot have negative number of elements"),
        ("more elements than dimensions", sparsevec(1, [(0, 1), (1, 1)]), LIMIT, "sparsevec cannot have more elements than dimensions"),
        ("16001 elements", sparsevec(20000, [(i, 1) for i in range(16001)]), LIMIT, "sparsevec cannot have more than 16000 non-zero elements"),
        ("most elements", sparsevec(10**9, [], nnz=2**31 - 1), LIMIT, "sparsevec cannot have more than 16000 non-zero elements"),
        ("most elements of few", sparsevec(3, [], nnz=2**31 - 1), LIMIT, "sparsevec cannot have more than 16000 non-zero elements"),
        ("count before dimensions of column", sparsevec(5, [], nnz=6), LIMIT, "sparsevec cannot have more elements than dimensions"),
        ("unused is 1", sparsevec(3, [(0, 1)], unused=1), INVALID, "expected unused to be 0, not 1"),
        ("unused is -1", sparsevec(3, [(0, 1)], unused=-1), INVALID, "expected unused to be 0, not -1"),
        ("unused is least", sparsevec(3, [], unused=-(2**31)), INVALID, "expected unused to be 0, not -2147483648"),
        ("index is negative", sparsevec(3, [(-1, 1)]), INVALID, "sparsevec index out of bounds"),
        ("index is least", sparsevec(3, [(-(2**31), 1)]), INVALID, "sparsevec index out of bounds"),
        ("index is the dimensions", sparsevec(3, [(3, 1)]), INVALID, "sparsevec index out of bounds"),
        ("index is most", sparsevec(3, [(0, 1), (2**31 - 1, 1)]), INVALID, "sparsevec index out of bounds"),
        ("indices descend", sparsevec(3, [(1, 1), (0, 1)]), INVALID, "sparsevec indices must be in ascending order"),
        ("indices descend later", sparsevec(9, [(1, 1), (5, 1), (3, 1)]), INVALID, "sparsevec indices must be in ascending order"),
        ("indices repeat", sparsevec(3, [(1, 1), (1, 2)]), INVALID, "sparsevec indices must not contain duplicates"),
        ("indices before values", sparsevec(3, [(1, 0), (1, float("nan"))]), INVALID, "sparsevec indices must not contain duplicates"),
        ("index before what is missing", sparsevec(3, [(7, 1)], nnz=2)[:16], INVALID, "sparsevec index out of bounds"),
        ("zero", sparsevec(3, [(0, 0)]), INVALID, "binary representation of sparsevec cannot contain zero values"),
        ("-0", sparsevec(3, [(0, 1), (1, -0.0)]), INVALID, "binary representation of sparsevec cannot contain zero values"),
        ("NaN", sparsevec(3, [(0, float("nan"))]), INVALID, "NaN not allowed in sparsevec"),
        ("infinity", sparsevec(3, [(0, float("inf"))]), INVALID, "infinite value not allowed in sparsevec"),
        ("-infinity", sparsevec(3, [(0, 1), (2, -float("inf"))]), INVALID, "infinite value not allowed in sparsevec"),
        ("no elements", sparsevec(3, [], nnz=1), *SHORT),
        ("no values", sparsevec(3, [(0, 1)])[:16], *SHORT),
        ("a value is missing", sparsevec(3, [(0, 1), (1, 1)])[:-4], *SHORT),
        ("a byte is missing", sparsevec(3, [(0, 1), (1, 1)])[:-1], *SHORT),
        ("16000 elements, none there", sparsevec(10**9, [], nnz=16000), *SHORT),
        ("one byte too many", sparsevec(3, [(0, 1)]) + b"\0", *LONG),
        ("one value too many", sparsevec(3, [(0, 1)]) + b"\x3f\x80\0\0", *LONG),
        ("elements but no count", sparsevec(3, [(0, 1)], nnz=0), *LONG),
    ],
}  # fmt: skip

# A column of three dimensions: its modifier is looked at after the limits, and before the rest.
WITH_MODIFIER = {
    "vector": [
        (vector(1, 2), INVALID, "expected 3 dimensions, not 2"),
        (vector(1, 2, unused=1), INVALID, "expected 3 dimensions, not 2"),
        (vector(dim=4), INVALID, "expected 3 dimensions, not 4"),
        (vector(), INVALID, "vector must have at least 1 dimension"),
        (vector(dim=16001), LIMIT, "vector cannot have more than 16000 dimensions"),
    ],
    "halfvec": [
        (halfvec(1, 2), INVALID, "expected 3 dimensions, not 2"),
        (halfvec(1, 2, unused=1), INVALID, "expected 3 dimensions, not 2"),
        (halfvec(dim=16001), LIMIT, "halfvec cannot have more than 16000 dimensions"),
    ],
    "sparsevec": [
        (sparsevec(2, []), INVALID, "expected 3 dimensions, not 2"),
        (sparsevec(2, [(5, 1)]), INVALID, "expected 3 dimensions, not 2"),
        (sparsevec(2, [], unused=1), INVALID, "expected 3 dimensions, not 2"),
        (sparsevec(2, [], nnz=-1), INVALID, "sparsevec cannot have negative number of elements"),
        (sparsevec(2, [], nnz=3), LIMIT, "sparsevec cannot have more elements than dimensions"),
    ],
}

VALID = {
    "vector": [vector(1), vector(0.0, -0.0, 1e-45, 3.4e38), vector(*range(16000))],
    "halfvec": [halfvec(1), halfvec(0.0, -0.0, 6e-8, 65504), halfvec(*[0.5] * 16000)],
    "sparsevec": [sparsevec(1, []), sparsevec(10**9, [(0, 1), (10**9 - 1, 1e-45)]), sparsevec(16000, [(i, 1) for i in range(16000)])],
}  # fmt: skip


def copy_in(connection, table: str, stream: bytes):
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(stream)


def copy_out(connection, query: str) -> bytes:
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT binary)") as copy:
        return b"".join(bytes(block) for block in copy)


@pytest.fixture
def table(plain):
    for name in CASES:
        plain.execute(f"CREATE TEMPORARY TABLE {name}s (v {name})")
        plain.execute(f"CREATE TEMPORARY TABLE {name}s_of_three (v {name}(3))")
    return plain


@pytest.mark.parametrize("name,what,payload,code,message", [(n, *case) for n, cases in CASES.items() for case in cases],
                         ids=[f"{n}-{case[0]}" for n, cases in CASES.items() for case in cases])  # fmt: skip
def test_damaged(table, name, what, payload, code, message):
    with pytest.raises(psycopg.Error) as raised:
        copy_in(table, f"{name}s", copy_stream(VALID[name][0], payload))
    assert (raised.value.sqlstate, raised.value.diag.message_primary) == (code, message)
    assert "line 2, column v" in raised.value.diag.context
    # Nothing was kept, and the session goes on.
    copy_in(table, f"{name}s", copy_stream(VALID[name][0]))
    assert table.execute(f"SELECT count(*) FROM {name}s").fetchone() == (1,)


@pytest.mark.parametrize("name,payload,code,message", [(n, *case) for n, cases in WITH_MODIFIER.items() for case in cases])
def test_modifier_of_the_column(table, name, payload, code, message):
    with pytest.raises(psycopg.Error) as raised:
        copy_in(table, f"{name}s_of_three", copy_stream(payload))
    assert (raised.value.sqlstate, raised.value.diag.message_primary) == (code, message)


@pytest.mark.parametrize("name", VALID)
def test_valid_is_kept_as_it_is(table, name):
    copy_in(table, f"{name}s", copy_stream(*VALID[name]))
    assert copy_out(table, f"SELECT v FROM {name}s") == copy_stream(*VALID[name])


@pytest.mark.parametrize("name", VALID)
def test_null(table, name):
    stream = SIGNATURE + struct.pack(">hi", 1, -1) + TRAILER
    copy_in(table, f"{name}s", stream)
    assert copy_out(table, f"SELECT v FROM {name}s") == stream


@pytest.mark.parametrize("name", CASES)
def test_damaged_parameter(table, name):
    """The same as a parameter. Of what is left over PostgreSQL itself says which parameter it was."""
    oid = table.execute("SELECT %s::regtype::oid", [name]).fetchone()[0]
    for _, payload, code, message in CASES[name]:
        result = table.pgconn.exec_params(b"SELECT $1", [payload], [oid], [pq.Format.BINARY], pq.Format.BINARY)
        assert result.status == pq.ExecStatus.FATAL_ERROR
        if code == REPRESENTATION:
            message = "incorrect binary data format in bind parameter 1"
        assert result.error_field(pq.DiagnosticField.SQLSTATE).decode() == code
        assert result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY).decode() == message
    for payload in VALID[name]:
        result = table.pgconn.exec_params(b"SELECT $1", [payload], [oid], [pq.Format.BINARY], pq.Format.BINARY)
        assert result.get_value(0, 0) == payload


@pytest.mark.parametrize("name", CASES)
def test_damaged_element_of_an_array(table, name):
    oid = table.execute(f"SELECT '{name}'::regtype::oid").fetchone()[0]
    table.execute(f"CREATE TEMPORARY TABLE {name}_arrays (v {name}[])")

    def array(*payloads: bytes) -> bytes:
        elements = b"".join(struct.pack(">i", len(p)) + p for p in payloads)
        return struct.pack(">iiIii", 1, 0, oid, len(payloads), 1) + elements

    copy_in(table, f"{name}_arrays", copy_stream(array(*VALID[name])))
    for _, payload, code, message in CASES[name]:
        if code == REPRESENTATION:
            message = "improper binary format in array element 2"
        with pytest.raises(psycopg.Error) as raised:
            copy_in(table, f"{name}_arrays", copy_stream(array(VALID[name][0], payload)))
        assert (raised.value.sqlstate, raised.value.diag.message_primary) == (code, message)


@pytest.mark.parametrize("name", CASES)
def test_random_damage(table, name):
    """Random changes of valid payloads are refused with a known code, or taken and written back as they came."""
    rng = random.Random(1)
    seeds = {
        "vector": [vector(1), vector(1, -2, 3), vector(*range(20))],
        "halfvec": [halfvec(1), halfvec(1, -2, 3), halfvec(*range(20))],
        "sparsevec": [sparsevec(3, []), sparsevec(3, [(0, 1), (2, -2)]), sparsevec(10**9, [(i * 1000, i + 1) for i in range(20)])],
    }[name]  # fmt: skip
    oid = table.execute(f"SELECT '{name}'::regtype::oid").fetchone()[0]
    taken = refused = 0
    for _ in range(3000):
        payload = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 3)):
            change = rng.randrange(4)
            at = rng.randrange(len(payload)) if payload else 0
            if change == 0 and payload:
                payload[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            elif change == 1 and payload:
                payload[at] ^= 1 << rng.randrange(8)
            elif change == 2:
                payload = payload[:at]
            else:
                payload += bytes(rng.randrange(256) for _ in range(rng.randint(1, 5)))
        result = table.pgconn.exec_params(
            b"SELECT v, v::text FROM (SELECT $1 AS v) s", [bytes(payload)], [oid], [pq.Format.BINARY], pq.Format.BINARY
        )
        if result.status == pq.ExecStatus.TUPLES_OK:
            assert result.get_value(0, 0) == bytes(payload)
            taken += 1
        else:
            code = result.error_field(pq.DiagnosticField.SQLSTATE).decode()
            assert code in {INVALID, LIMIT, PROTOCOL, REPRESENTATION}, bytes(payload).hex()
            refused += 1
    assert taken > 100 and refused > 1000
