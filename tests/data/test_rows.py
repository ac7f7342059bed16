"""Rows in files: as an array would answer, without growing with the number of rows."""

import numpy as np
import pytest

from kmunet.data import nearest
from kmunet.data.alike import find_alike
from kmunet.data.progress import parallel_map
from kmunet.data.rows import ScratchRows


def test_scratch_rows_answer_as_an_array(tmp_path):
    plain = np.random.default_rng(0).normal(size=(23, 4, 3)).astype(np.complex64)
    with ScratchRows(tmp_path, plain.shape, np.complex64) as rows:
        assert list(tmp_path.iterdir()) == []  # nothing is left when it is killed
        for part in (slice(0, 10), slice(10, 22)):
            rows[part] = plain[part]
        rows[22] = plain[22]
        assert len(rows) == 23
        for wanted in (3, np.int64(22), slice(None), slice(5, 9), slice(9, 5),
                       slice(0, 23, 4), [7, 7, 0], np.array([], int)):  # fmt: skip
            np.testing.assert_array_equal(rows[wanted], plain[wanted])
        np.testing.assert_array_equal(list(rows), plain)
        with pytest.raises(IndexError):
            rows[23]


def test_duplicates_are_the_same_from_memory_and_from_files(tmp_path, monkeypatch):
    """More images than fit one block, with shifted copies blocks apart."""
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (150, 128, 128), np.uint8)
    images[130:150] = np.roll(images[:20], (2, -3), (1, 2))
    whole = find_alike(images)
    monkeypatch.setattr(nearest, "BLOCK", 32)
    with ScratchRows(tmp_path, images.shape, np.uint8) as rows:
        rows[:] = images
        found = find_alike(rows, tmp_path)
    assert [(pair.a, pair.b) for pair in found] == [(n, 130 + n) for n in range(20)]
    assert found == find_alike(images) == whole


def test_few_results_wait_to_be_taken():
    begun = []
    results = parallel_map(begun.append, range(1000), "counting")
    next(results)
    assert len(begun) < 100
    assert sum(1 for _ in results) == 999
    assert sorted(begun) == list(range(1000))


def test_nearest_rows_are_those_of_the_whole_product(monkeypatch):
    monkeypatch.setattr(nearest, "BLOCK", 16)
    table = np.random.default_rng(2).normal(size=(75, 24)).astype(np.float32)
    product = table @ table.T
    np.fill_diagonal(product, -np.inf)
    for most in (1, 5, 74):
        found = nearest.nearest_rows(table, most)
        expected = np.argsort(-product, axis=1)[:, :most]
        np.testing.assert_array_equal(np.sort(found), np.sort(expected))
