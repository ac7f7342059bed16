"""`kmunet sweep` over folds and seeds with real Ray tasks and a real MLflow store."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from kmunet.config import parse_params
from kmunet.errors import ConfigError, DataError, ServiceError, TrainingError
from kmunet.training import LocalReporter
from pipelines import prepare
from pipelines.paths import Paths
from pipelines.sweep_log import SweepLog
from pipelines.sweep_plan import plan_folds
from pipelines.sweep_results import sentence, summaries
from pipelines.sweep_session import base_params, given
from pipelines.sweep_trial import make_job, run_trial
from pipelines.tracking_sweep import SweepRuns
from pipelines.train import train_worker

HERE = Path(__file__).parent
LINE = "synthetic --folds 3 --seeds 1 2 --cpus 2"


@pytest.fixture(scope="module")
def helpers(ray_cluster):
    import sweeping

    return sweeping


@pytest.fixture(scope="module")
def workspace(helpers, tmp_path_factory):
    """Prepared data, the current folder, and a store of its own."""
    root = helpers.make_workspace(tmp_path_factory.mktemp("sweep"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        yield root


@pytest.fixture(scope="module")
def swept(helpers, workspace):
    """Three folds, two seeds: the report's folder."""
    assert helpers.kmunet_sweep(f"{LINE} --out report") == 0
    return workspace / "report"


def trials_of(root, seeds):
    """Those of three folds."""
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["split"]["folds"] = 3
    return plan_folds(root, parse_params(raw), ["synthetic"], seeds)


def results(root):
    return {
        path.parent.name: json.loads(path.read_text())
        for path in (root / ".kmunet/sweeps").glob("*/result-*.json")
    }


