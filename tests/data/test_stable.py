"""split.stable: new images move none of those that were there, in folds too."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from kmunet.data.groups import clusters
from kmunet.data.protocols import Known, divide
from kmunet.data.record import SPLITS
from kmunet.errors import DataError
from tests.data.divisions import as_links, drawn, make

PLAIN = {"protocol": "clean", "seed": 3, "validation": 0.2, "test": 0.2, "folds": 1,
         "fold": 0, "official": True, "stable": True}  # fmt: skip
MOST = 90


def rules(**changes):
    return SimpleNamespace(**{**PLAIN, **changes})


def known(groups, splits=None, kind=""):
    return Known(splits or [None] * len(groups), groups, kind)


pairs = st.lists(
    st.tuples(st.integers(0, MOST - 1), st.integers(0, MOST - 1)), max_size=8
)
labels = st.lists(
    st.sampled_from([None] * 6 + list("pqrst")), min_size=MOST, max_size=MOST
)
settings_of = drawn(rules)


def units(count, links, groups):
    own = [[label] if label else [] for label in groups[:count]]
    return {row: found for found in clusters(count, links, own) for row in found}


@given(st.integers(50, 70), pairs, labels, settings_of, st.randoms())
@settings(max_examples=60, deadline=None)
def test_more_images_move_nobody_but_members_of_units_that_merge(
    count, pairs, groups, rules, random
):
    few = as_links([p for p in pairs if max(p) < count])
    many = as_links(pairs)
    try:
        old = divide(make(count), few, known(groups[:count]), rules).places
        new = divide(make(MOST), many, known(groups), rules).places
    except DataError as error:  # by chance a part is empty
        if "split.stable: by chance" not in str(error):
            raise
        reject()
    assert set(old) == set(new) == set(SPLITS)
    before, after = units(count, few, groups), units(MOST, many, groups)
    for row in range(count):
        declared = {groups[n] for n in after[row]} - {None}
        # The same unit; or one of a declared group, which others of it have joined.
        same = after[row] == before[row]
        joined = len(declared) == 1 and groups[row] is not None
        if same or joined:
            assert new[row] == old[row], row
    for row in range(MOST):
        assert {new[n] for n in after[row]} == {new[row]}
    order = list(range(MOST))
    random.shuffle(order)
    at = {was: now for now, was in enumerate(order)}
    renamed = [replace(make(MOST)[was], id=f"z{was}") for was in order]
    moved = as_links([(at[link.a], at[link.b]) for link in many])
    again = divide(renamed, moved, known([groups[was] for was in order]), rules)
    assert [again.places[at[was]] for was in range(MOST)] == list(new)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.4), st.floats(0.1, 0.4))
@settings(max_examples=10, deadline=None)
def test_sizes_come_within_chance_and_are_told(seed, validation, test):
    chosen = rules(seed=seed, validation=validation, test=test)
    division = divide(make(2000), [], known([None] * 2000), chosen)
    counts = Counter(division.places)
    for name, share in (("validation", validation), ("test", test)):
        deviation = (share * (1 - share) / 2000) ** 0.5
        assert abs(counts[name] / 2000 - share) < 6 * deviation
        actual = f"{name} {100 * counts[name] / 2000:.1f} % ({100 * share:.1f} % asked)"
        assert actual in division.notes[-1]


def test_every_image_is_tested_and_selected_on_once():
    seen = Counter()
    for fold in range(5):
        chosen = rules(folds=5, fold=fold)
        places = divide(make(MOST), [], known([None] * MOST), chosen).places
        seen.update(zip(range(MOST), places, strict=True))
    for n in range(MOST):
        assert seen[n, "test"] == seen[n, "validation"] == 1


def test_another_share_of_validation_leaves_the_test_images():
    def tested(**changes):
        places = divide(make(MOST), [], known([None] * MOST), rules(**changes)).places
        return [n for n, place in enumerate(places) if place == "test"]

    assert tested() == tested(validation=0.3)
    assert tested() != tested(seed=4)


def test_a_corrected_mask_moves_nobody():
    own = make(MOST)
    corrected = [replace(record, sha256="new", foreground=0.5) for record in own]
    none = known([None] * MOST)
    assert divide(own, [], none, rules()).places == (
        divide(corrected, [], none, rules()).places
    )


def test_an_official_test_set_stays_and_the_rest_is_stable():
    splits = ["test"] * 20 + ["train"] * (MOST - 20)
    official = known([None] * MOST, splits, "official")
    many = divide(make(MOST), [], official, rules()).places
    official = known([None] * 60, splits[:60], "official")
    few = divide(make(60), [], official, rules()).places
    assert many[:20] == ("test",) * 20
    assert set(many[20:]) == {"train", "validation"}
    assert many[:60] == few


def test_a_split_that_stays_empty_is_refused_with_the_remedy():
    with pytest.raises(DataError, match=r"by chance 3 distinct .* another split\.seed"):
        divide(make(3), [], known([None] * 3), rules(test=0.01))
