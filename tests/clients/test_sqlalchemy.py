"""SQLAlchemy's ORM with pgvector's column types: models, distances in ORDER BY, aggregates, arrays, reflection."""

import numpy as np
import pytest
import sqlalchemy as sa
from pgvector import HalfVector, SparseVector, Vector
from pgvector.psycopg import register_vector
from pgvector.sqlalchemy import BIT, HALFVEC, SPARSEVEC, VECTOR, avg, sum
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id = mapped_column(sa.Integer, primary_key=True)
    vector = mapped_column(VECTOR(3))
    half = mapped_column(HALFVEC(3))
    bits = mapped_column(BIT(3))
    sparse = mapped_column(SPARSEVEC(3))
    any_size = mapped_column(VECTOR)


class Page(Base):
    __tablename__ = "pages"

    id = mapped_column(sa.Integer, primary_key=True)
    vectors = mapped_column(sa.ARRAY(VECTOR(3), dimensions=1))
    halves = mapped_column(sa.ARRAY(HALFVEC(3), dimensions=1))


DENSE = [[1, 1, 1], [2, 2, 2], [1, 1, 2]]
BITS = ["000", "101", "111"]


def made(database: str, adapters: bool):
    engine = sa.create_engine(f"postgresql+psycopg:///{database}")
    if adapters:
        sa.event.listen(engine, "connect", lambda connection, _: register_vector(connection))
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


# Without adapters values go and come as text; with them psycopg sends and reads pgvector's classes.
@pytest.fixture(params=["text", "adapters"])
def engine(request, database):
    yield from made(database, request.param == "adapters")


# Arrays need the adapters: without them psycopg does not know where an element ends.
@pytest.fixture
def adapted(database):
    yield from made(database, True)


@pytest.fixture
def session(engine):
    with Session(engine) as session:
        for i, (dense, bits) in enumerate(zip(DENSE, BITS), 1):
            session.add(Item(id=i, vector=dense, half=dense, bits=bits, sparse=SparseVector(dense)))
        session.add(Item(id=4))
        session.commit()
        yield session


def order(session, distance) -> list[int]:
    """Ids of the items that have a value, nearest first."""
    return list(session.scalars(sa.select(Item.id).where(Item.vector.is_not(None)).order_by(distance, Item.id)))


def test_values(session):
    item = session.get(Item, 3)
    assert list(item.vector) == [1, 1, 2]
    assert item.bits == "111"
    assert item.sparse == SparseVector([1, 1, 2])
    assert (item.half.to_list() if isinstance(item.half, HalfVector) else item.half) == [1, 1, 2]
    empty = session.get(Item, 4)
    assert [empty.vector, empty.half, empty.bits, empty.sparse, empty.any_size] == [None] * 5


def test_arrays(adapted):
    with Session(adapted) as session:
        session.add(Page(id=1, vectors=[Vector([1, 2, 3]), Vector([0.5, 0, -1])], halves=[HalfVector([1, 2, 3])]))
        session.add(Page(id=2))
        session.commit()
        page = session.get(Page, 1)
        assert [list(v) for v in page.vectors] == [[1, 2, 3], [0.5, 0, -1]]
        assert [list(v) for v in page.halves] == [[1, 2, 3]]
        assert session.get(Page, 2).vectors is None
        norms = sa.select(sa.func.vector_norm(Page.vectors[1]), Page.vectors[2].l2_distance([0.5, 0, 0]))
        assert session.execute(norms.where(Page.id == 1)).one() == (pytest.approx(14**0.5), 1)


def test_values_of_every_kind(session):
    """Lists, numpy arrays and pgvector's classes may be assigned."""
    for value in [[4, 5, 6], np.array([4, 5, 6]), np.array([4, 5, 6], dtype=np.float32), Vector([4, 5, 6])]:
        item = session.get(Item, 4)
        item.vector = value
        item.any_size = value
        item.half = HalfVector(value.to_list()) if isinstance(value, Vector) else value
        item.sparse = SparseVector(value.to_list() if isinstance(value, Vector) else value)
        session.commit()
        session.expire_all()
        item = session.get(Item, 4)
        assert list(item.vector) == list(item.any_size) == [4, 5, 6]
        assert item.sparse.to_list() == [4, 5, 6]


@pytest.mark.parametrize("column", [Item.vector, Item.half])
def test_order_of_dense(session, column):
    assert order(session, column.l2_distance([1, 1, 1])) == [1, 3, 2]
    assert order(session, column.max_inner_product([1, 1, 1])) == [2, 3, 1]
    assert order(session, column.cosine_distance([1, 1, 1])) == [1, 2, 3]
    assert order(session, column.l1_distance([1, 1, 1])) == [1, 3, 2]


