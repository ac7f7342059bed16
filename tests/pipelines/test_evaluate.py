"""Stage evaluate, end to end: drawn images, prepared, a tiny model, metrics, report."""

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from kmunet.config import parse_params
from kmunet.data.store import open_packed, split_fingerprint
from kmunet.data.synthetic import write_synthetic
from kmunet.errors import CheckpointError, DataError
from kmunet.evaluation import pooled_iou, score_image
from kmunet.inference import Predictor
from kmunet.models import build_model
from pipelines import evaluate, prepare, split
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]
MODEL = {
    "name": "km_unet", "in_channels": 3, "num_classes": 1, "widths": [16, 24, 32],
    "kan": True, "ss2d": True, "attention": True,
}  # fmt: skip


def read_params():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"]["synthetic"]["sizes"] = [32]
    raw["split"] |= {"validation": 0.2, "test": 0.5}
    raw["evaluate"] |= {"bootstrap": 200, "overlays": 6, "batch_size": 5}
    return parse_params(raw)


PARAMS = read_params()


def write_model(paths: Paths) -> None:
    """As the train stage leaves it, but seeded instead of trained."""
    packed = open_packed(paths.prepared, paths.splits)
    torch.manual_seed(3)
    model = build_model(**MODEL)
    for module in model.modules():  # else the initial statistics let nothing through
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(4, 3, 32, 32))
    paths.model.mkdir(parents=True)
    save_file(model.state_dict(), paths.model / "model.safetensors")
    seen = {key: packed.manifest[key] for key in ("size", "mean", "std")}
    card = {
        "model": MODEL, "input": seen, "classes": ["lesion"], "threshold": 0.5,
        "best": {"epoch": 1, "iou": 0.1}, "data_fingerprint": packed.fingerprint,
        "scan_backend": "auto", "precision": "float32",
    }  # fmt: skip
    (paths.model / "model.json").write_text(json.dumps(card))
    (paths.model / "history.csv").write_text(
        "epoch,lr,train_loss,val_loss,val_iou,val_dice\n1,0.001,1.5,1.4,0.1,0.2\n"
    )


