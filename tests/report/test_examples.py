"""Which images are shown: failures first, each once, within the budget."""

import re

import pytest

from kmunet.report.examples import SECTIONS, choose_examples, file_name


def test_every_section_has_its_turn(table):
    chosen = choose_examples(table, 5)
    assert list(chosen) == list(SECTIONS)
    assert all(len(places) == 1 for places in chosen.values())


def test_order_within_sections(table):
    chosen = choose_examples(table, 100)
    ids = {name: [table[n]["id"] for n in places] for name, places in chosen.items()}
    assert ids["misses"] == ["missed/large", "missed/small #1?.png"]
    assert ids["false_alarms"] == ["normal [1] %20"]
    scores = {name: [table[n]["iou"] for n in chosen[name]] for name in chosen}
    assert scores["worst"] == sorted(scores["worst"])
    assert scores["best"] == sorted(scores["best"], reverse=True)
    assert scores["best"][0] == 1.0
    assert max(scores["worst"]) < min(scores["best"])
    assert scores["worst"][0] <= scores["median"][0] <= scores["best"][0]


@pytest.mark.parametrize("budget", [0, 1, 3, 7, 100])
def test_no_image_twice_and_never_more_than_asked_for(table, budget):
    places = [n for section in choose_examples(table, budget).values() for n in section]
    assert len(places) == len(set(places)) == min(budget, 12)


def test_images_rightly_left_empty_are_not_shown(table):
    empty = [row for row in table if row["outcome"] == "empty"]
    assert choose_examples(empty, 10) == {}


@pytest.mark.parametrize(
    "identifier", ["benign (1)", "a/b\\c", "..", "", "ü #?%&<>", "x" * 300, "CON 1"]
)
def test_file_names_are_safe_and_short(identifier):
    name = file_name("worst", 3, identifier)
    assert re.fullmatch(r"worst-03-[A-Za-z0-9._-]+\.png", name)
    assert len(name) < 80


def test_ids_that_become_the_same_keep_their_files_apart():
    assert file_name("best", 1, "a (1)") != file_name("best", 2, "a [1]")
