"""`kmunet compare` as it is called: processes of its own, resumed, refused."""

import csv
import dataclasses
import json
import re
import shutil
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from kmunet.cli import main
from kmunet.config import parse_params
from kmunet.data.store import open_packed
from kmunet.errors import DataError, TrainingError, TrainingStoppedError
from kmunet.inference import Predictor
from kmunet.ops import cpu, dispatch
from pipelines import split
from pipelines.compare import _notes
from pipelines.comparison import request, runs, tables, worker
from pipelines.comparison.memory import memory, peak_memory
from pipelines.comparison.request import Limit, open_data, open_folds, plan_runs
from pipelines.comparison.show import print_table
from pipelines.paths import Paths
from tests.pipelines.workspaces import tiny_workspace
from tests.training.seen import Seen

ROOT = Path(__file__).parents[2]
MODELS = ["u_kan", "km_unet"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Prepared data of 40 synthetic images, and params for tiny models."""
    return tiny_workspace(tmp_path_factory.mktemp("compare"))


def compare(paths, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(paths.root)
        return main(["compare", paths.dataset, *arguments])


@pytest.fixture(scope="module")
def done(workspace):
    """Two models, two steps each: the folder of the report."""
    paths, _ = workspace
    assert compare(paths, "--models", *MODELS, "--steps", "2") == 0
    return paths.root / "reports" / "compare" / "synthetic"


def rows(file):
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_the_difference_is_that_of_the_images(done):
    images = rows(done / "per_image.csv")
    found = json.loads((done / "comparison.json").read_text())
    values = {m: np.array([float(r[m]) for r in images]) for m in MODELS}
    first, second = found["models"]
    assert [first["model"], second["model"]] == MODELS
    assert first["difference"] is None
    gain = second["difference"]["iou"]
    expected = (values["km_unet"] - values["u_kan"]).mean()
    assert gain["mean"] == pytest.approx(expected, abs=1e-5)
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert first["iou"]["mean"] == pytest.approx(values["u_kan"].mean(), abs=1e-5)
    assert found["counts"]["test"] == len(images)


def test_each_is_told_with_what_it_took(done):
    found = rows(done / "models.csv")
    for row in found:
        assert row["steps"] == "2.0"
        assert 0 < float(row["step_cpu"]) <= float(row["cpu"])
        assert float(row["memory"]) > 1e6
        assert float(row["flops"]) > 1e5
    assert len({row["parameters"] for row in found}) == 2
    (epoch,) = [r for r in rows(done / "curves.csv") if r["model"] == "u_kan"]
    assert 0 < float(epoch["cpu_minutes"]) < 1
    assert found[0]["validation_iou"] == epoch["val_iou"]


def test_what_means_nothing_to_a_model_is_not_said_of_it(workspace, done, tmp_path):
    found = json.loads((done / "comparison.json").read_text())
    of_km_unet = {"ss2d", "attention", "skip_gain", "layer_scale"}
    assert found["params_of"] == {key: ["km_unet"] for key in of_km_unet}
    assert found["params"]["widths"] == [16, 24, 32]
    out = str(tmp_path / "alone")
    alone = ("--models", "u_kan", "--steps", "2", "--out", out)
    assert compare(workspace[0], *alone) == 0
    found = json.loads((tmp_path / "alone" / "comparison.json").read_text())
    assert found["params_of"] == {}
    assert not of_km_unet & set(found["params"])
    assert "kan" in found["params"]


def test_the_page_shows_files_that_are_there(done):
    html = (done / "report.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', html)
    assert {"curves.png", "differences.png", "overlays.png"} <= set(links)
    assert all((done / link).is_file() for link in links)
    assert "2 models, 2 steps each" in html


def test_again_it_trains_nothing_and_says_the_same(workspace, done, monkeypatch):
    before = {f.name: f.read_bytes() for f in done.iterdir()}
    monkeypatch.setattr(runs, "_start", None)
    out = str(done.with_name("again"))
    arguments = ("--models", *MODELS, "--steps", "2", "--out", out)
    assert compare(workspace[0], *arguments) == 0
    assert {f.name: f.read_bytes() for f in Path(out).iterdir()} == before


def test_the_model_folder_is_one_that_a_predictor_takes(workspace, done):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    (planned,) = plan_runs(
        params, paths, [packed], ["km_unet"], [params.train.seed], Limit("steps", 2)
    )
    row = int(packed.indices("test")[0])
    found = Predictor.load(planned.weights)(packed.images[row])
    table = json.loads(planned.scores.read_text())
    assert table[0]["row"] == row
    assert table[0]["predicted_pixels"] == (found > 0.5).sum()
    assert not (planned.folder / "checkpoints").exists()


def test_beside_model_seed_and_budget_all_is_the_same(workspace):
    paths, params = workspace
    deep = params.model.model_copy(update={"deep_supervision": True})
    params = params.model_copy(update={"model": deep})
    packed = open_packed(paths.prepared, paths.splits)
    limit = Limit("epochs", 3)
    planned = plan_runs(params, paths, [packed], ["km_unet", "unet"], [1, 2], limit)
    assert len({run.folder for run in planned}) == 4
    first, *others = (run.params.model_dump() for run in planned)
    for other in others:
        for section, keys in {"model": ["name", "deep_supervision"],
                              "train": ["seed"]}.items():  # fmt: skip
            assert (
                other.pop(section) | {k: first[section][k] for k in keys}
                == (first[section])
            )
        assert other == {k: v for k, v in first.items() if k in other}
    assert [run.params.train.seed for run in planned] == [1, 2, 1, 2]
    assert [r.params.model.deep_supervision for r in planned] == 2 * [True] + 2 * [
        False
    ]
    assert first["train"]["epochs"] == 3


@pytest.fixture(scope="module")
def folded(workspace):
    """Two models on three folds, a step each: the folder of the report."""
    out = workspace[0].root / "folded"
    several = ("--models", *MODELS, "--folds", "3", "--out", str(out))
    assert compare(workspace[0], *several, "--steps", "1") == 0
    return out


def test_with_folds_every_image_is_tested_once(workspace, folded):
    images = rows(folded / "per_image.csv")
    assert len({row["id"] for row in images}) == len(images) == 40
    trained = rows(folded / "runs.csv")
    assert [row["fold"] for row in trained] == [*"012", *"012"]
    for row in trained:
        own = [float(r[row["model"]]) for r in images if r["fold"] == row["fold"]]
        assert np.mean(own) == pytest.approx(float(row["iou"]), abs=1e-5)
    found = json.loads((folded / "comparison.json").read_text())
    assert (found["folds"], found["counts"]["test"]) == (3, 40)
    assert len(set(found["data_fingerprints"])) == 3
    html = (folded / "report.html").read_text()
    assert "3 folds: each of 40 images in 40 groups" in html
    made = json.loads((workspace[0].splits / "split.json").read_text())
    assert made["settings"]["folds"] == 1  # that of `dvc repro` stays


def test_over_folds_and_seeds(workspace):
    """Means of all images, spread of the seeds' means, misses of a whole set."""
    paths, params = workspace
    folds = params.split.model_copy(update={"folds": 3})
    params = params.model_copy(update={"split": folds})
    divisions, limit = open_folds(params, paths), Limit("steps", 1)
    draw = np.random.default_rng(0)
    used = dict.fromkeys(("parameters", "flops", *tables.USED), 1.0)
    facts = used | {"best": {"iou": 0.5, "epoch": 1}}
    found = []
    for run in plan_runs(params, paths, divisions, MODELS, [1, 2], limit):
        table = [
            {"id": row, "category": "", "group": None, "outcome": "miss",
             "iou": draw.random(), "dice": draw.random()}
            for row in run.packed.indices("test")
        ]  # fmt: skip
        found.append(runs.Result(run, facts, table))
    by_seed = {
        (model, seed): [
            row["iou"]
            for result in found
            if (result.run.model, result.run.seed) == (model, seed)
            for row in result.table
        ]
        for model in MODELS
        for seed in (1, 2)
    }
    first, second = tables.model_rows(found, params.evaluate)
    assert (first["seeds"], first["misses"]) == (2, 40)
    means = {key: np.mean(values) for key, values in by_seed.items()}
    assert first["iou"]["mean"] == pytest.approx(
        (means["u_kan", 1] + means["u_kan", 2]) / 2
    )
    gains = [means["km_unet", seed] - means["u_kan", seed] for seed in (1, 2)]
    assert second["difference"]["iou"]["mean"] == pytest.approx(np.mean(gains))
    assert second["difference"]["iou"]["spread"] == pytest.approx(np.std(gains, ddof=1))


def test_folds_of_one_test_set_are_refused(workspace, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.folds.Prepared.known_splits", lambda _: ["test"])
    packed = open_packed(workspace[0].prepared, workspace[0].splits)
    header = {**packed.prepared.header, "splits": True}
    official = dataclasses.replace(packed.prepared, header=header)
    monkeypatch.setattr("pipelines.folds.open_prepared", lambda _: official)
    assert compare(workspace[0], "--folds", "3", "--steps", "1") == 2
    assert "has a test set of its own, and 3 folds" in capsys.readouterr().err


class Interrupted:
    """Hears what a training says, and tells it to stop once."""

    def __init__(self, after):
        self.after, self.ledger = after, None

    def say(self, message):
        if message["step"] == self.after:
            self.ledger.stop = True


def train(params, packed, place, limit, after=None):
    stop = Interrupted(after)
    facts = worker.train(params, packed, limit, place, stop.say, stop)
    return facts, load_file(place / "latest" / "best.safetensors")


def test_an_interrupted_run_goes_on_to_the_same_weights(workspace, tmp_path):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    threads, limit = torch.get_num_threads(), Limit("steps", 9)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [5], limit)
    whole, weights = train(planned.params, packed, tmp_path / "whole", limit)
    with pytest.raises(TrainingStoppedError):
        train(planned.params, packed, tmp_path / "part", limit, after=1)
    first = json.loads((tmp_path / "part" / "latest" / "spent.json").read_text())
    found, again = train(planned.params, packed, tmp_path / "part", limit)
    torch.set_num_threads(threads)
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert found["steps"] == whole["steps"] == 9
    assert found["cpu"] > first["cpu"] > 0
    same = ("epoch", "lr", "train_loss", "val_iou")
    for ours, theirs in zip(found["history"], whole["history"], strict=True):
        assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}


