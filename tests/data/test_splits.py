"""Properties of splits: content decides, units stay whole, shares are kept."""

import hashlib
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmunet.data.record import SPLITS, Record
from kmunet.data.splits import split
from kmunet.errors import DataError

SHARES = SimpleNamespace(seed=2981, validation=0.15, test=0.15)


def record(number, pixels, category="a", foreground=0.1):
    def digest(text):
        return hashlib.sha256(text.encode()).hexdigest()

    return Record(
        id=f"name {number}",
        category=category,
        height=8,
        width=8,
        foreground=foreground,
        image_sha256=digest(f"image {pixels}"),
        sha256=digest(f"image {pixels} and mask {foreground}"),
    )


# few pixel contents: duplicates are common
contents = st.tuples(
    st.integers(0, 60), st.sampled_from("abc"), st.sampled_from([0.0, 0.1, 0.4])
)
record_lists = st.lists(contents, min_size=1, max_size=80).map(
    lambda rows: [record(n, *row) for n, row in enumerate(rows)]
)
shares = st.builds(
    SimpleNamespace,
    seed=st.integers(0, 2**32 - 1),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
)


def distinct(records):
    return len({r.image_sha256 for r in records})


@given(record_lists, shares)
@settings(max_examples=200, deadline=None)
def test_each_split_has_some_and_duplicates_stay_together(records, params):
    if distinct(records) < 3:
        with pytest.raises(DataError, match="at least 3 distinct ones are needed"):
            split(records, params)
        return
    places = split(records, params)
    assert set(places) == set(SPLITS)
    sides = {(r.image_sha256, s) for r, s in zip(records, places, strict=True)}
    assert len(sides) == distinct(records)


@given(record_lists.filter(lambda r: distinct(r) > 2), shares, st.randoms())
@settings(max_examples=200, deadline=None)
def test_order_and_names_do_not_matter(records, params, random):
    before = dict(zip((r.id for r in records), split(records, params), strict=True))
    order = list(range(len(records)))
    random.shuffle(order)
    renamed = [replace(records[n], id=f"other {n * 7919 % 1000}") for n in order]
    after = split(renamed, params)
    for n, place in zip(order, after, strict=True):
        assert place == before[records[n].id]


@given(st.lists(st.integers(0, 9), min_size=10, max_size=60), shares)
@settings(max_examples=200, deadline=None)
def test_groups_are_never_broken(labels, params):
    records = [record(n, n) for n in range(len(labels))]
    if len(set(labels)) < 3:
        return
    places = split(records, params, groups=labels)
    pairs = set(zip(labels, places, strict=True))
    assert len(pairs) == len(set(labels))
    assert set(places) == set(SPLITS)


def test_groups_and_duplicates_chain_into_one_unit():
    records = [
        record(0, 0),
        record(1, 0),
        record(2, 1),
        *(record(n, n) for n in (5, 6)),
    ]
    places = split(records, SHARES, groups=[None, "g", "g", None, None])
    assert len(set(places[:3])) == 1


@given(st.integers(40, 300), shares)
@settings(max_examples=60, deadline=None)
def test_shares_hold_in_each_stratum_and_in_all(count, params):
    kinds = [("a", 0.0), ("a", 0.1), ("b", 0.3)]
    records = [record(n, n, *kinds[n % 3]) for n in range(count)]
    places = split(records, params)
    by_stratum = Counter(
        (r.category, r.foreground, s) for r, s in zip(records, places, strict=True)
    )
    for category, foreground in kinds:
        here = sum(
            (r.category, r.foreground) == (category, foreground) for r in records
        )
        for name, share in (("validation", params.validation), ("test", params.test)):
            got = by_stratum[category, foreground, name]
            assert abs(got - share * here) <= 2


def test_large_and_small_lesions_go_to_every_split():
    records = [record(n, n, foreground=0.01 + 0.004 * n) for n in range(100)]
    places = split(records, SHARES)
    for name in SPLITS:
        sizes = [
            r.foreground for r, s in zip(records, places, strict=True) if s == name
        ]
        small = sum(size <= 0.01 + 0.004 * 49.5 for size in sizes)
        assert abs(small - len(sizes) / 2) <= 1.5


def test_the_seed_deals_anew():
    records = [record(n, n) for n in range(60)]
    other = SimpleNamespace(seed=1, validation=0.15, test=0.15)
    assert split(records, SHARES) != split(records, other)
    assert Counter(split(records, SHARES)) == Counter(split(records, other))


def test_a_few_more_images_move_few_of_the_old():
    records = [record(n, n) for n in range(200)]
    before = split(records[:190], SHARES)
    after = split(records, SHARES)
    moved = sum(a != b for a, b in zip(before, after, strict=False))
    assert moved < 100  # a new permutation of places would move about 93 of 190
