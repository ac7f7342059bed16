"""Several classes in the masks, from raw files to the report, by the real stages."""

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from kmunet.config import parse_params
from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from kmunet.evaluation import score_labels
from kmunet.inference import Predictor, labels
from kmunet.training import LocalReporter
from pipelines import evaluate, prepare, split, train
from pipelines.gate import scores
from pipelines.paths import Paths

NAMES = ("lesion", "square")


def draw(folder, count=48, side=40):
    """Drawn lesions, and on two images of three a blue square: values 10 and 200."""
    write_synthetic(folder, count, side, seed=3)
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        mask_path = folder / "masks" / path.name
        image = np.array(Image.open(path).convert("RGB"))
        mask = np.array(Image.open(mask_path))
        mask = np.where(mask > 0, 10, 0).astype(np.uint8)
        if number % 3:
            top, left = np.random.default_rng(number).integers(0, side - 12, 2)
            square = np.s_[top : top + 12, left : left + 12]
            image[square], mask[square] = (20, 40, 220), 200
        Image.fromarray(image).save(path)
        Image.fromarray(mask).save(mask_path)


def read_params(root):
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["sources"]["synthetic"] |= {
        "sizes": [32], "classes": list(NAMES), "values": [10, 200],
    }  # fmt: skip
    raw["split"] |= {"validation": 0.2, "test": 0.25}
    raw["model"]["name"] = "unet"  # learns in few steps
    raw["train"] |= {"epochs": 10, "lr": 1e-2, "batch_size": 4}
    raw["evaluate"] |= {"bootstrap": 200, "overlays": 4, "resolution": "native"}
    return parse_params(raw)


@pytest.fixture(scope="module")
def params(request):
    return read_params(request.config.rootpath)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, params):
    """A workspace in which all stages up to evaluate have run; train without Ray."""
    paths = Paths(tmp_path_factory.mktemp("classes"), "synthetic")
    draw(paths.raw)
    prepare.run(params, paths)
    split.run(params, paths)
    packed = open_packed(paths.prepared, paths.splits)
    train.check_before_start(params, packed)
    reporter = LocalReporter(paths.root / "checkpoints")
    train.train_worker(train.worker_config(params, paths, packed), reporter)
    train.export(reporter.folder / "latest", params, packed, paths.model)
    evaluate.run(params, paths)
    return paths


def test_it_learns_to_tell_the_classes_apart(paths):
    metrics = json.loads(paths.metrics.read_text())
    assert list(metrics["classes"]) == sorted(NAMES)
    for name in NAMES:
        own = metrics["classes"][name]
        assert own["iou"]["low"] <= own["iou"]["mean"] <= own["iou"]["high"]
        assert own["iou"]["mean"] > 0.4
    card = json.loads((paths.model / "model.json").read_text())
    assert (card["classes"], card["model"]["num_classes"]) == (list(NAMES), 3)


def test_the_report_has_each_class(paths):
    page = (paths.report / "report.html").read_text()
    for name in NAMES:
        assert f"<tr><th>{name}</th>" in page
        assert f"<tr><th>class {name}</th>" in page
    with (paths.report / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert any(row["iou square"] == "" for row in rows)  # none, and none predicted
    shown = next((paths.report / "overlays").iterdir())
    with Image.open(shown) as drawn:
        width, height = drawn.size
    assert width > 2.9 * (height - 28)  # the image, the truth, the prediction


def test_what_is_loaded_gives_the_scores_of_the_stage(paths, params):
    predictor = Predictor.load(paths.model)
    packed = open_packed(paths.prepared, paths.splits)
    assert predictor.classes == packed.classes == NAMES
    rows = packed.indices("test").tolist()
    images, truths = zip(*(packed.native(row) for row in rows), strict=True)
    maps = [predictor(np.asarray(image)) for image in images]
    assert maps[0].shape == (3, 40, 40)
    assert np.allclose(maps[0].sum(0), 1.0, atol=1e-5)
    scored = [
        score_labels(labels(own, 0.5), truth, NAMES)["iou"]
        for own, truth in zip(maps, truths, strict=True)
    ]
    recorded = json.loads(paths.metrics.read_text())["iou"]["mean"]
    assert np.mean(scored) == pytest.approx(recorded, abs=1e-6)
    assert scores(maps, truths, NAMES, "iou", 0.5) == pytest.approx(scored)
    assert predictor.batch(np.zeros((0, 9, 8, 3), np.uint8)).shape == (0, 3, 9, 8)