def test_before_the_clock_kernels_see_what_training_and_validation_see(
    workspace, monkeypatch
):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    monkeypatch.setattr(worker, "build_model", lambda **_: Seen(3, 1, 1))
    monkeypatch.setattr(worker, "flops", lambda *_: 1)
    monkeypatch.setattr(Seen, "calls", [])
    validated = len(packed.indices("validation"))
    batch = validated - 1  # the last batch is smaller
    train = params.train.model_copy(update={"batch_size": batch, "accumulate": 1})
    worker.warm_up(params.model_copy(update={"train": train}), packed)
    assert Seen.calls[0] == (True, batch)
    assert sorted(Seen.calls[1:]) == [(False, 1), (False, batch)]


def test_a_damaged_checkpoint_is_left_for_the_one_before(workspace, tmp_path, caplog):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    threads, limit = torch.get_num_threads(), Limit("steps", 9)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [5], limit)
    with pytest.raises(TrainingStoppedError):
        train(planned.params, packed, tmp_path, limit, after=1)
    shutil.copytree(tmp_path / "latest", tmp_path / "previous")
    (tmp_path / "latest" / "spent.json").write_text("{")
    facts, _ = train(planned.params, packed, tmp_path, limit)
    torch.set_num_threads(threads)
    assert "taking the one before" in caplog.text
    assert facts["steps"] == 9


