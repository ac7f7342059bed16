"""report.html: what it says, that its links lead somewhere, and that it is safe."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from kmunet.report import write_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Links, tags and text of a page; fails where tags are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page(tmp_path, make_report) -> Page:
    return Page(write_report(tmp_path, make_report()))


def test_every_link_is_relative_and_leads_to_a_file(tmp_path, page):
    assert len(page.links) > 20
    for link in page.links:
        assert ":" not in link, link
        assert not link.startswith("/")
        assert (tmp_path / unquote(link)).is_file(), link


def test_every_overlay_is_shown(tmp_path, page):
    files = {f"overlays/{file.name}" for file in (tmp_path / "overlays").iterdir()}
    assert len(files) == 12
    assert files == {unquote(x) for x in page.links if x.startswith("overlays/")}


def test_needs_no_network_and_no_scripts(page):
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not any("url(" in word or "@import" in word for word in page.words)


def test_ids_and_values_are_escaped(page):
    assert "benign (3) <b>&" in page.text
    assert "missed/small #1?.png" in page.text
    assert "<two> & more" in page.text
    bold = [tag for tag in page.tags if tag == "b"]
    assert len(bold) == 4 + 12  # cards and captions, none from an id


def test_says_the_numbers_and_the_rules(page, make_report):
    metrics = make_report().metrics
    assert f"{metrics['iou']['mean']:.3f}" in page.text
    assert "90 % interval" in page.text
    assert f"{metrics['paper']['pooled_iou']:.3f}" in page.text
    assert "1,234,567 parameters" in page.text
    assert "2 misses of 11 images with a lesion" in page.text
    assert "1 false alarms of 2 images without one" in page.text
    assert "not defined on 3" in page.text
    for words in ("both empty", "false alarm", "is a miss", "As the KM-UNet paper"):
        assert words in page.text


def test_pooled_scores_are_not_compared_with_those_of_another_size(
    tmp_path, page, make_report
):
    assert "Gap to the mean IoU" in page.text
    assert "at the prepared size" not in page.text
    report = make_report()
    metrics = {**report.metrics, "resolution": "native"}
    native = Page(write_report(tmp_path / "native", replace(report, metrics=metrics)))
    assert "Gap to the mean IoU" not in native.text
    assert "its tables only, at the prepared size" in native.text
    assert f"{metrics['paper']['pooled_iou']:.3f}" in native.text


def test_failures_come_first(page):
    titles = ["Misses:", "False alarms:", "Worst", "Around the median", "Best"]
    places = [page.text.index(title) for title in titles]
    assert places == sorted(places)


def test_is_the_same_bytes_each_time(tmp_path, make_report):
    def written(name: str) -> dict[str, bytes]:
        folder = tmp_path / name
        write_report(folder, make_report())
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    assert written("a") == written("b")
    pngs = [data for name, data in written("a").items() if name.endswith(".png")]
    assert len(pngs) == 12 + 3
    assert not any(b"Software" in data or b"tIME" in data for data in pngs)


def test_without_overlays_it_says_why(tmp_path, make_report):
    page = Page(write_report(tmp_path, make_report(budget=0)))
    assert "No overlays" in page.text


@pytest.mark.parametrize("outcome", ["empty", "miss", "false_alarm", "segmented"])
def test_any_mix_of_outcomes_can_be_shown(tmp_path, make_report, table, outcome):
    rows = [row for row in table if row["outcome"] == outcome][:1]
    page = Page(write_report(tmp_path, make_report(rows=rows)))
    assert "Where this comes from" in page.text
