"""ISIC, CVC, GlaS and U-KAN's layout in small: names, splits, groups, gaps."""

import shutil
import zipfile

import numpy as np
import pytest
import tifffile

from kmunet.data.about import missing_numbers
from kmunet.data.cvc import LAST_FRAMES, sequence
from kmunet.data.integrity import check
from kmunet.data.sources import open_source
from kmunet.errors import PairError, SourceError

RGB = np.arange(16 * 20 * 3, dtype=np.uint8).reshape(16, 20, 3)
MASK = np.zeros((16, 20), np.uint8)
MASK[2:6, 3:9] = 255


@pytest.fixture
def isic(tmp_path, save):
    """ISIC 2017 unpacked: two images of train, one of validation and test."""
    root = tmp_path / "isic"
    parts = {"Training": ("0", "1"), "Validation": ("7",), "Test_v2": ("9",)}
    for part, numbers in parts.items():
        data = root / f"ISIC-2017_{part}_Data"
        for number in numbers:
            name = f"ISIC_000000{number}"
            save(data / f"{name}.jpg", RGB + np.uint8(int(number)))
            save(data / f"{name}_superpixels.png", RGB)
            truth = root / f"ISIC-2017_{part}_Part1_GroundTruth"
            save(truth / f"{name}_segmentation.png", MASK)
        (data / f"ISIC-2017_{part}_Data_metadata.csv").write_text("image_id\n")
    return root


def pack(folder, target, inside=True):
    """Zip each folder below `folder` alone, as ISIC gives them out."""
    target.mkdir()
    for part in sorted(folder.iterdir()):
        with zipfile.ZipFile(target / f"{part.name}.zip", "w") as file:
            for item in sorted(part.iterdir()):
                name = f"{part.name}/{item.name}" if inside else item.name
                file.write(item, name)
    return target


@pytest.mark.parametrize("form", ["folder", "zips", "flat zips", "paths", "both"])
def test_isic_in_each_form(isic, tmp_path, form):
    path = isic
    if form != "folder":
        path = pack(isic, tmp_path / "zips", inside=form != "flat zips")
    if form == "paths":
        path = sorted(path.glob("*.zip"))
    if form == "both":  # unpacked beside the archives
        shutil.copytree(isic, path, dirs_exist_ok=True)
    with open_source("isic2017", path) as source:
        pairs = source.pairs()
        assert len(check(source)) == 4
    assert [pair.split for pair in pairs] == ["train", "train", "validation", "test"]
    assert source.splits == "official"
    assert source.notes[0] == "ISIC 2017 part 1: train: 2 of 2000 images are here"


def test_isic_says_which_archive_is_missing(isic):
    shutil.rmtree(isic / "ISIC-2017_Test_v2_Part1_GroundTruth")
    with pytest.raises(SourceError) as caught:
        open_source("isic2017", isic)
    assert "1 test images, but none of their masks" in str(caught.value)
    assert "add ISIC-2017_Test_v2_Part1_GroundTruth.zip" in str(caught.value)
    with pytest.raises(SourceError, match="this is ISIC 2017, not ISIC 2018 task 1"):
        open_source("isic2018", isic)


