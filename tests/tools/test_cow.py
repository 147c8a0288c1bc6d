from __future__ import annotations

import copy
import json
import pickle
import random
from typing import Any

import pytest
from pydantic import BaseModel

from pivotgym.envs.tools.cow import Access, CowTable, diff_tables, differing_leaves


class Order(BaseModel):
    id: str
    items: list[str] = []
    paid: float = 0.0


class Shop(BaseModel):
    orders: dict[str, Order]


def frozen(count: int = 5) -> dict[str, Order]:
    return {f"o{number}": Order(id=f"o{number}", items=[f"i{number}"], paid=number) for number in range(count)}


def dump(record: Any) -> Any:
    return record.model_dump(mode="json") if isinstance(record, BaseModel) else record


TOUCHES = {
    "getitem": lambda table: table["o1"],
    "get": lambda table: table.get("o1"),
    "values": lambda table: list(table.values())[1],
    "items": lambda table: dict(table.items())["o1"],
    "iteration": lambda table: next(table[key] for key in table if key == "o1"),
    "setdefault": lambda table: table.setdefault("o1", None),
    "pop": lambda table: table.pop("o1"),
    "popitem": lambda table: table.popitem()[1],
    "copy": lambda table: table.copy()["o1"],
    "copy.copy": lambda table: copy.copy(table)["o1"],
    "deepcopy": lambda table: copy.deepcopy(table)["o1"],
    "dict": lambda table: dict(table)["o1"],
    "unpacking": lambda table: {**table}["o1"],
    "or": lambda table: (table | {})["o1"],
    "ror": lambda table: ({} | table)["o1"],
    "pickle": lambda table: pickle.loads(pickle.dumps(table))["o1"],
    "into another": lambda table: _updated({}, table)["o1"],
}


def _updated(target: dict[str, Any], source: Any) -> dict[str, Any]:
    target.update(source)
    return target


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_no_way_to_a_record_reaches_the_frozen_one(touch: Any) -> None:
    base = frozen(2)
    before = copy.deepcopy(base)
    record = touch(CowTable(base, Access()))
    record.items.append("changed")
    record.paid = -1.0
    assert base == before


def test_while_nothing_is_written_records_are_shared_and_nothing_is_copied() -> None:
    base, access = frozen(), Access(writing=False)
    table = CowTable(base, access)
    assert table["o1"] is base["o1"] and table.get("o2") is base["o2"]
    assert all(record is base[key] for key, record in table.items())
    assert all(any(record is one for one in base.values()) for record in table.values())
    assert table.freeze()[0] is base
    access.writing = True
    assert table["o1"] is not base["o1"] and table["o1"] is table["o1"]


def test_it_is_a_dict_for_pydantic_and_json() -> None:
    base = frozen()
    shop = Shop(orders=frozen()).model_copy(update={"orders": CowTable(base, Access())})
    assert isinstance(shop.orders, dict)
    assert shop.model_dump() == Shop(orders=frozen()).model_dump()
    assert shop.model_dump_json() == Shop(orders=frozen()).model_dump_json()
    assert shop == Shop(orders=frozen())
    assert shop.orders.freeze()[0] is base, "the serialiser copies nothing"  # type: ignore[attr-defined]
    assert json.loads(json.dumps(shop.orders, default=dump)) == {key: dump(one) for key, one in base.items()}
    assert len(shop.orders) == 5 and "o3" in shop.orders and next(reversed(shop.orders)) == "o4"


def test_missing_keys_behave_as_in_a_dict() -> None:
    table = CowTable({}, Access())
    with pytest.raises(KeyError):
        table["x"]
    with pytest.raises(KeyError):
        table.pop("x")
    with pytest.raises(KeyError):
        table.popitem()
    assert table.pop("x", 3) == 3 and table.get("x") is None and table.get("x", 4) == 4


def test_random_work_on_many_forks_is_as_on_deep_copies() -> None:
    """The oracle: plain dicts, deep-copied at each fork."""
    draw = random.Random(0)
    base = frozen(8)
    pristine = copy.deepcopy(base)
    tables = [CowTable(base, Access())]
    plain = [copy.deepcopy(base)]
    for step in range(3000):
        which = draw.randrange(len(tables))
        table, model = tables[which], plain[which]
        key = f"o{draw.randrange(10)}"
        match draw.randrange(8):
            case 0 if len(tables) < 12:
                origin, changed = table.freeze()
                tables.append(CowTable(origin, Access(), changed))
                plain.append(copy.deepcopy(model))
            case 1 | 2 if key in model:
                table[key].items.append(str(step))
                model[key].items.append(str(step))
            case 3:
                table[key] = Order(id=key, paid=step)
                model[key] = Order(id=key, paid=step)
            case 4 if key in model:
                del table[key], model[key]
            case 5:
                for record, other in zip(table.values(), model.values(), strict=True):
                    record.paid += 1
                    other.paid += 1
            case 6:
                table.update({key: Order(id="u")})
                model.update({key: Order(id="u")})
            case 7 if draw.random() < 0.05:
                table.clear()
                model.clear()
        assert list(table) == list(model)
    for table, model in zip(tables, plain, strict=True):
        origin, changed = table.freeze()
        assert origin == model
        found = diff_tables("orders", base, origin, dump)
        assert {change["path"].removeprefix("orders/") for change in found} <= changed
        differing = {key for key in base.keys() | model.keys() if base.get(key) != model.get(key)}
        assert {change["path"].removeprefix("orders/") for change in found} == differing
    assert base == pristine


def test_a_frozen_table_does_not_change_with_its_table() -> None:
    table = CowTable(frozen(), Access())
    table["o1"].paid = 10.0
    first, _ = table.freeze()
    table["o1"].paid = 20.0
    table["o2"].items.append("x")
    second, changed = table.freeze()
    assert first["o1"].paid == 10.0 and second["o1"].paid == 20.0 and first["o2"] == frozen()["o2"]
    assert changed == {"o1", "o2"}
    assert table.freeze()[0] is second, "an untouched table is not copied again"


def test_diff_names_the_leaves_that_differ() -> None:
    before = frozen(3)
    after = copy.deepcopy(before)
    after["o1"].items.append("new")
    after["o1"].paid = 9.5
    del after["o0"]
    after["z"] = Order(id="z")
    assert diff_tables("orders", before, after, dump) == [
        {"path": "orders/o0", "kind": "removed", "before": {"id": "o0", "items": ["i0"], "paid": 0.0}},
        {
            "path": "orders/o1",
            "kind": "changed",
            "before": {"paid": 1.0},
            "after": {"items/1": "new", "paid": 9.5},
        },
        {"path": "orders/z", "kind": "added", "after": {"id": "z", "items": [], "paid": 0.0}},
    ]
    assert diff_tables("orders", before, copy.deepcopy(before), dump) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 1.0, ({}, {})),
        (True, 1, ({"": True}, {"": 1})),
        ("1", 1, ({"": "1"}, {"": 1})),
        ({"a": []}, {"a": [1]}, ({"a": []}, {"a/0": 1})),
        ({"a": None}, {}, ({"a": None}, {"": {}})),
        (float("nan"), float("nan"), ({}, {})),
    ],
)
def test_numbers_differ_by_value_and_types_matter(before: Any, after: Any, expected: Any) -> None:
    assert differing_leaves(before, after) == expected