def test_a_budgeted_model_cannot_be_replayed_and_says_so(workspace, done, capsys):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    seed, limit = params.train.seed, Limit("steps", 2)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [seed], limit)
    assert main(["verify", str(planned.weights)]) == 2
    assert "within a budget of 2 steps" in capsys.readouterr().err


def test_a_folder_of_other_things_is_not_replaced(workspace, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert compare(workspace[0], "--steps", "1", "--out", str(tmp_path)) == 2
    assert "holds no earlier report" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_data_that_change_meanwhile_end_it(workspace):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [7], Limit("steps", 1))
    division = {**packed.division, "fingerprint": "of another split"}
    changed = dataclasses.replace(packed, division=division)
    other = dataclasses.replace(planned, packed=changed)
    with pytest.raises(TrainingError, match="other data than the comparison began"):
        runs.results([other], lambda run, message: None)


def test_a_budget_of_cpu_time_ends_a_training(workspace, tmp_path):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    threads, limit = torch.get_num_threads(), Limit("cpu_minutes", 0.5 / 60)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [5], limit)
    facts, _ = train(planned.params, packed, tmp_path, limit)
    torch.set_num_threads(threads)
    assert facts["cpu"] >= 0.5
    assert 1 <= facts["steps"] < 10_000
    assert facts["history"][0]["lr"] <= 1e-3


