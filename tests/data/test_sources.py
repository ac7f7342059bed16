"""Folders and BUSI in the forms that users have, and what is said when they are not."""

import shutil
import zipfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from kmunet.data.integrity import check
from kmunet.data.sources import open_source
from kmunet.errors import ConfigError, PairError, SourceError, UnreadableError

GREY = np.tile(np.arange(0, 240, 12, dtype=np.uint8), (16, 1))
MASK = np.zeros((16, 20), np.uint8)
MASK[2:6, 3:9] = 255
OTHER = np.zeros((16, 20), np.uint8)
OTHER[10:14, 12:18] = 255


def zip_tree(folder, path):
    assert not path.is_relative_to(folder), "a zip inside what it packs has no end"
    with zipfile.ZipFile(path, "w") as file:
        for item in sorted(folder.rglob("*")):
            if item.is_file():
                file.write(item, item.relative_to(folder).as_posix())
    return path


@pytest.fixture
def busi(tmp_path, save):
    """A little BUSI: two benign (one with two masks), one malignant, one normal."""
    root = tmp_path / "busi" / "Dataset_BUSI_with_GT"
    for name in ("benign/benign (1)", "benign/benign (10)", "malignant/malignant (1)"):
        save(root / f"{name}.png", GREY)
        save(root / f"{name}_mask.png", MASK)
    save(root / "benign/benign (10)_mask_1.png", OTHER)
    save(root / "normal/normal (1).png", GREY)
    save(root / "normal/normal (1)_mask.png", np.zeros((16, 20, 3)))
    return tmp_path / "busi"


def test_folder_layouts(tmp_path, save):
    names = ["{0}.png", "{0}_mask.png", "{0}_segmentation.png", "0/{0}.png"]
    for number, name in enumerate(names):
        root = tmp_path / str(number)
        save(root / "images" / "a (1).jpg", GREY)
        save(root / "masks" / name.format("a (1)"), MASK)
        with open_source("folder", root) as source:
            (pair,) = source.pairs()
            image, mask = pair.read()
        assert (pair.id, pair.category) == ("a (1)", None)
        assert image.shape == (16, 20, 3)
        np.testing.assert_array_equal(mask * 255, MASK)


def test_a_zip_holds_the_same_as_its_folder(tmp_path, lesions):
    (tmp_path / "zipped").mkdir()
    (tmp_path / "nested").mkdir()
    shutil.copytree(lesions, tmp_path / "nested" / "my set")
    zip_tree(tmp_path / "nested", tmp_path / "zipped" / "any name.zip")
    with (
        open_source("folder", lesions) as plain,
        open_source("folder", tmp_path / "zipped") as zipped,
    ):
        assert check(plain) == check(zipped)