def contents(root: Path) -> dict[str, bytes]:
    found = [*(root / "reports").rglob("*"), *(root / "metrics").rglob("*")]
    files = sorted(path for path in found if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Paths:
    """A workspace in which evaluate has run; ids hold brackets and spaces."""
    paths = Paths(tmp_path_factory.mktemp("workspace"), "synthetic")
    write_synthetic(paths.raw, 24, 48, 7)
    for kind in ("images", "masks"):
        for n, path in enumerate(sorted((paths.raw / kind).iterdir())):
            path.rename(path.with_name(f"scan [{n}] (left){path.suffix}"))
    prepare.run(PARAMS, paths)
    split.run(PARAMS, paths)
    write_model(paths)
    evaluate.run(PARAMS, paths)
    return paths


@pytest.fixture
def workspace(done, tmp_path) -> Paths:
    """Its inputs alone, to be spoiled."""
    for name in ("data", "models"):
        shutil.copytree(done.root / name, tmp_path / name)
    return Paths(tmp_path, "synthetic")


def test_metrics_are_those_of_the_test_images(done):
    metrics = json.loads(done.metrics.read_text())
    packed = open_packed(done.prepared, done.splits)
    test = packed.indices("test")
    predictor = Predictor.load(done.model)
    preds = np.stack([predictor(packed.images[n]) > 0.5 for n in test])
    truths = packed.masks[test] == 1
    rows = [score_image(p, t) for p, t in zip(preds, truths, strict=True)]
    assert metrics["images"] == len(test) == 12
    for name in ("iou", "dice"):
        mean = np.mean([row[name] for row in rows])
        assert metrics[name]["mean"] == pytest.approx(mean, abs=1e-3)
        assert metrics[name]["low"] <= mean <= metrics[name]["high"]
    pooled = metrics["paper"]["pooled_iou"]
    assert pooled == pytest.approx(pooled_iou(preds, truths)[0], abs=1e-3)
    assert 0.01 < pooled < 0.99, "else the comparison says little"
    assert metrics["empty_truth"] == (~truths.any(axis=(1, 2))).sum()


def test_metrics_say_where_they_come_from(done):
    metrics = json.loads(done.metrics.read_text())
    assert list(metrics) == sorted(metrics)
    assert set(metrics) == {
        "checkpoint", "data_fingerprint", "dataset", "dice", "empty_truth",
        "false_alarms", "groups", "hd95", "images", "iou", "misses", "model", "paper",
        "precision", "recall", "resolution", "specificity", "threshold",
    }  # fmt: skip
    assert (
        metrics["data_fingerprint"]
        == open_packed(done.prepared, done.splits).fingerprint
    )
    assert re.fullmatch("[0-9a-f]{64}", metrics["checkpoint"])
    assert metrics["model"]["parameters"] == Predictor.load(done.model).parameters


def test_report_files_and_links(done):
    names = {path.name for path in done.report.iterdir()}
    assert names == {
        "report.html", "per_image.csv", "curves.csv", "iou_histogram.csv",
        "overlays", "figures",
    }  # fmt: skip
    html = (done.report / "report.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert len([link for link in links if link.startswith("overlays/")]) == 12
    for link in links:
        assert (done.report / unquote(link)).is_file(), link
    assert "scan [" in html
    assert "] (left)" in html


def test_per_image_table_is_in_the_order_of_the_packed_set(done):
    packed = open_packed(done.prepared, done.splits)
    with (done.report / "per_image.csv").open(newline="") as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert ids == [packed.records[n].id for n in packed.indices("test")]
    assert any("[" in name for name in ids)


def test_a_rerun_gives_the_same_bytes_and_names_no_place(done, workspace):
    evaluate.run(PARAMS, workspace)
    assert contents(workspace.root) == contents(done.root)
    evaluate.run(PARAMS, workspace)  # over what is there
    assert contents(workspace.root) == contents(done.root)
    for name, data in contents(workspace.root).items():
        assert str(workspace.root).encode() not in data, name


def test_it_says_what_the_epoch_was_selected_on(done, workspace, capsys):
    page = (done.report / "report.html").read_text()
    assert "that it was neither trained nor selected on;" in page
    assert "Note:" not in page
    section = PARAMS.split.model_copy(update={"protocol": "paper"})
    published = PARAMS.model_copy(update={"split": section})
    shutil.rmtree(workspace.model)
    split.run(published, workspace)
    write_model(workspace)
    evaluate.run(published, workspace)
    page = (workspace.report / "report.html").read_text()
    assert (
        "5 test images that it was not trained on, but its epoch was selected" in page
    )
    assert "neither trained" not in page
    assert "<p>Note: protocol &#39;paper&#39; selects the epoch on the images" in page
    assert "Note: the test images are of 5 independent groups" in page
    said = capsys.readouterr().out
    assert "on 5 test images that its epoch was selected on," in said
    assert "note: protocol 'paper' selects the epoch" in said
    assert "intervals over so few are too narrow" in said


def test_the_threshold_of_the_params_is_the_one_used(workspace):
    def with_threshold(value: float):
        changed = PARAMS.evaluate.model_copy(update={"threshold": value})
        return PARAMS.model_copy(update={"evaluate": changed})

    evaluate.run(with_threshold(0.999999), workspace)
    strict = json.loads(workspace.metrics.read_text())
    evaluate.run(with_threshold(0.000001), workspace)
    loose = json.loads(workspace.metrics.read_text())
    assert strict["recall"] < loose["recall"]
    assert strict["specificity"] > loose["specificity"]


def test_at_native_resolution_the_predictor_s_own_maps_are_scored(done, workspace):
    """48 pixels where 32 were prepared: as `Predictor` sees the image itself."""
    section = PARAMS.evaluate.model_copy(update={"resolution": "native"})
    evaluate.run(PARAMS.model_copy(update={"evaluate": section}), workspace)
    metrics = json.loads(workspace.metrics.read_text())
    packed = open_packed(done.prepared, done.splits)
    predictor = Predictor.load(done.model)
    rows = []
    for row in packed.indices("test").tolist():
        image, mask = packed.native(row)
        assert image.shape == (48, 48, 3)
        rows.append(score_image(predictor(image) > 0.5, mask > 0))
    assert metrics["resolution"] == "native"
    for name in ("iou", "recall", "specificity"):
        found = metrics[name]["mean"] if name == "iou" else metrics[name]
        assert found == pytest.approx(np.mean([r[name] for r in rows]), abs=1e-3)
    before = json.loads(done.metrics.read_text())
    assert metrics["paper"] == before["paper"]  # as published: at the prepared size
    assert metrics["iou"] != before["iou"]
    with (workspace.report / "per_image.csv").open(newline="") as file:
        largest = max(int(row["truth_pixels"]) for row in csv.DictReader(file))
    assert largest == max(row["truth_pixels"] for row in rows) > 32 * 32 / 10
    page = (workspace.report / "report.html").read_text()
    assert "their own size" in page
    assert "their own size" not in (done.report / "report.html").read_text()


def test_a_model_of_other_data_is_refused(workspace):
    path = workspace.model / "model.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "data_fingerprint": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"other data .*dvc repro train@synth"):
        evaluate.run(PARAMS, workspace)
    assert not workspace.report.exists()
    assert not workspace.metrics.exists()


def test_no_test_images_is_an_error_that_names_the_key(workspace):
    packed = open_packed(workspace.prepared, workspace.splits)
    places = np.zeros(len(packed.ids), np.uint8)
    np.save(workspace.splits / "places.npy", places)
    path = workspace.splits / "split.json"
    table = json.loads(path.read_text())
    table["fingerprint"] = split_fingerprint(packed.prepared, places)
    path.write_text(json.dumps(table))
    card = workspace.model / "model.json"
    emptied = open_packed(workspace.prepared, workspace.splits).fingerprint
    card.write_text(card.read_text().replace(packed.fingerprint, emptied))
    with pytest.raises(DataError, match=r"raise split\.test"):
        evaluate.run(PARAMS, workspace)


def test_nothing_half_written_stays(workspace, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device", "report.html")

    monkeypatch.setattr("kmunet.report.page.write_figures", full_disk)
    with pytest.raises(OSError, match="No space"):
        evaluate.run(PARAMS, workspace)
    assert contents(workspace.root) == {}
    assert list((workspace.root / "reports").iterdir()) == []


def test_as_a_command(workspace, monkeypatch, capsys):
    shutil.copy(ROOT / "params.yaml", workspace.root)
    monkeypatch.chdir(workspace.root)
    arguments = ["--dataset", "synthetic"]
    assert evaluate.stage_main("evaluate", evaluate.run, arguments) == 0
    said = capsys.readouterr()
    assert "synthetic: IoU " in said.out
    assert "reports/synthetic/report.html" in said.out
    (workspace.model / "model.safetensors").unlink()
    assert evaluate.stage_main("evaluate", evaluate.run, arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: evaluate: ")
    assert "model.safetensors: no such file" in said.err
