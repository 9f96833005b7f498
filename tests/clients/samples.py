"""Values that a format may damage: every kind of finite float, and the sizes at which headers change."""

import numpy as np
from pgvector import Bit, HalfVector, SparseVector, Vector

# Zeros, the smallest and largest subnormal and normal numbers, numbers next to 1, and shortest texts that are long
SINGLES = np.array(
    [0.0, -0.0, 1.4e-45, -1.4e-45, 1.1754942e-38, 1.1754944e-38, -1.1754944e-38, 3.4028235e38, -3.4028235e38,
     1.0, np.nextafter(np.float32(1), np.float32(2)), np.nextafter(np.float32(1), np.float32(0)), 0.1, 1 / 3,
     16777216.0, 16777217.0, 1e10, 9.999999e-5, 1e-4, 999999.0, 1e6, 1e15, 8.5e37], dtype=np.float32)  # fmt: skip

HALVES = np.array(
    [0.0, -0.0, 5.9604645e-08, -5.9604645e-08, 6.097555e-05, 6.1035156e-05, 65504.0, -65504.0, 1.0, 1.0009766,
     0.99951172, 0.1, 1 / 3, 2048.0, 2049.0], dtype=np.float16)  # fmt: skip

# Around the sizes of one-byte headers, the page and TOAST, and the limit
DIMENSIONS = [1, 2, 3, 29, 30, 31, 32, 384, 1998, 2001, 16000]


def random_singles(seed: int, count: int) -> np.ndarray:
    """Floats of random bits: all exponents come, those of subnormal numbers too. NaN and infinity are made finite."""
    bits = np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)
    not_finite = (bits & 0x7F800000) == 0x7F800000
    bits[not_finite] &= 0xFF7FFFFF
    subnormal = np.random.default_rng(seed + 1).random(count) < 0.1
    bits[subnormal] &= 0x807FFFFF
    return bits.view(np.float32)


def all_halves() -> np.ndarray:
    """Every finite half there is."""
    bits = np.arange(2**16, dtype=np.uint16)
    return bits[(bits & 0x7C00) != 0x7C00].view(np.float16)


def vectors() -> list[Vector]:
    return [Vector(SINGLES)] + [Vector(random_singles(d, d)) for d in DIMENSIONS]


def halfvecs() -> list[HalfVector]:
    halves = all_halves()
    chosen = [np.random.default_rng(d).choice(halves, d) for d in DIMENSIONS]
    return [HalfVector(HALVES)] + [HalfVector(c) for c in chosen]


def sparsevecs() -> list[SparseVector]:
    found = [SparseVector({}, 1), SparseVector({}, 1_000_000_000), SparseVector({999_999_999: 1.5}, 1_000_000_000)]
    for count in [1, 2, 13, 14, 15, 400, 16000]:
        values = random_singles(count, count)
        values[values == 0] = 1
        indices = np.sort(np.random.default_rng(count).choice(count * 5, count, replace=False))
        found.append(SparseVector(dict(zip(indices.tolist(), values.tolist())), count * 5))
    return found


def bits() -> list[Bit]:
    return [Bit(np.random.default_rng(n).integers(0, 2, n).astype(bool)) for n in [1, 7, 8, 9, 64, 65, 1000, 16001]]


# By the name of the type: samples, and the class that reads them
ALL = {"vector": (vectors, Vector), "halfvec": (halfvecs, HalfVector), "sparsevec": (sparsevecs, SparseVector)}


def raw(value) -> bytes | None:
    """What is compared: bytes, because -0 equals 0 and classes of one type compare in their own ways."""
    return None if value is None else value.to_binary()