@pytest.mark.parametrize("suffix", ["gif", "webp", "GIF"])
def test_gif_and_webp_are_read(tmp_path, save, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    save(tmp_path / "images" / f"a.{suffix}", GREY, **options)
    save(tmp_path / "masks" / f"a.{suffix}", MASK, **options)
    with open_source("folder", tmp_path) as source:
        image, mask = source.pairs()[0].read()
    np.testing.assert_array_equal(image[..., 0], GREY)
    np.testing.assert_array_equal(mask * 255, MASK)


def test_images_of_other_types_are_named(tmp_path, save):
    for folder, array in (("images", GREY), ("masks", MASK)):
        save(tmp_path / folder / "a.png", array)
        for name in ("readme", "Thumbs.db", "list.CSV", "a.json", ".b.jp2"):
            (tmp_path / folder / name).write_text("no image")
        Image.fromarray(array).save(tmp_path / folder / "b.jp2")
    (tmp_path / "notes.docx").write_text("elsewhere")
    (tmp_path / "model.pt").write_text("elsewhere")
    text = r"images/b\.jp2, masks/b\.jp2: of a type that is not read .*save as PNG"
    with open_source("folder", tmp_path) as source:
        assert [pair.id for pair in source.matched] == ["a"]
        with pytest.raises(PairError, match=text):
            check(source)
    for folder in ("images", "masks"):
        (tmp_path / folder / "b.jp2").unlink()
    with open_source("folder", tmp_path) as source:
        assert len(check(source)) == 1
        (tmp_path / "images" / "a.png").rename(tmp_path / "images" / "a.dcm")
        (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "a.nii")
    with pytest.raises(SourceError, match=r"images/a\.dcm: of a type that is not read"):
        open_source("folder", tmp_path)


def test_several_masks_of_one_image_are_joined(tmp_path, save):
    save(tmp_path / "images" / "a.png", GREY)
    save(tmp_path / "masks" / "a_mask.png", MASK)
    save(tmp_path / "masks" / "a_mask_1.png", OTHER)
    with open_source("folder", tmp_path) as source:
        _, mask = source.pairs()[0].read()
    np.testing.assert_array_equal(mask * 255, MASK | OTHER)


@pytest.mark.parametrize("form", ["dataset", "classes", "zip", "zip file"])
def test_busi_in_each_form(busi, tmp_path, form):
    path = {
        "dataset": busi,
        "classes": busi / "Dataset_BUSI_with_GT",
        "zip": tmp_path / "zipped",
        "zip file": tmp_path / "zipped" / "Dataset_BUSI.zip",
    }[form]
    (tmp_path / "zipped").mkdir()
    zip_tree(busi, tmp_path / "zipped" / "Dataset_BUSI.zip")
    with open_source("busi", path) as source:
        pairs = source.pairs()
        masks = {pair.id: pair.read()[1] * 255 for pair in pairs}
    assert [pair.category for pair in pairs] == 2 * ["benign"] + ["malignant", "normal"]
    np.testing.assert_array_equal(masks["benign (10)"], MASK | OTHER)
    np.testing.assert_array_equal(masks["benign (1)"], MASK)
    assert not masks["normal (1)"].any()


@pytest.mark.parametrize("name", ["{}_({})", "{} ({})", "{}-{}", "{}_0{}"])
@pytest.mark.parametrize("flat", [False, True])
def test_busi_knows_its_images_whatever_stands_between(tmp_path, save, name, flat):
    """Copies have benign_(433): class and number say which image it is."""
    wanted = {"benign": [1, 433], "malignant": [145], "normal": [9, 10]}
    for category, numbers in wanted.items():
        for number in numbers:
            own = name.format(category, number)
            image, mask = (
                (f"images/{own}.png", f"masks/0/{own}.png")
                if flat
                else (f"{category}/{own}.png", f"{category}/{own}_mask.png")
            )
            save(tmp_path / image, GREY)
            save(tmp_path / mask, MASK)
    with open_source("busi", tmp_path) as source:
        groups = [pair.group for pair in source.pairs()]
        notes = source.notes
    views = {"view of benign (433)": 2, "view of normal (9)": 2, None: 1}
    assert Counter(groups) == views
    assert "benign: missing 2 to 432, 434 to 437" in notes
    assert "normal: missing 1 to 8, 11 to 133" in notes


def test_busi_classes_choose_folders(busi):
    with open_source("busi", busi, ("malignant", "benign")) as source:
        assert {pair.category for pair in source.pairs()} == {"benign", "malignant"}
    with pytest.raises(ConfigError, match="'malign' is no class of BUSI"):
        open_source("busi", busi, ("malign",))
    shutil.rmtree(busi / "Dataset_BUSI_with_GT" / "normal")
    with pytest.raises(SourceError, match="no images in normal/; found only benign"):
        open_source("busi", busi, ("benign", "normal"))


def test_another_data_set_is_recognised(lesions, busi):
    with pytest.raises(SourceError, match=r"not BUSI: found images/.*synthetic_0000"):
        open_source("busi", lesions)
    with pytest.raises(SourceError, match=r"no images/ and masks/.*Dataset_BUSI_with"):
        open_source("folder", busi)


def test_two_copies_of_busi_are_refused(busi):
    shutil.copytree(busi / "Dataset_BUSI_with_GT", busi / "copy")
    with pytest.raises(SourceError, match="class benign lies in several folders"):
        open_source("busi", busi)


def test_missing_paths(tmp_path):
    with pytest.raises(SourceError, match=r"no such folder; put Dataset_BUSI\.zip"):
        open_source("busi", tmp_path / "gone")
    with pytest.raises(SourceError, match="no such folder; put images/ and masks/"):
        open_source("folder", tmp_path / "gone")


def test_wrong_settings(lesions):
    with pytest.raises(ConfigError, match="unknown 'isic'"):
        open_source("isic", lesions)
    with pytest.raises(ConfigError, match="kind 'cvc' has one class"):
        open_source("cvc", lesions, ("a",))
    with pytest.raises(ConfigError, match="sources: values: only kinds"):
        open_source("busi", lesions, ("benign",), (3,))


def test_folders_without_images(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "readme.txt").write_text("none yet")
    with pytest.raises(SourceError, match="no images/ and masks/ folders"):
        open_source("folder", tmp_path)


def test_class_folders_and_subfolders_are_refused(tmp_path, save, lesions):
    shutil.copytree(lesions / "masks", lesions / "masks" / "1")
    with pytest.raises(SourceError, match=r"masks/ holds folders \(1\)"):
        open_source("folder", lesions)
    save(tmp_path / "b" / "images" / "patient" / "a.png", GREY)
    save(tmp_path / "b" / "masks" / "a.png", MASK)
    with pytest.raises(SourceError, match=r"images/patient/a\.png: folders inside"):
        open_source("folder", tmp_path / "b")


def test_images_without_masks_are_counted_and_named(lesions):
    for number in range(7):
        (lesions / "masks" / f"synthetic_{number:04d}.png").unlink()
    expected = r"7 images without a mask: images/synthetic_0000\.png.* and 2 more"
    with open_source("folder", lesions) as source:
        with pytest.raises(PairError, match=expected):
            source.pairs()
        with pytest.raises(PairError, match=expected):
            check(source)


def test_masks_without_images_and_twins(lesions, save):
    (lesions / "images" / "synthetic_0003.png").unlink()
    save(lesions / "images" / "synthetic_0004.jpg", GREY)
    with open_source("folder", lesions) as source, pytest.raises(PairError) as caught:
        check(source)
    assert "1 mask without an image: masks/synthetic_0003.png" in str(caught.value)
    assert "two images of one name: images/synthetic_0004.jpg" in str(caught.value)


def test_every_problem_is_listed_in_one_error(lesions, save):
    save(lesions / "masks" / "synthetic_0000.png", MASK)
    (lesions / "images" / "synthetic_0001.png").write_bytes(b"no image")
    (lesions / "masks" / "synthetic_0002.png").unlink()
    with open_source("folder", lesions) as source, pytest.raises(PairError) as caught:
        check(source)
    text = str(caught.value)
    assert "3 problems" in text
    assert "masks/synthetic_0000.png: 20x16 pixels, but its image" in text
    assert "images/synthetic_0000.png has 40x40" in text
    assert "images/synthetic_0001.png: cannot be read as an image" in text
    assert "1 image without a mask: images/synthetic_0002.png" in text


def test_no_more_than_ten_problems_are_listed(lesions):
    for path in (lesions / "images").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with (
        open_source("folder", lesions) as source,
        pytest.raises(UnreadableError) as caught,
    ):
        check(source)
    assert "20 problems" in str(caught.value)
    assert str(caught.value).count("cannot be read") == 10
    assert str(caught.value).endswith("and 10 more")


def test_an_exif_turn_applies_to_image_and_mask(tmp_path, save):
    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path / "images" / "a.png", GREY, exif=exif)
    save(tmp_path / "masks" / "a.png", MASK, exif=exif)
    with open_source("folder", tmp_path) as source:
        (record,) = check(source)
    assert (record.height, record.width) == (20, 16)