def test_order_of_sparse(session):
    query = SparseVector([1, 1, 1])
    assert order(session, Item.sparse.l2_distance(query)) == [1, 3, 2]
    assert order(session, Item.sparse.max_inner_product(query)) == [2, 3, 1]
    assert order(session, Item.sparse.cosine_distance(query)) == [1, 2, 3]
    assert order(session, Item.sparse.l1_distance(query)) == [1, 3, 2]


def test_order_of_bits(session):
    assert order(session, Item.bits.hamming_distance("101")) == [2, 3, 1]
    assert order(session, Item.bits.jaccard_distance("101")) == [2, 3, 1]


def test_distances_are_numbers(session):
    distances = session.scalars(
        sa.select(Item.vector.l2_distance([1, 1, 1])).where(Item.id < 4).order_by(Item.id)
    ).all()
    np.testing.assert_allclose(distances, [0, 3**0.5, 1])
    between = sa.select(Item.id).where(Item.vector.l2_distance([1, 1, 1]).between(0.5, 1.5))
    assert session.scalars(between).all() == [3]
    other = sa.orm.aliased(Item)
    distance = Item.half.l1_distance(other.half)
    joined = sa.select(Item.id, other.id, distance).join(other, other.id == Item.id + 1).where(Item.id == 1)
    assert session.execute(joined).all() == [(1, 2, 3.0)]
    literal = sa.select(Item.vector.l2_distance([1, 1, 1])).where(Item.id == 3)
    compiled = str(literal.compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
    assert session.scalar(sa.text(compiled)) == 1


def test_aggregates(session):
    for column in [Item.vector, Item.half]:
        mean, total = session.execute(sa.select(avg(column), sum(column))).one()
        mean, total = (v.to_list() if isinstance(v, HalfVector) else list(v) for v in [mean, total])
        np.testing.assert_allclose(mean, [4 / 3, 4 / 3, 5 / 3], rtol=1e-3)
        assert total == [4, 4, 5]
    assert session.scalar(sa.select(avg(Item.vector)).where(Item.id > 3)) is None
    groups = sa.select(Item.bits, avg(Item.vector)).where(Item.id < 3).group_by(Item.bits).order_by(Item.bits)
    assert [(b, list(v)) for b, v in session.execute(groups)] == [("000", [1, 1, 1]), ("101", [2, 2, 2])]


def test_functions_and_casts(session):
    found = sa.select(sa.func.vector_dims(Item.vector), sa.func.vector_norm(Item.vector)).where(Item.id == 1)
    assert session.execute(found).one() == (3, pytest.approx(3**0.5))
    half = sa.select(Item.id).order_by(sa.cast(Item.vector, HALFVEC(3)).l2_distance([2, 2, 2])).limit(1)
    assert session.scalar(half) == 2
    bits = sa.func.cast(sa.func.binary_quantize(Item.vector), BIT(3)).hamming_distance("111")
    assert session.scalar(sa.select(bits).where(Item.id == 1)) == 0
    same = sa.select(Item.id).where(Item.vector == [2, 2, 2])
    assert session.scalars(same).all() == [2]
    with pytest.raises(sa.exc.DataError, match="expected 3 dimensions, not 2"):
        session.execute(sa.insert(Item).values(id=9, vector=[1, 2]))


def test_bulk_insert(session):
    rng = np.random.default_rng(3)
    values = rng.standard_normal((1000, 3), dtype=np.float32)
    rows = [{"id": 100 + i, "vector": v, "half": v, "sparse": SparseVector(v)} for i, v in enumerate(values)]
    session.execute(sa.insert(Item), rows)
    got = session.execute(sa.select(Item.vector).where(Item.id >= 100).order_by(Item.id)).scalars().all()
    assert (np.array([list(v) for v in got], dtype=np.float32) == values).all()


def test_btree_index_and_reflection(engine, session):
    index = sa.Index("items_vector", Item.vector, unique=True)
    index.create(engine)
    index.drop(engine)
    Item.__table__.indexes.discard(index)
    columns = {c["name"]: c["type"] for c in sa.inspect(engine).get_columns("items")}
    assert isinstance(columns["vector"], VECTOR) and isinstance(columns["half"], HALFVEC)
    assert isinstance(columns["sparse"], SPARSEVEC) and isinstance(columns["bits"], sa.dialects.postgresql.BIT)
    assert [int(columns[c].dim) for c in ["vector", "half", "sparse"]] == [3, 3, 3] and columns["any_size"].dim is None