def test_what_a_run_says_is_passed_on(workspace, tmp_path):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    limit = Limit("steps", 1)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [6], limit)
    shutil.copytree(paths.root / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "prepared")
    moved = dataclasses.replace(
        planned, paths=Paths(tmp_path, "synthetic"), folder=tmp_path / "run"
    )
    with pytest.raises(TrainingError, match=r"u_kan, seed 6: .*no such file"):
        runs.results([moved], lambda run, message: None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "unet"], "no budget: give one of --minutes, --cpu-minutes"),
        (["--steps", "0"], "--steps 0: must be above 0"),
        (["--minutes", "nan"], "--minutes nan: must be above 0"),
        (["--steps", "1", "--models", "resnet"], "--models: unknown model 'resnet'; k"),
        (["--steps", "1", "--models", "unet", "unet"], "--models: unet is given twice"),
        (["--steps", "1", "--seeds", "-1"], "--seeds: -1 must be 0 to"),
        (["--steps", "1", "--folds", "0"], "split.folds: "),
        (
            ["--steps", "1", "--folds", "2"],
            "split.folds: 2 folds cannot be train, valid",
        ),
        (["--steps", "1", "--set", "train.rate=1"], "train.rate: unknown key"),
        (["--steps", "1", "--set", "train.seed=1"], "train.seed: --seeds gives"),
        (["--steps", "1", "--set", "train.workers=2"], "train.workers: a model is tr"),
        (
            ["--steps", "1", "--set", "split.seed=3"],
            "split.seed than is asked for; set it in params.yaml first, then `dvc",
        ),
        (["--steps", "1", "--set", "recipe=paper"], "another split.protocol than is"),
        (
            ["--steps", "1", "--set", "sources.synthetic.kind=busi"],
            "sources.synthetic.kind: synthetic is prepared with params",
        ),
        (["--steps", "1", "--set", "train.batch_size=64"], "batch_size 64 is more"),
    ],
)
def test_bad_input_is_refused_before_any_training(
    workspace, capsys, monkeypatch, arguments, message
):
    monkeypatch.setattr(runs, "_start", None)
    assert compare(workspace[0], *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_split_that_is_stale_needs_no_change_of_params(workspace):
    paths, _ = workspace
    before = paths.params.read_text()
    raw = yaml.safe_load(before)
    raw["split"]["seed"] = 3
    paths.params.write_text(yaml.safe_dump(raw))
    message = "another split.seed than params.yaml has now; `dvc repro split@synthetic`"
    try:
        with pytest.raises(DataError, match=message):
            open_data(parse_params(raw), paths)
    finally:
        paths.params.write_text(before)


def folder_of(workspace, kind, amount=2):
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    (run,) = plan_runs(params, paths, [packed], ["unet"], [1], Limit(kind, amount))
    return run.folder


def test_a_result_is_kept_for_the_machine_that_it_is_of(workspace, monkeypatch):
    kinds = ("steps", "minutes", "cpu_minutes")
    here = [folder_of(workspace, kind) for kind in kinds]
    assert here == [folder_of(workspace, kind) for kind in kinds]
    with monkeypatch.context() as patch:
        patch.setattr(request, "_processor", lambda: "a slower one")
        steps, *timed = [folder_of(workspace, kind) for kind in kinds]
        assert steps == here[0]
        assert not set(timed) & set(here)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("NVIDIA A", "NVIDIA B"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        found = [folder_of(workspace, kind) for kind in kinds]
        assert not set(found) & set(here)
        assert request.machine(workspace[1], Limit("steps", 1)) == name
        here += found


def test_memory_is_of_the_gpu_where_there_is_one(done):
    rows = json.loads((done / "comparison.json").read_text())["models"]
    for device, words in ((None, "host MB"), (7e9, "GPU MB")):
        console = Console(width=200, record=True, file=StringIO())
        print_table([row | {"device_memory": device} for row in rows], console)
        said = console.export_text()
        assert words in said
        assert ("7000" in said) == (device is not None)


def test_what_is_to_be_known_of_the_split_is_told(workspace, tmp_path):
    root = tmp_path / "paper"
    shutil.copytree(workspace[0].root / "data", root / "data")
    raw = yaml.safe_load(workspace[0].params.read_text())
    raw["split"]["protocol"] = "paper"
    paths = Paths(root, "synthetic")
    paths.params.write_text(yaml.safe_dump(raw))
    split.run(parse_params(raw), paths)
    assert compare(paths, "--models", "unet", "--steps", "1") == 0
    report = root / "reports/compare/synthetic"
    note = "protocol 'paper' selects the epoch on the images that it reports"
    assert note in json.loads((report / "comparison.json").read_text())["notes"]
    assert note.split("'")[2] in (report / "report.html").read_text()


def test_data_that_are_not_there_come_with_the_command(workspace, capsys):
    paths = Paths(workspace[0].root, "busi")
    assert compare(paths, "--steps", "1") == 2
    error = capsys.readouterr().err
    assert "data/prepared/busi: the data of busi are not there" in error
    assert "add busi to 'datasets' in params.yaml, then `dvc repro split@busi`" in error


def test_the_peak_of_memory_is_of_this_process():
    before = peak_memory()
    assert before >= memory() // 2
    held = np.ones(64 * 2**20, np.uint8)  # written, so that it is resident
    assert peak_memory() >= memory() > held.nbytes


def test_code_that_changes_meanwhile_ends_it(workspace):
    """Else the results would be kept as those of the code that planned them."""
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    (planned,) = plan_runs(params, paths, [packed], ["u_kan"], [8], Limit("steps", 1))
    other = dataclasses.replace(planned, code="of other code")
    with pytest.raises(TrainingError, match="code is not that with which this began"):
        runs.results([other], lambda run, message: None)
    assert not (planned.folder / "training.json").exists()


def test_a_result_is_of_the_scan_that_ran(workspace, monkeypatch):
    """ "auto" finds another one once there is a compiler."""
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)

    def folder():
        (run,) = plan_runs(params, paths, [packed], ["km_unet"], [1], Limit("steps", 1))
        return run.folder

    kernel, before = dispatch._registry["cpu"], folder()
    monkeypatch.setitem(
        dispatch._registry, "cpu", dataclasses.replace(kernel, usable=lambda: False)
    )
    assert (folder() == before) is not cpu.usable()


@pytest.mark.parametrize(("patients", "few"), [(1, True), (9, True), (10, False)])
def test_intervals_over_few_patients_are_told(patients, few):
    records = [SimpleNamespace(group=f"p{n % patients}") for n in range(30)]
    packed = SimpleNamespace(
        division={"notes": []}, records=records, indices=lambda _: range(30)
    )
    assert any("are too narrow" in note for note in _notes([packed])) is few
