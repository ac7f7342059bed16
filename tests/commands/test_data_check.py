"""`kmunet data check`, as it is called: files, exit codes, every kind of finding."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmunet.cli import main
from kmunet.data.synthetic import write_synthetic


@pytest.fixture
def lesions(tmp_path):
    write_synthetic(tmp_path / "raw", images=12, size=64, seed=3)
    return tmp_path / "raw"


def check(kind, *paths, out, extra=()):
    code = main(["data", "check", kind, *map(str, paths), "--out", str(out), *extra])
    return code, json.loads((out / "report.json").read_text())


def kinds(findings):
    return {item["kind"]: item for item in findings}


def test_a_good_set_passes(lesions, tmp_path, capsys):
    code, report = check("folder", lesions, out=tmp_path / "out")
    assert code == 0
    assert report["pairs"] == 12
    assert report["errors"] == report["duplicates"] == report["groups"] == []
    assert report["fingerprint"]["sizes"] == {"64x64": 12}
    assert len(report["images"]) == 12
    assert report["images"][0]["mean"][0] > 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Fingerprint" in page
    assert str(tmp_path) not in page
    assert "12 pairs, 0 errors, 0 duplicate pairs" in capsys.readouterr().out


def test_every_fault_is_an_error_and_all_are_listed(lesions, tmp_path, capsys):
    images, masks = lesions / "images", lesions / "masks"
    path = images / "synthetic_0000.png"
    path.write_bytes(path.read_bytes()[:200])
    (masks / "synthetic_0001.png").unlink()
    Image.new("L", (9, 9)).save(masks / "synthetic_0002.png")
    ids = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % 5
    Image.fromarray(ids).save(masks / "synthetic_0003.png")
    code, report = check("folder", lesions, out=tmp_path / "out")
    assert code == 1
    found = kinds(report["errors"])
    assert set(found) == {"unreadable", "unpaired", "size mismatch", "mask values"}
    assert found["size mismatch"]["ids"] == ["synthetic_0002"]
    assert "images/synthetic_0000.png: cannot be read" in found["unreadable"]["message"]
    assert report["pairs"] == 11
    assert len(report["images"]) == 8
    assert (tmp_path / "out" / "sheets" / "errors.png").is_file()
    assert "error: " in capsys.readouterr().err


def test_what_is_worth_a_look_is_a_warning(lesions, tmp_path):
    images, masks = lesions / "images", lesions / "masks"
    mask = np.zeros((64, 64), np.uint8)
    half = mask.copy()
    half[:, :20] = 255
    for number in range(12):  # no empty ones but those below
        Image.fromarray(half).save(masks / f"synthetic_{number:04d}.png")
    Image.fromarray(mask).save(masks / "synthetic_0000.png")
    Image.fromarray(mask + np.uint8(255)).save(masks / "synthetic_0001.png")
    edge = mask.copy()
    edge[5:9, 5:9] = 255
    edge[5, 5:9] = 90
    Image.fromarray(edge).save(masks / "synthetic_0002.png")
    Image.fromarray(mask + np.uint8(3)).save(images / "synthetic_0003.png")
    for folder in (images, masks):
        path = folder / "synthetic_0004.png"
        Image.open(path).resize((64, 20)).save(path)
    rgb = np.dstack([np.arange(64 * 64).reshape(64, 64) % 256, mask, mask])
    Image.fromarray(rgb.astype(np.uint8)).save(images / "synthetic_0005.png")
    shutil.copy(images / "synthetic_0006.png", images / "synthetic_0007.png")
    other = np.zeros((64, 64), np.uint8)
    other[40:, 40:] = 255
    Image.fromarray(other).save(masks / "synthetic_0007.png")
    code, report = check("folder", lesions, out=tmp_path / "out")
    assert code == 0
    found = kinds(report["warnings"])
    expected = {"empty mask": 0, "full mask": 1, "grey edges": 2, "dark image": 3,
                "flat image": 3, "odd size": 4, "other channels": 5}  # fmt: skip
    for kind, number in expected.items():
        assert found[kind]["ids"] == [f"synthetic_{number:04d}"], kind
        file = f"sheets/{kind.replace(' ', '_')}.png"
        assert (tmp_path / "out" / file).is_file()
        assert file in (tmp_path / "out" / "report.html").read_text()
    (pair,) = report["duplicates"]
    assert (pair["a"], pair["b"], pair["kind"], pair["conflict"]) == (
        "synthetic_0006", "synthetic_0007", "exact", True,
    )  # fmt: skip
    assert report["groups"][0]["ids"] == ["synthetic_0006", "synthetic_0007"]


def test_the_same_data_give_the_same_bytes(lesions, tmp_path):
    for name in ("one", "two"):
        check("folder", lesions, out=tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_a_report_is_not_written_where_data_are_looked_for(lesions, tmp_path, capsys):
    """Else the second check of a manifest found two tables, one of them its own."""
    table = ["image,mask"]
    for number in range(12):
        name = f"synthetic_{number:04d}.png"
        table.append(f"images/{name},masks/{name}")
    (lesions / "manifest.csv").write_text("\n".join(table))
    command = ["data", "check", "manifest", str(lesions), "--out"]
    assert main([*command, str(lesions / "check")]) == 2
    assert f"lies in {lesions}, and would be read as" in capsys.readouterr().err
    assert not (lesions / "check").exists()
    for _ in range(2):
        assert main([*command, str(tmp_path / "check")]) == 0


def test_another_data_set_is_an_error_in_the_report_too(lesions, tmp_path, capsys):
    code, report = check("busi", lesions, out=tmp_path / "out")
    assert code == 2
    assert report["pairs"] == 0
    assert "this is not BUSI" in report["errors"][0]["message"]
    assert "this is not BUSI" in (tmp_path / "out" / "report.html").read_text()
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit):
        main(["data", "check", "nothing", str(lesions), "--out", str(tmp_path / "o")])


def test_classes_that_no_metric_can_be_called_by_are_refused(lesions, tmp_path, capsys):
    line = ["data", "check", "folder", str(lesions), "--out", str(tmp_path / "out")]
    assert main([*line, "--classes", "tumor (core)", "edema"]) == 2
    assert "classes: 'tumor (core)': metrics are called by" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_that_has_no_folder_is_refused_by_option(lesions, tmp_path, capsys):
    (tmp_path / "taken").write_text("no folder")
    out = str(tmp_path / "taken")
    assert main(["data", "check", "folder", str(lesions), "--out", out]) == 2
    assert f"error: --out {out}: cannot be made" in capsys.readouterr().err


def test_names_are_escaped(tmp_path, lesions):
    for folder in ("images", "masks"):
        source = lesions / folder / "synthetic_0000.png"
        source.rename(source.with_name("<b>&.png"))
    Image.new("L", (64, 64)).save(lesions / "masks" / "<b>&.png")
    check("folder", lesions, out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;" in page


def test_classes_and_values(tmp_path):
    data = tmp_path / "data"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    colours = np.zeros((40, 40, 3), np.uint8)
    colours[:10], colours[20:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(colours).save(data / "images" / "a.png")
    Image.fromarray(colours).save(data / "masks" / "a.png")
    named = ("--classes", "x", "y", "--values", "#ff0000", "#0000ff")
    code, report = check("folder", data, out=tmp_path / "out", extra=named)
    assert (code, report["classes"]) == (0, ["x", "y"])
    assert report["images"][0]["foreground"] == 0.75
    few = ("--classes", "x", "--values", "#ff0000")
    code, report = check("folder", data, out=tmp_path / "out", extra=few)
    assert code == 1
    assert "#0000ff beyond the declared" in report["errors"][0]["message"]


def test_a_leak_in_a_manifest_is_an_error_with_the_pair(lesions, tmp_path):
    rows = ["image,mask,group,split"]
    for number in range(6):
        name = f"synthetic_{number:04d}.png"
        place = "test" if number == 5 else "train"
        group = "p1" if number in (2, 5) else ""
        rows.append(f"images/{name},masks/{name},{group},{place}")
    (lesions / "manifest.csv").write_text("\n".join(rows))
    code, report = check("manifest", lesions / "manifest.csv", out=tmp_path / "out")
    assert code == 1
    (leak,) = report["errors"]
    assert leak["kind"] == "leak"
    assert "synthetic_0002 (train) and synthetic_0005 (test)" in leak["message"]


@pytest.fixture(scope="module")
def real_data():
    value = os.environ.get("KMUNET_TEST_DATA")
    if not value:
        pytest.skip("KMUNET_TEST_DATA names no folder with the real archives")
    return Path(value)


def test_busi_holds_each_view_twice(real_data, tmp_path):
    code, report = check("busi", real_data / "Dataset_BUSI.zip", out=tmp_path)
    assert code == 0
    assert (report["pairs"], report["errors"]) == (780, [])
    pairs = {(row["a"], row["b"]): row for row in report["duplicates"]}
    twins = pairs["benign (433)", "malignant (145)"]
    assert (twins["kind"], twins["conflict"]) == ("exact", True)
    assert 225 <= len(pairs) <= 245
    assert sum(row["kind"] == "near" for row in pairs.values()) >= 20
    classes = [row for row in report["conflicts"] if row["classes_differ"]]
    assert len(classes) == 11
    found = kinds(report["warnings"])
    assert len(found["empty mask"]["ids"]) == 133
    assert len(found["other channels"]["ids"]) == 16
    assert (tmp_path / "sheets" / "duplicates_1.png").is_file()


def test_cvc_looks_alike_only_inside_its_sequences(real_data, tmp_path):
    code, report = check("cvc", real_data / "CVC-ClinicDB.zip", out=tmp_path)
    assert code == 0
    assert len(report["groups"]) == 29
    group = {row["id"]: row["group"] for row in report["images"]}
    assert 160 <= len(report["duplicates"]) <= 185
    assert all(group[row["a"]] == group[row["b"]] for row in report["duplicates"])
    assert len(kinds(report["warnings"])["grey edges"]["ids"]) == 138


def test_first_forms_pass_with_what_is_missing(real_data, tmp_path):
    root = real_data / "original-format-samples"
    forms = {
        "busi": ([root / "Dataset_BUSI_with_GT"], 11),
        "cvc": ([root / "CVC-ClinicDB"], 8),
        "glas": ([root / "Warwick QU Dataset (Released 2016_07_08)"], 3),
        "isic2017": (sorted(root.glob("ISIC-2017_*")), 4),
    }
    for kind, (paths, count) in forms.items():
        code, report = check(kind, *paths, out=tmp_path / kind)
        assert (code, report["pairs"]) == (0, count)
        assert kinds(report["warnings"])["incomplete"]


def test_official_splits_that_leak_are_shown(real_data, tmp_path):
    glas = real_data / "warwick_qu_dataset_released_2016_07_08.zip"
    code, report = check("glas", glas, out=tmp_path / "glas")
    assert code == 0
    assert "on two sides: 11," in kinds(report["warnings"])["leak"]["message"]
    isic = sorted(real_data.glob("ISIC-2017_*.zip"))
    code, report = check("isic2017", *isic, out=tmp_path / "isic")
    assert code == 0
    assert report["pairs"] == 2150
    assert len(kinds(report["warnings"])["leak"]["ids"]) == 8
    assert len(report["duplicates"]) == 17


def test_isic_years_share_images(real_data, tmp_path):
    """A manifest over two years: the same number is the same lesion."""
    root = real_data / "original-format-samples"
    with zipfile.ZipFile(real_data / "ISIC-2017_Validation_Data.zip") as archive:
        small = archive.read("ISIC-2017_Validation_Data/ISIC_0009995.jpg")
    (tmp_path / "ISIC_0009995_2018.jpg").write_bytes(small)
    name = "ISIC_0009995"
    shutil.copy(root / "ISIC-2017_Validation_Data" / f"{name}.jpg", tmp_path)
    truth = root / "ISIC-2017_Validation_Part1_GroundTruth"
    mask = Image.open(truth / f"{name}_segmentation.png")
    mask.save(tmp_path / "m1.png")
    mask.resize((256, 256), 0).save(tmp_path / "m2.png")
    (tmp_path / "manifest.csv").write_text(
        f"image,mask\n{name}.jpg,m1.png\n{name}_2018.jpg,m2.png\n"
    )
    code, report = check("manifest", tmp_path / "manifest.csv", out=tmp_path / "o")
    assert code == 0
    assert len(report["groups"]) == 1
    assert report["duplicates"][0]["kind"] in ("id", "hash")