def test_isic_2018_names(tmp_path, save):
    for part, split in (("Training", "train"), ("Validation", "validation")):
        name = f"ISIC_00000{len(part):02d}"
        save(tmp_path / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg", RGB)
        truth = tmp_path / f"ISIC2018_Task1_{part}_GroundTruth"
        save(truth / f"{name}_segmentation.png", MASK)
        other = tmp_path / f"ISIC2018_Task2_{part}_GroundTruth_v3"
        save(other / f"{name}_attribute_globules.png", MASK)
        with open_source("isic2018", tmp_path) as source:
            assert {pair.split for pair in source.pairs()} >= {split}
    assert len(source.pairs()) == 2


def test_isic_in_one_folder_has_no_official_split(tmp_path, save):
    save(tmp_path / "x" / "ISIC_0000003.jpg", RGB)
    save(tmp_path / "y" / "ISIC_0000003_segmentation.png", MASK)
    with open_source("isic2018", tmp_path) as source:
        (pair,) = source.pairs()
    assert pair.split is None
    assert source.splits == ""
    assert "official split is not known" in source.notes[0]


def test_an_image_in_two_parts_is_a_problem(isic):
    name = "ISIC_0000007"
    for kind, end in (("Data", ".jpg"), ("Part1_GroundTruth", "_segmentation.png")):
        path = isic / f"ISIC-2017_Validation_{kind}" / f"{name}{end}"
        shutil.copy(path, isic / f"ISIC-2017_Training_{kind}")
    with (
        open_source("isic2017", isic) as source,
        pytest.raises(PairError, match="ISIC_0000007: in several parts"),
    ):
        source.pairs()


@pytest.mark.parametrize(
    "names", [("Original", "Ground Truth"), ("original", "ground_truth")]
)
def test_cvc_takes_one_of_its_two_copies(tmp_path, save, names):
    for number in (1, 25, 26, 612):
        save(tmp_path / "PNG" / names[0] / f"{number}.png", RGB)
        save(tmp_path / "PNG" / names[1] / f"{number}.png", MASK)
        for name, pixels in zip(names, (RGB, MASK), strict=True):
            path = tmp_path / "TIF" / name / f"{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, pixels)
    with open_source("cvc", tmp_path) as source:
        pairs = source.pairs()
    assert all(pair.image.endswith(".png") for pair in pairs)
    groups = {pair.id: pair.group for pair in pairs}
    assert groups == {"1": "sequence 1", "25": "sequence 1", "26": "sequence 2",
                      "612": "sequence 29"}  # fmt: skip
    shutil.rmtree(tmp_path / "PNG" / names[1])
    with open_source("cvc", tmp_path) as source:
        assert all(pair.image.endswith(".tif") for pair in source.pairs())


def test_cvc_sequences():
    assert len(LAST_FRAMES) == 29
    assert [sequence(n) for n in (1, 25, 26, 67, 68, 591, 592, 612)] == [
        1, 1, 2, 3, 4, 28, 29, 29,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="frame 613"):
        sequence(613)


def test_cvc_knows_its_frames(tmp_path, save):
    save(tmp_path / "Original" / "613.png", RGB)
    save(tmp_path / "Ground Truth" / "613.png", MASK)
    with (
        open_source("cvc", tmp_path) as source,
        pytest.raises(PairError, match=r"613\.png: no name of this data set"),
    ):
        source.pairs()


@pytest.fixture
def glas(tmp_path, save):
    root = tmp_path / "Warwick QU Dataset (Released 2016_07_08)"
    ids = np.kron(np.arange(6).reshape(2, 3), np.ones((8, 6)))
    for name in ("train_1", "train_2", "testA_1", "testB_20"):
        save(root / f"{name}.bmp", RGB[:, :18])
        save(root / f"{name}_anno.bmp", ids)
    rows = ["name,patient ID,grade (GlaS),grade (Sirinukunwattana et al. 2015)"]
    rows += [f"{n}, {p}, {g}, other" for n, p, g in (
        ("train_1", 4, "benign"), ("train_2", 5, "malignant"), ("testA_1", 4, "benign"),
        ("testB_20", 6, "malignant"))]  # fmt: skip
    (root / "Grade.csv").write_text("\n".join(rows) + "\n")
    return root


def test_glas_ids_are_glands_and_grades_are_read(glas):
    with open_source("glas", glas) as source:
        pairs = {pair.id: pair for pair in source.pairs()}
        records = check(source)
    assert {pair.split for pair in pairs.values()} == {"train", "test"}
    assert pairs["testB_20"].split == "test"
    assert pairs["train_1"].group == pairs["testA_1"].group == "patient 4"
    assert pairs["train_2"].category == "malignant"
    assert {record.foreground for record in records} == {5 / 6}
    assert "train: missing 3 to 85" in source.notes
    (glas / "Grade.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="no table of name, patient ID and grade"):
        open_source("glas", glas)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("cvc", ["1", "30"]),
        ("glas", ["train_1", "testA_3"]),
        ("isic2018", ["ISIC_0000000", "ISIC_0000001"]),
        ("isic2017", ["ISIC_0000000", "ISIC_0000001"]),
        ("busi", ["benign (1)", "malignant (2)"]),
    ],
)
@pytest.mark.parametrize("masks", ["masks", "masks/0"])
def test_the_layout_of_u_kan(tmp_path, save, kind, names, masks):
    for name in names:
        save(tmp_path / kind / "images" / f"{name}.png", RGB)
        save(tmp_path / kind / masks / f"{name}.png", MASK)
    with open_source(kind, tmp_path) as source:
        pairs = source.pairs()
        assert [record.foreground for record in check(source)] == [0.075] * 2
    assert sorted(pair.id for pair in pairs) == sorted(names)


@pytest.mark.parametrize("kind", ["isic2017", "isic2018", "cvc", "glas", "busi"])
def test_another_data_set_is_refused(lesions, kind):
    with pytest.raises((SourceError, PairError), match=r"this is not|no name of this"):
        open_source(kind, lesions).pairs()


def test_an_archive_that_is_no_zip_says_what_to_do(tmp_path):
    (tmp_path / "CVC-ClinicDB.rar").write_bytes(b"Rar!")
    for path in (tmp_path, tmp_path / "CVC-ClinicDB.rar"):
        with pytest.raises(SourceError, match=r"rar: only zip archives are read; unp"):
            open_source("cvc", path)


def test_runs_of_missing_numbers():
    assert missing_numbers("a", [1, 2, 3], 3) == ""
    assert missing_numbers("a", [2], 5) == "a: missing 1, 3 to 5"
    assert missing_numbers("a", range(1, 40, 2), 40).endswith("14, 16, ...")
