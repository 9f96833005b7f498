"""Django's ORM with pgvector's fields and distances. No project: settings are made here, for this module's database."""

import django
import numpy as np
import pytest
from django.conf import settings
from pgvector import HalfVector, SparseVector, Vector

settings.configure(
    # "default" is replaced once the database of the module exists.
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import DataError, connection, connections, models, transaction  # noqa: E402
from django.db.models import Avg, F, Sum  # noqa: E402
from pgvector.django import (  # noqa: E402
    BitField,
    CosineDistance,
    HalfVectorField,
    HammingDistance,
    JaccardDistance,
    L1Distance,
    L2Distance,
    MaxInnerProduct,
    SparseVectorField,
    VectorField,
)


class Item(models.Model):
    vector = VectorField(dimensions=3, null=True)
    half = HalfVectorField(dimensions=3, null=True)
    bits = BitField(length=3, null=True)
    sparse = SparseVectorField(dimensions=3, null=True)
    any_size = VectorField(null=True)

    class Meta:
        app_label = "clients"


DENSE = [[1, 1, 1], [2, 2, 2], [1, 1, 2]]
BITS = ["000", "101", "111"]


# Parameters bound by the client, and by the server: then PostgreSQL itself must find their types.
@pytest.fixture(params=[False, True], ids=["client", "server"], autouse=True)
def items(request, database):
    connections.close_all()
    connection.settings_dict["NAME"] = database
    connection.settings_dict["OPTIONS"] = {"server_side_binding": request.param}
    with connection.schema_editor() as editor:
        editor.create_model(Item)
    for i, (dense, bits) in enumerate(zip(DENSE, BITS), 1):
        Item.objects.create(id=i, vector=dense, half=dense, bits=bits, sparse=SparseVector(dense))
    Item.objects.create(id=4)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Item)
    connections.close_all()


def order(distance) -> list[int]:
    """Ids of the items that have a value, nearest first."""
    return list(Item.objects.filter(vector__isnull=False).order_by(distance, "id").values_list("id", flat=True))


def test_values():
    item = Item.objects.get(id=3)
    assert list(item.vector) == [1, 1, 2]
    assert item.half == HalfVector([1, 1, 2]) or list(item.half) == [1, 1, 2]
    assert item.bits == "111"
    assert item.sparse == SparseVector([1, 1, 2])
    empty = Item.objects.get(id=4)
    assert [empty.vector, empty.half, empty.bits, empty.sparse, empty.any_size] == [None] * 5


def test_values_of_every_kind():
    for value in [[4, 5, 6], np.array([4, 5, 6]), np.array([4, 5, 6], dtype=np.float32), Vector([4, 5, 6])]:
        item = Item.objects.get(id=4)
        item.vector = item.any_size = value
        item.half = HalfVector(value.to_list()) if isinstance(value, Vector) else value
        item.save()
        item = Item.objects.get(id=4)
        assert list(item.vector) == list(item.any_size) == [4, 5, 6]


def test_columns():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'clients_item'::regclass AND attnum > 1 ORDER BY attnum"
        )
        types = [name for (name,) in cursor.fetchall()]
    assert types == ["vector(3)", "halfvec(3)", "bit(3)", "sparsevec(3)", "vector"]


@pytest.mark.parametrize("column", ["vector", "half"])
def test_order_of_dense(column):
    assert order(L2Distance(column, [1, 1, 1])) == [1, 3, 2]
    assert order(MaxInnerProduct(column, [1, 1, 1])) == [2, 3, 1]
    assert order(CosineDistance(column, [1, 1, 1])) == [1, 2, 3]
    assert order(L1Distance(column, [1, 1, 1])) == [1, 3, 2]
    assert order(L2Distance(column, HalfVector([1, 1, 1]) if column == "half" else Vector([1, 1, 1]))) == [1, 3, 2]


def test_order_of_sparse():
    query = SparseVector([1, 1, 1])
    assert order(L2Distance("sparse", query)) == [1, 3, 2]
    assert order(MaxInnerProduct("sparse", query)) == [2, 3, 1]
    assert order(CosineDistance("sparse", query)) == [1, 2, 3]
    assert order(L1Distance("sparse", query)) == [1, 3, 2]


def test_order_of_bits():
    assert order(HammingDistance("bits", "101")) == [2, 3, 1]
    assert order(JaccardDistance("bits", "101")) == [2, 3, 1]


def test_distances_are_numbers():
    found = Item.objects.annotate(distance=L2Distance("vector", [1, 1, 1])).filter(id__lt=4).order_by("id")
    np.testing.assert_allclose([item.distance for item in found], [0, 3**0.5, 1])
    near = Item.objects.alias(distance=L2Distance("vector", [1, 1, 1])).filter(distance__lt=1.5).order_by("id")
    assert [item.id for item in near] == [1, 3]
    # Two columns, one of each type: the vector is cast to the half vector.
    both = Item.objects.annotate(distance=L1Distance("vector", F("half"))).get(id=2)
    assert both.distance == 0


def test_aggregates():
    for column in ["vector", "half"]:
        found = Item.objects.aggregate(mean=Avg(column), total=Sum(column))
        mean, total = (v.to_list() if isinstance(v, HalfVector) else list(v) for v in [found["mean"], found["total"]])
        np.testing.assert_allclose(mean, [4 / 3, 4 / 3, 5 / 3], rtol=1e-3)
        assert total == [4, 4, 5]
    assert Item.objects.filter(id__gt=3).aggregate(mean=Avg("vector"))["mean"] is None
    groups = Item.objects.filter(id__lt=3).values("bits").annotate(mean=Avg("vector")).order_by("bits")
    assert [(g["bits"], list(g["mean"])) for g in groups] == [("000", [1, 1, 1]), ("101", [2, 2, 2])]


def test_filter_by_value():
    assert Item.objects.get(vector=[2, 2, 2]).id == 2
    assert Item.objects.get(sparse=SparseVector([2, 2, 2])).id == 2
    assert Item.objects.get(bits="101").id == 2
    assert Item.objects.filter(vector__in=[[1, 1, 1], [1, 1, 2]]).count() == 2


def test_bulk():
    values = np.random.default_rng(4).standard_normal((1000, 3), dtype=np.float32)
    Item.objects.bulk_create([Item(id=100 + i, vector=v, half=v, sparse=SparseVector(v)) for i, v in enumerate(values)])
    got = Item.objects.filter(id__gte=100).order_by("id").values_list("vector", flat=True)
    assert (np.array([list(v) for v in got], dtype=np.float32) == values).all()
    Item.objects.filter(id__gte=100).update(vector=[7, 8, 9])
    assert Item.objects.filter(vector=[7, 8, 9]).count() == 1000


def test_errors():
    with pytest.raises(DataError, match="expected 3 dimensions, not 2"), transaction.atomic():
        Item.objects.create(vector=[1, 2])
    with pytest.raises(DataError, match="different vector dimensions 3 and 2"), transaction.atomic():
        list(Item.objects.order_by(L2Distance("vector", [1, 2])))
    with pytest.raises(DataError, match="NaN not allowed in vector"), transaction.atomic():
        Item.objects.create(vector=[1, 2, float("nan")])
    assert Item.objects.count() == 4
