"""News and drift against a real MLflow store: one champion, and data that change."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file

from kmunet.config import parse_params
from kmunet.data.digest import sha256_of
from kmunet.data.store import open_packed
from kmunet.models import build_model
from pipelines import news, prepare, reevaluate, register, split
from pipelines.change import change, enough
from pipelines.fair import fair_rows
from pipelines.gate import FEWEST as ENOUGH
from pipelines.gate import FEWEST_GROUPS
from pipelines.inputs import FEWEST, compare_inputs, inputs_table
from pipelines.paths import Paths
from pipelines.tracking import Registry

ROOT = Path(__file__).parents[2]
MARKS_ALL = 30.0  # bias of the last convolution


def sized(*sizes):
    """Parameters with `train.size` null: the first of the sizes."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"] = {"squares": {"kind": "folder", "sizes": sizes}}
    raw["datasets"] = ["squares"]
    raw["model"]["widths"] = [16, 24, 32]
    return parse_params(raw)


@pytest.fixture(scope="module")
def params():
    return sized(32)


def draw(paths, numbers, brightest=150):
    """Noise with a rectangle that is masked, an image a number."""
    for number in numbers:
        rng = np.random.default_rng(number)
        mask = np.zeros((40, 48), np.uint8)
        mask[5 : 10 + number % 25, 10:30] = 255
        noise = rng.integers(0, brightest, mask.shape, np.uint8)
        for place, pixels in (("images", noise), ("masks", mask)):
            (paths.raw / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(paths.raw / place / f"{number}.png")


def pack(params, paths):
    prepare.run(params, paths)
    split.run(params, paths)
    return open_packed(paths.prepared, paths.splits)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, params):
    """A workspace whose champion was registered with an IoU of 0.4 [0.05, 0.9]."""
    paths = Paths(tmp_path_factory.mktemp("workspace"), "squares")
    paths.params.write_text("# as used\n")
    draw(paths, range(80))
    packed = pack(params, paths)
    arguments = {"in_channels": 3, "num_classes": 1, **params.model.model_dump()}
    model = build_model(**arguments)
    model.final.bias.data.fill_(MARKS_ALL)
    paths.model.mkdir(parents=True)
    save_file(model.state_dict(), paths.model / "model.safetensors")
    card = {
        "model": arguments,
        "input": {"size": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
        "classes": ["lesion"],
        "threshold": 0.5,
        "data_fingerprint": packed.fingerprint,
    }
    (paths.model / "model.json").write_text(json.dumps(card))
    (paths.model / "history.csv").write_text("epoch,val_iou\n1,0.1\n")
    paths.metrics.parent.mkdir()
    interval = {"mean": 0.4, "low": 0.05, "high": 0.9}
    weights = sha256_of(paths.model / "model.safetensors")
    metrics = {"iou": interval, "images": 12, "checkpoint": weights}
    paths.metrics.write_text(json.dumps(metrics))
    paths.report.mkdir(parents=True)
    assert news.run(params, paths, paths.raw)["why"] == "kmunet-squares has no champion"
    assert not reevaluate.run(params, paths)["drift"]
    register.run(params, paths)
    return paths


def test_the_same_data_are_no_news_and_another_pixel_is(params, paths, tmp_path):
    same = news.run(params, paths, paths.raw)
    assert not same["train"]
    assert "the data are those of the champion, version 1" in same["why"]
    assert news.run(params, paths, tmp_path / "none")["train"]
    image = paths.raw / "images" / "0.png"
    before = image.read_bytes()
    image.write_bytes(before + b"\0")
    other = news.run(params, paths, paths.raw)
    image.write_bytes(before)
    assert other["train"]
    assert "have changed since the champion, version 1" in other["why"]


def test_on_the_same_data_nothing_drifts_and_the_look_is_recorded(params, paths):
    answer = reevaluate.run(params, paths)
    assert not answer["drift"]
    assert answer["inputs"]["new"] == 0
    assert answer["registered_iou"] == {"mean": 0.4, "low": 0.05, "high": 0.9}
    assert 0.05 < answer["iou"]["low"] < answer["iou"]["high"]
    registry = Registry(paths.root, "kmunet-squares")
    assert registry.get("1").tags["last_look"] == answer["run"]
    run = registry.client.get_run(answer["run"])
    assert run.data.tags["evaluation_of"] == "models:/kmunet-squares/1"
    assert run.data.tags["drift"] == "false"
    assert run.data.metrics["test.iou.mean"] == answer["iou"]["mean"]
    assert run.inputs.dataset_inputs[0].tags[0].value == "evaluation"
    logged = mlflow.artifacts.load_dict(f"runs:/{answer['run']}/answer.json")
    assert logged["why"] == answer["why"]


def test_a_look_is_at_the_size_that_the_version_sees(params, paths):
    before = reevaluate.run(params, paths)
    table = inputs_table(open_packed(paths.prepared, paths.splits))
    pack(sized(48, 32), paths)
    assert reevaluate.run(sized(48, 32), paths)["iou"] == before["iou"]
    draw(paths, range(300, 330))
    other = compare_inputs(table, pack(sized(48, 32), paths))
    assert "red_std" in other.moved  # of the size alone
    assert reevaluate.run(sized(48, 32), paths)["moved"] == []
    pack(sized(48), paths)
    answer = reevaluate.run(sized(48), paths)
    for number in range(300, 330):
        for place in ("images", "masks"):
            (paths.raw / place / f"{number}.png").unlink()
    pack(params, paths)
    assert not answer["drift"]
    assert (
        "version 1 sees images of 32 pixels, squares is prepared at 48: nothing"
        in (answer["why"])
    )
    assert "add 32 to sources.squares.sizes" in answer["why"]


def register_anew(paths, mean, low, high):
    """As if the champion had had this IoU at its registration."""
    registry = Registry(paths.root, "kmunet-squares")
    run = registry.get("1").run_id
    for key, value in {"mean": mean, "low": low, "high": high}.items():
        registry.client.log_metric(run, f"test.iou.{key}", value)


def test_an_iou_lower_beyond_chance_is_drift(params, paths):
    before = reevaluate.run(params, paths)
    now = before["iou"]
    half = now["high"] - now["mean"]
    register_anew(paths, now["mean"] + 3 * half, now["mean"] + 2 * half, 0.9)
    fell = reevaluate.run(params, paths)
    register_anew(paths, now["mean"] + 1.2 * half, now["mean"] + half / 9, 0.9)
    chance = reevaluate.run(params, paths)
    register_anew(paths, 0.4, 0.05, 0.9)
    assert not before["fell"]
    assert fell["fell"]
    assert fell["drift"]
    assert fell["change"]["high"] < 0
    assert f", below {fell['registered_iou']['mean']:.4f} [" in fell["why"]
    assert chance["iou"]["mean"] < chance["registered_iou"]["low"]
    assert not chance["fell"]  # both means are of few images
    assert ", not below " in chance["why"]


def test_few_test_images_say_nothing_of_the_iou(params, paths, monkeypatch):
    register_anew(paths, 0.9, 0.9, 0.9)
    with monkeypatch.context() as patch:
        patch.setattr(reevaluate, "fair_rows", lambda *a: fair_rows(*a)[: ENOUGH - 1])
        answer = reevaluate.run(params, paths)
    register_anew(paths, 0.4, 0.05, 0.9)
    assert (answer["images"], answer["change"]) == (ENOUGH - 1, {})
    assert not answer["fell"]
    assert "too few to compare with 0.9000 [0.9000, 0.9000] at" in answer["why"]


def test_a_difference_is_as_uncertain_as_its_two_means():
    now = {"mean": 0.5, "low": 0.4, "high": 0.53}
    then = {"mean": 0.6, "low": 0.56, "high": 0.7}
    found = change(now, then)
    assert found["mean"] == pytest.approx(-0.1)
    assert found["high"] == pytest.approx(-0.1 + 0.05)
    assert found["low"] == pytest.approx(-0.1 - 0.1 * 2**0.5)
    assert enough([None] * ENOUGH)
    assert not enough([None] * (ENOUGH - 1))
    few = [str(n % (FEWEST_GROUPS - 1)) for n in range(3 * ENOUGH)]
    assert not enough(few)
    assert enough([*few, "another"])


def test_new_images_alike_are_none_and_brighter_ones_are_drift(params, paths):
    table = inputs_table(open_packed(paths.prepared, paths.splits))
    assert table.count("\n") == 81
    draw(paths, range(100, 130))
    alike = compare_inputs(table, pack(params, paths))
    assert (alike.new, alike.moved) == (30, ())
    draw(paths, range(200, 230), brightest=250)
    pack(params, paths)
    answer = reevaluate.run(params, paths)
    assert answer["drift"]
    assert not answer["fell"]
    assert {"red", "red_std"} <= set(answer["moved"])
    assert "60 new groups of images: red by 0.5" in answer["why"]


def test_few_new_images_say_nothing(params, paths):
    packed = open_packed(paths.prepared, paths.splits)
    lines = inputs_table(packed).splitlines(keepends=True)
    shift = compare_inputs("".join(lines[: 1 + len(lines) - FEWEST]), packed)
    assert shift.new == FEWEST - 1
    assert shift.p_values == {}
