"""Manifests in CSV and Parquet: what they may say, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from kmunet.data.integrity import check
from kmunet.data.sources import open_source
from kmunet.errors import PairError, SourceError

GREY = np.tile(np.arange(0, 240, 12, dtype=np.uint8), (16, 1))
MASK = np.zeros((16, 20), np.uint8)
MASK[2:6, 3:9] = 255


@pytest.fixture
def tree(tmp_path, save):
    for number in range(3):
        save(tmp_path / "scans" / f"s{number}.png", np.roll(GREY, number, 0))
        save(tmp_path / "truth" / f"s{number}_a.png", MASK)
        save(tmp_path / "truth" / f"s{number}_b.png", np.roll(MASK, 8, 0))
    return tmp_path


def write(tree, text, name="manifest.csv"):
    (tree / name).write_text(text)
    return tree / name


ROWS = """image,mask,group,split
scans/s0.png,truth/s0_a.png;truth/s0_b.png,p1,train
scans/s1.png,truth/s1_a.png,p1,val
scans/s2.png,truth/s2_a.png,,test
"""


@pytest.mark.parametrize("form", ["file", "folder", "parquet"])
def test_each_form(tree, form):
    path = write(tree, ROWS)
    if form == "parquet":
        rows = [line.split(",") for line in ROWS.splitlines()]
        columns = {k: [row[n] for row in rows[1:]] for n, k in enumerate(rows[0])}
        columns["group"][2] = None
        path.unlink()
        path = tree / "table.parquet"
        pyarrow.parquet.write_table(pa.table(columns), path)
    with open_source("manifest", tree if form == "folder" else path) as source:
        first, second, third = source.pairs()
        records = check(source)
    assert [pair.id for pair in (first, second, third)] == ["s0", "s1", "s2"]
    assert (first.group, second.group, third.group) == ("p1", "p1", None)
    assert (first.split, second.split, third.split) == ("train", "validation", "test")
    assert source.splits == "declared"
    assert records[0].foreground == 2 * records[1].foreground


def test_rows_of_one_image_are_joined_and_ids_may_be_given(tree):
    text = "id,image,mask,category\n"
    text += "a,scans/s0.png,truth/s0_a.png,x\na,scans/s0.png,truth/s0_b.png,x\n"
    with open_source("manifest", write(tree, text)) as source:
        (pair,) = source.pairs()
    assert (pair.id, pair.category, len(pair.masks)) == ("a", "x", 2)
    assert source.splits == ""


def test_images_of_one_name_in_two_folders_get_longer_ids(tree, save):
    save(tree / "more" / "s0.png", GREY)
    text = "image,mask\nscans/s0.png,truth/s0_a.png\nmore/s0.png,truth/s0_b.png\n"
    with open_source("manifest", write(tree, text)) as source:
        assert [pair.id for pair in source.pairs()] == ["more/s0", "scans/s0"]


def test_paths_as_windows_writes_them(tree, save):
    save(tree / "more" / "s0.png", GREY)
    text = "image,mask\nscans\\s0.png,truth\\s0_a.png\nmore\\s0.png,truth/s0_b.png\n"
    with open_source("manifest", write(tree, text)) as source:
        assert [pair.id for pair in source.pairs()] == ["more/s0", "scans/s0"]
    text = "image,mask\nscans\\s0.png,truth/s0_a.png\nscans/s0.png,truth/s0_b.png\n"
    with open_source("manifest", write(tree, text)) as source:
        (pair,) = source.pairs()
    assert (pair.id, len(pair.masks)) == ("s0", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na,b\n", "no column 'mask'; found image, label: rename"),
        ("img_path,mask_path\na,b\n", "'image'; found img_path, mask_path: rename"),
        ("image;mask\na;b\n", "found image;mask: separate the columns by commas"),
        ("image\tmask\na\tb\n", "the columns by commas, not by tabs"),
        ("Image, Mask\n", "no rows below the header: add one for each image"),
        ("image,mask\nscans/s0.png,.\n", "line 2: '.': paths must be relative"),
        ("", "no column 'image'; found no rows"),
        ("image,mask,split\nscans/s0.png,truth/s0_a.png,dev\n", "line 2: split 'dev'"),
        ("image,mask\n/etc/x.png,truth/s0_a.png\n", "line 2: '/etc/x.png': paths must"),
        ("image,mask\n../x.png,truth/s0_a.png\n", "relative to the table and lie"),
        ("image,mask\nC:\\x.png,truth/s0_a.png\n", "relative to the table and lie"),
    ],
)
def test_a_wrong_table_is_refused(tree, text, message):
    with pytest.raises(SourceError) as caught:
        open_source("manifest", write(tree, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("scans/s9.png,truth/s0_a.png", "line 3: scans/s9.png: no such image file"),
        ("scans/s1.png,", "line 3: no mask given"),
        ("scans/s0.png,truth/s1_a.png", ""),
    ],
)
def test_wrong_rows_are_listed(tree, row, message):
    text = f"image,mask\nscans/s0.png,truth/s0_a.png\n{row}\n"
    with open_source("manifest", write(tree, text)) as source:
        if not message:  # a second mask of the same image is no fault
            assert len(source.pairs()[0].masks) == 2
            return
        with pytest.raises(PairError, match=message):
            source.pairs()


def test_no_table_or_two_and_bytes_that_are_none(tree):
    with pytest.raises(SourceError, match=r"expected one manifest\.csv .* found none"):
        open_source("manifest", tree)
    write(tree, ROWS)
    (tree / "b.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(SourceError, match=r"found 2 tables \(b\.parquet, manifest"):
        open_source("manifest", tree)
    with pytest.raises(SourceError, match=r"b\.parquet: cannot be read as a table"):
        open_source("manifest", tree / "b.parquet")
    (tree / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match=r"c\.csv: cannot be read as a table"):
        open_source("manifest", tree / "c.csv")
