"""Numbers arrive as they were sent, bit by bit: random ones, extremes, subnormal ones, -0, and every half there is."""

import numpy as np
import pytest
from pgvector import HalfVector, Vector

import samples

ROUNDS = 40


def text_of(values: np.ndarray) -> str:
    """The shortest digits that numpy finds for each number: another writer than the server's."""
    return "[" + ",".join(np.format_float_scientific(v) if v != 0 else str(float(v)) for v in values) + "]"


@pytest.mark.parametrize("placeholder", ["%t", "%b"])
@pytest.mark.parametrize("binary", [False, True])
def test_random_singles(connection, placeholder, binary):
    for seed in range(ROUNDS):
        value = samples.random_singles(seed, 1000)
        got = connection.execute(f"SELECT {placeholder}", [Vector(value)], binary=binary).fetchone()[0]
        assert got.to_numpy().tobytes() == value.tobytes()


def test_random_singles_as_text(plain):
    """Text of another writer is read to the same bits, and the server's text by another reader."""
    for seed in range(ROUNDS):
        value = samples.random_singles(seed, 1000)
        got = plain.execute("SELECT %s::vector", [text_of(value)]).fetchone()[0]
        numbers = [np.float32(t) for t in got[1:-1].split(",")]
        assert np.array(numbers).tobytes() == value.tobytes()


def test_text_is_that_of_real(plain):
    """An element prints as the type real prints it: not always with the fewest digits, as of 97474816."""
    value = np.concatenate([samples.SINGLES, np.float32([97474816]), samples.random_singles(7, 15000)])
    got, reals = plain.execute("SELECT v, v::real[]::text FROM (SELECT %s::vector AS v) s", [text_of(value)]).fetchone()
    assert got[1:-1] == reals[1:-1]


@pytest.mark.parametrize("placeholder", ["%t", "%b"])
@pytest.mark.parametrize("binary", [False, True])
def test_every_half(connection, placeholder, binary):
    for chunk in np.array_split(samples.all_halves(), 4):
        got = connection.execute(f"SELECT {placeholder}", [HalfVector(chunk)], binary=binary).fetchone()[0]
        assert got.to_numpy().tobytes() == chunk.tobytes()


def test_singles_become_the_nearest_half(connection):
    """Rounding is that of IEEE 754, ties to even: numpy's. Around every half, and for random singles."""
    halves = samples.all_halves().astype(np.float32)
    positive = np.sort(halves[halves > 0])
    middles = ((positive[1:].astype(np.float64) + positive[:-1]) / 2).astype(np.float32)
    towards = np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(np.inf))
    random = samples.random_singles(3, 20000)
    random = random[np.abs(random) < 65520]
    for values in [middles, -middles, *towards, random, np.random.default_rng(9).normal(0, 300, 20000).astype(np.float32)]:
        for chunk in np.array_split(values, len(values) // 16000 + 1):
            got = connection.execute("SELECT %b::halfvec", [Vector(chunk)], binary=True).fetchone()[0]
            assert got.to_numpy().tobytes() == chunk.astype(np.float16).tobytes()


def test_halves_become_exact_singles(connection):
    for chunk in np.array_split(samples.all_halves(), 4):
        got = connection.execute("SELECT %b::vector", [HalfVector(chunk)], binary=True).fetchone()[0]
        assert got.to_numpy().tobytes() == chunk.astype(np.float32).tobytes()


def test_text_of_halves_rounds_once(plain):
    """Text is read as a single and then rounded, so that of a middle between halves goes to the even one."""
    cases = ["1.00048828125", "1.00146484375", "1.000488281250001", "1.0004883", "2049", "2051", "6.5519e4", "2.9802322387695312e-08",
             "2.98023224e-08", "2.9802326e-08", "1e-30", "-1e-30"]  # fmt: skip
    got = plain.execute("SELECT %s::halfvec", ["[" + ",".join(cases) + "]"]).fetchone()[0]
    numbers = np.array([float(t) for t in got[1:-1].split(",")], dtype=np.float16)
    assert numbers.tobytes() == np.array([np.float16(np.float32(c)) for c in cases]).tobytes()


def test_doubles_become_the_nearest_single(connection):
    """Of arrays of doubles, each is rounded once."""
    rng = np.random.default_rng(5)
    values = rng.standard_normal(4000) * 10.0 ** rng.integers(-44, 38, 4000)
    with np.errstate(under="ignore"):
        expected = values.astype(np.float32)
    got = connection.execute("SELECT %b::float8[]::vector", [values.tolist()], binary=True).fetchone()[0]
    assert got.to_numpy().tobytes() == expected.tobytes()
