"""Search spaces, and a search under real Ray Tune in which ASHA ends a trial."""

import csv
import json
import os
from itertools import islice

import pytest
import yaml

from kmunet.config import parse_params
from kmunet.errors import ConfigError
from pipelines import sweep_search
from pipelines.search_space import draws, read_space
from pipelines.sweep_plan import plan_different


@pytest.fixture(scope="module")
def helpers(ray_cluster):
    import sweeping

    return sweeping


@pytest.fixture(scope="module")
def workspace(helpers, tmp_path_factory):
    root = helpers.make_workspace(
        tmp_path_factory.mktemp("search"), max_steps=None, epochs=3
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        yield root


@pytest.fixture(scope="module")
def params(workspace):
    return parse_params(yaml.safe_load((workspace / "params.yaml").read_text()))


def space_of(folder, params, **values):
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(values))
    return read_space(path, params)


def test_draws_are_in_range_and_more_of_them_begin_with_the_same(tmp_path, params):
    space = space_of(tmp_path, params, **{
        "train.lr": {"loguniform": ["1e-4", 1e-2]},  # YAML takes 1e-4 for text
        "train.warmup": {"randint": [0, 2]},
        "train.clip": {"uniform": [0.5, 2]},
        "train.loss": ["bce_dice", "tversky"],
        "model.widths": [[8, 8, 8], [16, 24, 32]],
    })  # fmt: skip
    found = list(islice(draws(space, 40, seed=3), 40))
    assert found[:5] == list(islice(draws(space, 5, seed=3), 5))
    assert found != list(islice(draws(space, 40, seed=4), 40))
    assert all(1e-4 <= own["train.lr"] <= 1e-2 for own in found)
    below = sum(own["train.lr"] < 1e-3 for own in found)
    assert 10 < below < 30  # half of them, on a scale of logarithms
    assert {own["train.warmup"] for own in found} == {0, 1, 2}
    assert {own["train.loss"] for own in found} == {"bce_dice", "tversky"}


def test_a_small_space_has_no_draw_twice(tmp_path, params):
    space = space_of(tmp_path, params, **{"train.loss": ["bce_dice", "tversky"]})
    assert len(list(draws(space, 9, seed=0))) == 2


def test_draws_of_the_same_training_are_one_trial(workspace, tmp_path, params):
    space = space_of(tmp_path, params, **{
        "augment": ["none", "paper"],
        "presets.paper.0.args.p": {"uniform": [0.1, 0.9]},  # no part of `none`
    })  # fmt: skip
    asked = [(own, own) for own in islice(draws(space, 8, seed=0), 8)]
    found = list(plan_different(workspace, params, "synthetic", asked))
    without = [trial for trial in found if trial.changes["augment"] == "none"]
    assert len(without) == 1
    assert 1 < len({trial.name for trial in found}) == len(found) < 8


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.rate", [1, 2], r"train\.rate: 1: .*unknown key"),
        ("train.lr", {"uniform": [1, 20]}, r"train\.lr: 20.0: .*less than or equal"),
        ("train.lr", {"loguniform": [0, 1]}, "LOW above 0"),
        ("train.lr", {"normal": [0, 1]}, "write a list of values"),
        ("train.lr", 0.1, "one value goes to --set"),
        ("evaluate.seed", [1, 2], r"evaluate\.seed has no part in training"),
        ("recipe", ["gold"], "'gold' is none of params.yaml's recipes"),
        ("recipe", [["paper", "best"]], "is none of params.yaml's recipes"),
    ],
)
def test_a_bad_space_is_refused_by_key(tmp_path, params, key, value, message):
    with pytest.raises(ConfigError, match=message):
        space_of(tmp_path, params, **{key: value})


def test_what_validates_on_test_images_is_refused(workspace, helpers):
    (workspace / "two.yaml").write_text(yaml.safe_dump({"train.lr": [1e-3, 1e-4]}))
    line = "synthetic --search two.yaml --set split.protocol=paper"
    with pytest.raises(ConfigError, match="would select on them"):
        helpers.kmunet_sweep(line)
    for space in ("recipe: [paper]\n", "recipe: [best, paper]\n"):
        (workspace / "recipe.yaml").write_text(space)
        with pytest.raises(ConfigError, match="would select on them"):
            helpers.kmunet_sweep("synthetic --search recipe.yaml")
    with pytest.raises(ConfigError, match="holds no earlier report"):
        helpers.kmunet_sweep("synthetic --search two.yaml --out data")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"sources.synthetic.kind": "busi"}, r"sources\.synthetic\.kind: .*prepared"),
        ({"train.workers": 2}, r"train\.workers: a model is trained by one process"),
    ],
)
def test_a_recipe_of_a_space_makes_no_data(workspace, helpers, recipe, message):
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    before = (workspace / "params.yaml").read_text()
    raw["recipes"]["other"] = recipe
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    (workspace / "other.yaml").write_text("recipe: [other]\n")
    try:
        with pytest.raises(ConfigError, match=message):
            helpers.kmunet_sweep("synthetic --search other.yaml")
    finally:
        (workspace / "params.yaml").write_text(before)