def test_every_image_is_tested_once_a_seed(swept, workspace):
    with (swept / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    places = [(row["fold"], row["seed"], row["status"]) for row in rows]
    assert places == [(f, s, "finished") for f in "012" for s in "12"]
    tested = [row["id"] for r in results(workspace).values() for row in r["table"]]
    assert len(tested) == 60
    assert len(set(tested)) == 30


def test_the_mean_is_over_all_images(swept, workspace):
    found = json.loads((swept / "summary.json").read_text())["synthetic"]
    scores = [row["iou"] for r in results(workspace).values() for row in r["table"]]
    assert found["iou"]["mean"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert found["iou"]["low"] <= found["iou"]["mean"] <= found["iou"]["high"]
    assert found["missing"] == 0
    assert found["iou"]["sd_folds"] is not None


def test_a_trial_is_the_training_of_its_parameters(swept, workspace, tmp_path):
    trial = trials_of(workspace, [1, 2])[3]
    assert trial.label == "synthetic split.fold=1 train.seed=2"
    place = workspace / ".kmunet/sweeps" / trial.name
    splits = {"folder": str(place / "data/splits/synthetic"), "content": None}
    prepared = {"folder": str(workspace / "data/prepared/synthetic"), "content": None}
    values = trial.params.model_dump(mode="json", by_alias=True)
    config = {
        "params": values,
        "fingerprint": trial.fingerprint,
        "prepared": prepared,
        "splits": splits,
    }
    train_worker(config, LocalReporter(tmp_path))
    alone = load_file(tmp_path / "latest/best.safetensors")
    kept = load_file(place / "models/synthetic/model.safetensors")
    assert all((alone[name] == kept[name]).all() for name in kept)


def test_code_that_changes_meanwhile_ends_a_trial(workspace, tmp_path):
    """Else its result would be kept as that of the code that planned it."""
    trial = trials_of(workspace, [1])[0]
    job = make_job(trial, workspace, tmp_path / trial.name)
    with pytest.raises(TrainingError, match="code is not that with which this began"):
        run_trial(job | {"code": "of other code"}, LocalReporter)
    assert not list(tmp_path.rglob("model.json"))


def test_mlflow_has_a_run_a_trial_below_one_parent(swept, helpers):
    client, (parent,), children = helpers.runs_of(os.environ["MLFLOW_TRACKING_URI"])
    assert len(children) == 6
    assert {r.info.status for r in [parent, *children.values()]} == {"FINISHED"}
    child = children["synthetic split.fold=2 train.seed=1"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.params["split.fold"] == "2"
    assert child.data.params["train.seed"] == "1"
    (epoch,) = client.get_metric_history(child.info.run_id, "val_iou")
    assert epoch.step == 1
    assert {"test.iou.mean", "best.val_iou", "train_loss"} <= set(child.data.metrics)
    files = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert files == {"trials.csv", "summary.json", "report.html"}
    found = json.loads((swept / "summary.json").read_text())["synthetic"]["iou"]
    assert parent.data.metrics["synthetic.iou.mean"] == pytest.approx(
        found["mean"], abs=1e-5
    )


def test_the_same_again_trains_nothing_and_adds_no_run(
    swept, workspace, helpers, capsys
):
    before = {path: path.stat().st_mtime_ns for path in workspace.rglob("result-*")}
    report = (swept / "trials.csv").read_bytes()
    assert helpers.kmunet_sweep(f"{LINE} --out report") == 0
    assert "6 of them are done already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert (swept / "trials.csv").read_bytes() == report
    _, parents, children = helpers.runs_of(os.environ["MLFLOW_TRACKING_URI"])
    assert (len(parents), len(children)) == (1, 6)


def test_mlflow_not_answering_loses_nothing(swept, helpers, monkeypatch, capsys):
    def refuse(*_):
        raise ServiceError("MLflow at nowhere: no answer")

    report = (swept / "trials.csv").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(SweepRuns, "log_epochs", refuse)
        assert helpers.kmunet_sweep(f"{LINE} --out report") == 1
    assert "not all is in MLflow" in capsys.readouterr().err
    assert (swept / "trials.csv").read_bytes() == report
    assert helpers.kmunet_sweep(f"{LINE} --out report") == 0


def test_a_trial_that_fails_is_named_and_leaves_the_others_alone(
    swept, workspace, helpers, capsys
):
    bad = trials_of(workspace, [3])[1]
    damaged = workspace / ".kmunet/sweeps" / bad.name / "checkpoints/latest"
    damaged.mkdir(parents=True)
    assert helpers.kmunet_sweep("synthetic --folds 3 --seeds 3 --cpus 2") == 1
    said = capsys.readouterr().out
    assert "failed: synthetic split.fold=1 train.seed=3: " in said
    assert "not a checkpoint of this run" in said
    assert "INCOMPLETE: 1 trials are missing" in said
    assert said.count("finished, val IoU") == 2
    _, _, children = helpers.runs_of(os.environ["MLFLOW_TRACKING_URI"])
    failed = children["synthetic split.fold=1 train.seed=3"]
    assert failed.info.status == "FAILED"
    assert "not a checkpoint" in failed.data.tags["message"]


def test_sigterm_saves_and_the_same_command_goes_on(
    workspace, helpers, monkeypatch, capsys
):
    line = "synthetic --seeds 5 --set train.max_steps=null --set train.epochs=40"
    heard, told = SweepLog.event, []

    def ask(self, event):
        heard(self, event)
        if "epoch" in event and not told:
            told.append(event)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SweepLog, "event", ask)  # the first epoch, no more
    assert helpers.kmunet_sweep(line) == 130
    assert "0 of 1 trials are done; the same command goes on" in capsys.readouterr().out
    (state,) = (workspace / ".kmunet/sweeps").glob("*/checkpoints/latest/state.json")
    reached = json.loads(state.read_text())["epoch"]
    assert 0 < reached < 40
    assert helpers.kmunet_sweep(line) == 0
    client, _, children = helpers.runs_of(os.environ["MLFLOW_TRACKING_URI"])
    child = children["synthetic split.fold=0 train.seed=5"]
    points = client.get_metric_history(child.info.run_id, "val_iou")
    assert [point.step for point in points] == list(range(1, 41))


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("synthetic --folds 2", ConfigError, "2 folds cannot be train, validation and"),
        ("synthetic --folds 40", DataError, "40 parts"),
        ("synthetic --set train.rate=1", ConfigError, "train.rate: unknown key"),
        ("synthetic --seeds -1", ConfigError, "train.seed"),
        ("synthetic --out params.yaml/x", ConfigError, "--out .*: cannot be written"),
        ("synthetic --cpus 0", ConfigError, "--cpus must be above 0"),
        ("synthetic --cpus 64", ConfigError, "--cpus: a trial asks for 64 CPUs"),
        (
            "synthetic --set sources.synthetic.classes=[a,b]",
            ConfigError,
            r"sources\.synthetic\.classes: .*then `dvc repro prepare@synthetic`",
        ),
        ("synthetic --set train.workers=2", ConfigError, "train.workers: a model is"),
        ("busi", DataError, "pipelines.prepare --dataset busi"),
        ("kvasir", ConfigError, "unknown data set 'kvasir'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_trains(
    workspace, helpers, line, error, message
):
    before = sorted((workspace / ".kmunet").glob("sweeps/*"))
    with pytest.raises(error, match=message):
        helpers.kmunet_sweep(line)
    assert sorted((workspace / ".kmunet").glob("sweeps/*")) == before


def test_nothing_is_left_running_after_an_error(workspace, helpers, monkeypatch):
    uri = f"sqlite:///{workspace / 'closed.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    line = "synthetic --seeds 8"
    with pytest.raises(ConfigError, match="--cpus must be above 0"):
        helpers.kmunet_sweep(f"{line} --cpus 0")
    assert not Path(workspace / "closed.db").exists()
    with pytest.raises(ConfigError, match="--cpus: a trial asks for 64"):
        helpers.kmunet_sweep(f"{line} --cpus 64")
    _, (parent,), _ = helpers.runs_of(uri)
    assert parent.info.status == "FAILED"
    heard = SweepLog.event

    def interrupt(self, event):
        heard(self, event)
        if "epoch" in event:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SweepLog, "event", interrupt)
        with pytest.raises(KeyboardInterrupt):
            helpers.kmunet_sweep(line)
    _, parents, children = helpers.runs_of(uri)
    assert {r.info.status for r in [*parents, *children.values()]} == {"KILLED"}
    assert helpers.kmunet_sweep(line) == 0
    _, parents, children = helpers.runs_of(uri)
    assert {r.info.status for r in [*parents, *children.values()]} == {"FINISHED"}
    assert (len(parents), len(children)) == (1, 1)


def test_protocol_paper_is_told_with_its_result(workspace, helpers, capsys):
    line = "synthetic --seeds 9 --set split.protocol=paper --out paper"
    assert helpers.kmunet_sweep(line) == 0
    note = "protocol 'paper' selects the epoch on the images that it reports"
    assert f"; note: {note}" in capsys.readouterr().out
    found = json.loads((workspace / "paper/summary.json").read_text())["synthetic"]
    assert note in found["notes"]
    assert note.split("'")[2] in (workspace / "paper/report.html").read_text()


def test_seeds_that_lack_a_fold_are_not_counted(workspace):
    trials = trials_of(workspace, [1, 2, 3])
    outcomes = {}
    for n, trial in enumerate(trials[1:]):  # seed 1 has no fold 0
        row = {"id": f"image of fold {trial.params.split.fold}", "group": None}
        scores = {"iou": 0.1 * n, "dice": 0.1 * n}
        outcomes[trial.name] = {"status": "finished", "table": [row | scores]}
    (found,) = summaries(trials, outcomes).values()
    said = sentence("synthetic", found)
    assert "standard deviation over 2 seeds" in said
    assert "standard deviation over 3 folds" in said
    assert "INCOMPLETE: 1 trials are missing" in said


def node(address, cpus, gpus=0.0, alive=True):
    """As ray.nodes() tells of one."""
    has = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    return {"Alive": alive, "NodeManagerAddress": address, "Resources": has}


def test_a_trial_needs_one_node_that_holds_it(helpers, ray_cluster):
    from pipelines.ray_trials import Share, check_room

    nodes = [
        node("a", 4.0),
        node("b", 6.0),
        node("g", 1.0, 2.0),
        node("d", 64.0, 8, False),
    ]
    check_room(Share(6, 0, 0), nodes)
    check_room(Share(1, 2, 0), nodes)
    for share, message in (
        (Share(8, 0, 0), "^--cpus: a trial asks for 8 CPUs and 0 GPUs .* b, has 6 and"),
        (Share(2, 1, 0), "^--cpus: a trial asks for 2 CPUs and 1 GPUs .* g, has 1 and"),
        (Share(1, 3, 0), "^--gpus: .* g, has 1 and 2: lower it or add a larger node"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_room(share, nodes)
    check_room(Share(4, 0, 0), ray_cluster.nodes())


def test_the_fold_of_params_yaml_is_of_its_own_folds(workspace, tmp_path):
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["split"] |= {"folds": 5, "fold": 4}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    values = given(Namespace(folds=3, set=[]), tmp_path)
    params = base_params(values, tmp_path, ["synthetic"])
    assert (params.split.folds, params.split.fold) == (3, 0)


def test_folds_over_a_test_set_of_its_own_are_refused(workspace, monkeypatch):
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["sources"]["declared"] = {"kind": "manifest", "sizes": [32]}
    raw["split"]["folds"] = 3
    paths = Paths(workspace, "declared")
    shutil.copytree(workspace / "data/raw/synthetic", paths.raw)
    names = sorted(path.name for path in (paths.raw / "images").iterdir())
    lines = [
        f"images/{name},masks/{name},{'test' if number % 3 else 'train'}"
        for number, name in enumerate(names)
    ]
    (paths.raw / "table.csv").write_text("\n".join(["image,mask,split", *lines]))
    params = parse_params(raw)
    prepare.run(params, paths)
    with pytest.raises(ConfigError, match=r"test set of its own.*split.official=false"):
        plan_folds(workspace, params, ["declared"], [1])
    raw["split"]["official"] = False
    trials = plan_folds(workspace, parse_params(raw), ["declared"], [1])
    assert len({trial.fingerprint for trial in trials}) == 3


@pytest.mark.slow
def test_a_killed_sweep_goes_on(helpers, tmp_path):
    """SIGKILL to the driver and all its processes: nothing can be saved."""
    root = helpers.make_workspace(tmp_path, max_steps=None, epochs=30)
    line = ["synthetic", "--folds", "3", "--cpus", "1"]
    command = [sys.executable, str(HERE / "sweeping.py"), *line]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(HERE.parents[1])
    options = {"cwd": root, "env": environment, "text": True, "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        deadline = time.monotonic() + 120
        while not list(root.glob(".kmunet/sweeps/*/checkpoints/latest/state.json")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    time.sleep(5)  # Ray's own processes end with their driver
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    client, (parent,), children = helpers.runs_of(
        f"sqlite:///{root / '.kmunet/mlflow.db'}"
    )
    assert parent.info.status == "FINISHED"
    for child in children.values():
        points = client.get_metric_history(child.info.run_id, "val_iou")
        assert sorted(point.step for point in points) == list(range(1, 31))
