"""Protocols: groups stay whole, official sets stay, folds cover, leaks are refused."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from kmunet.data.groups import Link
from kmunet.data.protocols import Known, artifact, divide, require_no_leak
from kmunet.data.record import BOTH, LEFT_OUT, SPLITS, Record
from kmunet.errors import ConfigError, DataError
from tests.data.divisions import as_links, drawn, make

PLAIN = SimpleNamespace(
    protocol="clean",
    seed=2981,
    validation=0.2,
    test=0.2,
    folds=1,
    fold=0,
    official=True,
    stable=False,
)


def rules(**changes):
    return SimpleNamespace(**{**vars(PLAIN), **changes})


def known(count, splits=None, groups=None, kind=""):
    return Known(splits or [None] * count, groups or [None] * count, kind)


ids = st.lists(st.integers(0, 10**6), min_size=2, max_size=60, unique=True)


@given(ids, st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_paper_is_train_test_split_of_sorted_ids(numbers, seed):
    records = [Record(f"x ({n})", None, 8, 8, 0.1, f"i{n}", f"b{n}") for n in numbers]
    chosen = rules(protocol="paper", seed=seed)
    division = divide(records, [], known(len(numbers)), chosen)
    held = {r.id for r, p in zip(records, division.places, strict=True) if p == BOTH}
    _, expected = train_test_split(
        sorted(r.id for r in records), test_size=0.2, random_state=seed
    )
    assert held == set(expected)
    assert set(division.places) <= {"train", BOTH}


def test_paper_counts_its_leaks():
    records = make(50)
    links = [Link(n, n + 1, "near", 0.9) for n in range(0, 50, 2)]
    notes = " ".join(divide(records, links, known(50), rules(protocol="paper")).notes)
    assert "pairs of one view lie on both sides" in notes
    assert "selects the epoch on the images that it reports" in notes


count = st.integers(25, 70)
pairs = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=12)
groupings = st.lists(st.sampled_from([None, None, *"pqrst"]), min_size=70, max_size=70)
settings_of = drawn(rules)


@given(count, pairs, groupings, settings_of, st.randoms())
@settings(max_examples=80, deadline=None)
def test_no_group_is_broken_and_order_and_names_do_not_matter(
    count, pairs, groupings, rules, random
):
    records, links, groups = make(count), as_links(pairs), groupings[:count]
    try:
        division = divide(records, links, known(count, groups=groups), rules)
    except DataError as error:  # the groups drawn leave fewer units than parts
        if "distinct" not in str(error):
            raise
        reject()
    assert set(division.places) == set(SPLITS)
    for link in links:
        assert division.places[link.a] == division.places[link.b]
    for label in set(groups) - {None}:
        sides = {p for p, g in zip(division.places, groups, strict=True) if g == label}
        assert len(sides) == 1
    order = list(range(count))
    random.shuffle(order)
    at = {old: new for new, old in enumerate(order)}
    renamed = [replace(records[old], id=f"z{old}") for old in order]
    moved = as_links([(at[link.a], at[link.b]) for link in links])
    again = divide(
        renamed, moved, known(count, groups=[groups[old] for old in order]), rules
    )
    assert [again.places[at[old]] for old in range(count)] == list(division.places)


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_every_image_is_tested_and_selected_on_once(folds):
    records = make(100)
    groups = [f"g{n % 40}" for n in range(100)]
    seen = Counter()
    for fold in range(folds):
        chosen = rules(folds=folds, fold=fold)
        places = divide(records, [], known(100, groups=groups), chosen).places
        seen.update(zip(range(100), places, strict=True))
    for n in range(100):
        assert seen[n, "test"] == seen[n, "validation"] == 1


def test_folds_keep_an_official_test_set():
    records = make(60)
    splits = ["test"] * 20 + ["train"] * 30 + ["validation"] * 10
    held = Counter()
    for fold in range(2):
        chosen = rules(folds=2, fold=fold)
        places = divide(records, [], known(60, splits, kind="official"), chosen).places
        assert [n for n, p in enumerate(places) if p == "test"] == list(range(20))
        held.update(n for n, p in enumerate(places) if p == "validation")
    assert held == Counter(range(20, 60))
    with pytest.raises(ConfigError, match="2 folds cannot be train, validation and"):
        divide(records, [], known(60), rules(folds=2))


def test_an_official_split_is_kept_and_completed():
    splits = ["train"] * 40 + ["validation"] * 10
    division = divide(make(50), [], known(50, splits, kind="official"), rules())
    assert division.places[40:] == ("validation",) * 10
    assert Counter(division.places[:40]) == {"train": 32, "test": 8}
    note = "declares train and no test: 8 of its 40 training images are in test"
    assert note in division.notes[0]
    assert len(division.notes) == 1
    official = known(50, splits, kind="official")
    free = divide(make(50), [], official, rules(official=False))
    assert set(free.places[40:]) != {"validation"}
    assert free.notes == ()


def test_what_looks_like_an_official_test_image_is_left_out_of_the_rest():
    splits = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    links = [Link(0, 29, "hash", 1.0), Link(1, 20, "near", 0.8), Link(2, 3, "near", 1)]
    division = divide(make(30), links, known(30, splits, kind="official"), rules())
    assert division.places[0] == division.places[1] == LEFT_OUT
    assert division.places[29] == "test"
    assert division.places[20] == "validation"
    assert division.places[2] == division.places[3] == "train"
    assert "official test or validation set: 2" in division.notes[0]


def test_patients_that_the_official_split_shares_are_noted_not_lost():
    splits = ["train"] * 20 + ["test"] * 10
    groups = [f"patient {n % 10}" for n in range(30)]
    division = divide(make(30), [], known(30, splits, groups, "official"), rules())
    assert LEFT_OUT not in division.places
    assert division.places[20:] == ("test",) * 10
    assert "official split has 10 known groups on two sides" in division.notes[0]
    for n in range(10):  # but between train and validation they stay whole
        assert division.places[n] == division.places[n + 10]


@pytest.mark.parametrize("reason", ["link", "group"])
def test_a_declared_leak_is_refused_with_the_pair(reason):
    splits = ["train"] * 20 + ["test"] * 10
    groups = [None] * 30
    links = []
    if reason == "group":
        groups[4] = groups[25] = "p1"
    else:
        links = [Link(4, 25, "near", 0.9)]
    message = r"declared split: n4 \(train\) and n25 \(test\) belong together"
    with pytest.raises(DataError, match=message):
        divide(make(30), links, known(30, splits, groups, "declared"), rules())


def test_undeclared_images_go_with_their_group():
    splits = ["train"] * 20 + ["test"] * 5 + [None] * 5
    groups = [None] * 24 + ["p"] * 2 + [None] * 4
    division = divide(make(30), [], known(30, splits, groups, "declared"), rules())
    assert division.places[25] == "test"


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no images to train on"):
        divide(make(5), [], known(5, ["test"] * 5, kind="declared"), rules())


def test_a_leak_names_pair_and_reason():
    records = make(4)
    places = ["train", "test", "test", LEFT_OUT]
    with pytest.raises(
        DataError, match=r"n0 \(train\) and n1 \(test\) show the same p"
    ):
        require_no_leak(records, places, [Link(0, 1, "exact", 1.0)], [None] * 4)
    with pytest.raises(DataError, match="are of 'sequence 3'"):
        require_no_leak(records, places, [], ["sequence 3", None, "sequence 3", None])
    require_no_leak(records, places, [Link(0, 3, "near", 1.0)], [None] * 4)


def test_the_artifact_tells_all_and_is_the_same_every_time():
    records = make(30)
    division = divide(records, [Link(0, 1, "near", 0.9)], known(30), rules())
    data = artifact(records, division, vars(rules()))
    assert data == artifact(records, division, vars(rules()))
    table = json.loads(data)
    pairs = zip(records, division.places, strict=True)
    assert table["splits"] == {record.id: place for record, place in pairs}
    assert table["groups"] == {"n0": "like n0", "n1": "like n0"}
    assert table["settings"]["seed"] == 2981