@pytest.fixture(scope="module")
def searched(helpers, workspace):
    """One after the other; IoU hangs on the threshold, whatever is learnt."""
    space = {"train.threshold": [1.0e-6, 0.999, 0.998]}
    space["presets.ultrasound.0.args.p"] = {"uniform": [0.1, 0.9]}  # not in use
    (workspace / "space.yaml").write_text(yaml.safe_dump(space))
    line = "synthetic --search space.yaml --trials 3 --search-seed 1 --grace 1"
    line += " --cpus 4 --out report"
    assert helpers.kmunet_sweep(line) == 0
    return line


def test_asha_ends_what_falls_behind_and_says_so(searched, workspace):
    with (workspace / "report/trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    early = [row for row in rows if row["status"] == "stopped early"]
    assert early
    assert all(int(row["epochs"]) < 3 for row in early)
    assert rows[0]["status"] == "finished"
    assert rows[0]["epochs"] == "3"


def test_the_best_is_told_with_its_curve(searched, workspace):
    found = json.loads((workspace / "report/summary.json").read_text())
    assert len(found["curve"]) == 3
    assert found["best"]["value"] == pytest.approx(max(found["curve"]), abs=1e-6)
    assert "train.threshold" in found["best"]
    page = (workspace / "report/report.html").read_text()
    assert page.count("<polyline") == 3
    assert "--seeds 1 2 3 --set presets" in page
    assert "--set train.threshold=0.99" in page


def test_no_test_image_is_scored(searched, helpers, workspace):
    client, (parent,), children = helpers.runs_of(os.environ["MLFLOW_TRACKING_URI"])
    assert len(children) == 3
    logged = {key for run in children.values() for key in run.data.metrics}
    assert "val_iou" in logged
    assert not [key for key in logged if key.startswith("test")]
    assert not list((workspace / ".kmunet/sweeps").glob("*/result-*.json"))
    status = {run.data.tags["status"] for run in children.values()}
    assert status == {"finished", "stopped early"}
    files = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert "report.html" in files


def test_the_same_again_trains_nothing(
    searched, helpers, workspace, capsys, monkeypatch
):
    monkeypatch.setattr(sweep_search, "run_search", None)  # Ray is not asked
    before = (workspace / "report/trials.csv").read_bytes()
    assert helpers.kmunet_sweep(searched) == 0
    assert "3 of them are over already" in capsys.readouterr().out
    assert (workspace / "report/trials.csv").read_bytes() == before
    assert helpers.kmunet_sweep(searched.replace("--trials 3", "--trials 4")) == 0
    said = capsys.readouterr().out
    assert "space.yaml: 200 draws gave 3 of 4 different trainings" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("synthetic --search space.yaml --seeds 1 2", "leave out --folds and --seeds"),
        ("synthetic busi --search space.yaml", "one data set at a time"),
        ("synthetic --search space.yaml --grace 9", "--grace 9: from 1 to train"),
        ("synthetic --search space.yaml --search-seed -1", "--search-seed must be at"),
        ("synthetic --search space.yaml --out space.yaml/x", "--out .*cannot be writ"),
        ("synthetic --search none.yaml", "none.yaml: no such file"),
        ("synthetic --search data", r"data: cannot be read \(Is a directory\)"),
        ("synthetic --trials 32", "--trials: of a search alone: add --search"),
        ("synthetic --search-seed 1", "--search-seed: of a search alone"),
        ("synthetic --scheduler none", "--scheduler: of a search alone"),
        ("synthetic --metric val_dice", "--metric: of a search alone"),
        ("synthetic --grace 1", "--grace: of a search alone"),
        ("synthetic --search split.yaml", "split and size cannot be searched"),
    ],
)
def test_what_cannot_work_is_said_first(searched, helpers, workspace, line, message):
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["recipes"] |= {"half": {"split.test": 0.4}, "third": {"split.test": 0.3}}
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    (workspace / "split.yaml").write_text("recipe: [third, half]\n")
    with pytest.raises(ConfigError, match=message):
        helpers.kmunet_sweep(line)
