"""`kmunet lineage` against a real MLflow store: one version with a record, one without.

The model is untrained; what counts is that each step names the one before.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import save_file

from kmunet.cli import main
from kmunet.config import parse_params
from kmunet.data.digest import sha256_of
from kmunet.data.store import open_packed
from kmunet.models import build_model
from pipelines import prepare, promotion, register, split
from pipelines.evidence import git_commit, lineage, locked_stages
from pipelines.gate import Decision
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]
LOCK = """
schema: '2.0'
stages:
  fetch: {outs: [{path: data/raw/squares, md5: aa.dir}]}
  fetch-other: {outs: [{path: data/raw/other, md5: cc.dir}]}
  prepare@squares:
    deps: [{path: data/raw/squares, md5: aa.dir}]
    outs: [{path: data/prepared/squares, md5: bb.dir}]
  prepare@other: {outs: [{path: data/prepared/other, md5: dd.dir}]}
"""


@pytest.fixture(scope="module")
def params():
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"] = {"squares": {"kind": "folder", "sizes": [32]}}
    raw["datasets"] = ["squares"]
    raw["model"]["widths"] = [16, 24, 32]
    raw["augment"] = "ultrasound"
    return parse_params(raw)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A git checkout with an archive below data/raw/."""
    paths = Paths(tmp_path_factory.mktemp("checkout"), "squares")
    paths.raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(paths.raw / "squares.zip", "w") as archive:
        for number in range(20):
            mask = np.zeros((40, 48), np.uint8)
            mask[5 : 20 + number, 10:30] = 255
            noise = rng.integers(0, 255, mask.shape, np.uint8)
            for folder, array in (("images", noise), ("masks", mask)):
                Image.fromarray(array).save(paths.root / "x.png")
                archive.write(paths.root / "x.png", f"{folder}/{number}.png")
    (paths.root / "x.png").unlink()
    paths.params.write_text("# as used\n")
    (paths.root / "dvc.lock").write_text(LOCK)
    (paths.root / "code.py").write_text("")
    (paths.root / ".gitignore").write_text("data\nmodels\nmetrics\nreports\n.kmunet\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *author, *command], cwd=paths.root, check=True)
    return paths


@pytest.fixture(scope="module")
def outputs(params, paths):
    """What the stages before register leave."""
    prepare.run(params, paths)
    split.run(params, paths)
    arguments = {"in_channels": 3, "num_classes": 1, **params.model.model_dump()}
    paths.model.mkdir(parents=True)
    model = build_model(**arguments)
    save_file(model.state_dict(), paths.model / "model.safetensors")
    card = {
        "model": arguments,
        "input": {"size": 32, "mean": [0.5] * 3, "std": [0.2] * 3},
        "classes": ["lesion"],
        "threshold": 0.5,
        "scan_backend": "cpu",
        "best": {"epoch": 1, "iou": 0.1},
        "data_fingerprint": open_packed(paths.prepared, paths.splits).fingerprint,
    }
    (paths.model / "model.json").write_text(json.dumps(card))
    (paths.model / "history.csv").write_text("epoch,lr,val_iou\n1,0.001,0.1\n")
    paths.metrics.parent.mkdir()
    weights = sha256_of(paths.model / "model.safetensors")
    metrics = {"iou": {"mean": 0.5}, "images": 3, "checkpoint": weights}
    paths.metrics.write_text(json.dumps(metrics))
    paths.report.mkdir(parents=True)
    (paths.report / "report.html").write_text("<p>report</p>")
    return paths


@pytest.fixture(scope="module")
def registered(params, outputs):
    """Version 1 with a record, version 2 as one from before lineage."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with pytest.MonkeyPatch.context() as patch:  # test_register.py runs the gate
        patch.setattr(promotion, "_compare", lambda *_: Decision(True, "first model"))
        register.run(params, outputs)
    name = "kmunet-squares"
    client = MlflowClient()
    run = client.create_run(client.get_experiment_by_name(name).experiment_id)
    tags = {"git_commit": "abc", "dataset": "squares"}
    source = client.get_model_version(name, "1").source
    client.create_model_version(name, source, run.info.run_id, tags=tags)
    yield outputs
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture
def call(registered, monkeypatch, capsys):
    """The command in the checkout; exit code, output, error."""
    monkeypatch.chdir(registered.root)

    def _call(*arguments):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        code = main(["lineage", *map(str, arguments)])
        return code, *capsys.readouterr()

    return _call


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_step_names_the_one_before(call, registered):
    code, out, _ = call("models:/kmunet-squares@champion", "--json")
    assert code == 0
    table = json.loads(out)
    assert (table["version"], table["aliases"]) == ("1", ["challenger", "champion"])
    found = table["lineage"]
    assert found["weights"]["sha256"] == sha256(registered.model / "model.safetensors")
    assert found["weights"]["scan_backend"] == "cpu"
    values = found["params"]["values"]
    assert values["train"]["lr"] == 0.001
    assert list(values["presets"]) == [values["augment"]] == ["ultrasound"]
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=registered.root)
    assert found["code"]["commit"] == head.decode().strip()
    assert found["split"]["settings"]["seed"] == 2981
    counts = found["split"]["counts"].values()
    assert sum(count["images"] for count in counts) == 20
    packed = open_packed(registered.prepared, registered.splits)
    assert found["split"]["fingerprint"] == packed.division["fingerprint"]
    assert found["prepared"]["fingerprint"] == packed.prepared.fingerprint
    archive = registered.raw / "squares.zip"
    assert found["raw"]["kind"] == "folder"
    assert found["raw"]["files"] == [
        {
            "path": "squares.zip",
            "bytes": archive.stat().st_size,
            "sha256": sha256(archive),
        }
    ]
    assert set(found["stages"]) == {"fetch", "prepare@squares"}
    assert found["packages"]["torch"]
    assert str(registered.root) not in json.dumps(found)


def test_the_digests_are_tags_to_search_by(call, registered):
    table = json.loads(call("models:/kmunet-squares/1", "--json")[1])
    found, tags = table["lineage"], table["tags"]
    assert tags["raw_digest"] == found["raw"]["digest"]
    assert tags["split_fingerprint"] == found["split"]["fingerprint"]
    assert tags["params_digest"] == found["params"]["digest"]


def test_the_tree_reads_from_the_version_to_the_archive(call, registered):
    code, out, err = call("models:/kmunet-squares/1")
    assert (code, err) == (0, "")
    steps = [
        line.split("← ")[1].split()[0] for line in out.splitlines() if "← " in line
    ]
    assert steps == ["run", "weights,", "training,", "split", "prepared", "raw"]
    assert out.startswith("models:/kmunet-squares/1 (challenger, champion)")
    assert "augment ultrasound" in out
    archive = registered.raw / "squares.zip"
    assert f"squares.zip  {archive.stat().st_size:,} bytes, sha256" in out
    assert sha256(archive) in out
    assert "DVC: data/prepared/squares md5 bb.dir" in out


def test_check_compares_with_the_checkouts_raw_data(call, registered, tmp_path):
    code, out, _ = call("models:/kmunet-squares/1", "--check")
    assert code == 0
    assert "data/raw/squares: 1 files are the same" in out
    copy = shutil.copy(registered.raw / "squares.zip", tmp_path)
    assert call("models:/kmunet-squares/1", "--check", copy)[0] == 0
    with Path(copy).open("ab") as file:
        file.write(b"more")
    for place in (copy, tmp_path):
        code, out, _ = call("models:/kmunet-squares/1", "--check", place)
        assert code == 1
        assert "differs: squares.zip" in out
    Path(copy).rename(tmp_path / "other.zip")
    code, out, _ = call("models:/kmunet-squares/1", "--check", tmp_path, "--json")
    check = json.loads(out)["check"]
    assert (code, check["missing"], check["extra"]) == (
        1,
        ["squares.zip"],
        ["other.zip"],
    )


def test_check_of_the_folder_where_one_is(call):
    """A dot is that folder, not what the checkout has."""
    code, out, _ = call("models:/kmunet-squares/1", "--check", ".", "--json")
    assert (code, json.loads(out)["check"]["place"]) == (1, ".")
    assert json.loads(out)["check"]["missing"] == ["squares.zip"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kmunet-squares",), "write models:/NAME/VERSION or models:/NAME@ALIAS"),
        (("models:/kmunet-cvc/1",), "there are the models kmunet-squares"),
        (("models:/kmunet-squares/7",), "there are versions 1, 2 and aliases chall"),
        (("models:/kmunet-squares@best",), "no alias best: there are versions 1, 2"),
        (("models:/kmunet-squares/2",), "before lineage was recorded and has none; its "
         "tags say: dataset squares, git_commit abc"),
        (("models:/kmunet-squares/1", "--check", "nowhere"), "nowhere: no such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(call, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_without_a_store_it_says_so_and_makes_nothing(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("models:/kmunet-squares/1")
    assert code == 2
    assert "no MLflow here" in err
    assert "set MLFLOW_TRACKING_URI" in err
    assert list(tmp_path.iterdir()) == []


def test_from_any_folder_with_the_address(registered, tmp_path):
    """A process of its own: nothing of MLflow is set there yet."""
    uri = f"sqlite:///{registered.root / '.kmunet' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-m", "kmunet", "lineage", "models:/kmunet-squares/1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "squares.zip" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_a_workspace_lacks_is_left_out(outputs, tmp_path):
    """No git, no dvc.lock, no checksums of raw files."""
    for name in ("data/prepared", "models"):
        shutil.copytree(outputs.root / name, tmp_path / name)
    found = lineage(Paths(tmp_path, "squares"), {"train": {}})
    assert {"code", "raw", "stages"}.isdisjoint(found)
    assert "prepared" in found


def test_changed_code_is_named_and_dvcs_own_lock_is_not(outputs):
    lock, code = outputs.root / "dvc.lock", outputs.root / "code.py"
    lock.write_text(LOCK + "\n")
    found = lineage(outputs, {})["code"]
    assert (found["changed"], found["dirty"]) == (["dvc.lock"], False)
    assert git_commit(outputs.root) == found["commit"]
    code.write_text("x = 1\n")
    found = lineage(outputs, {})["code"]
    assert (found["changed"], found["dirty"]) == (["code.py", "dvc.lock"], True)
    assert git_commit(outputs.root) == f"{found['commit']}-dirty"
    code.write_text("")
    lock.write_text(LOCK)
    assert locked_stages(outputs.root, "squares")["fetch"]["outs"] == {
        "data/raw/squares": "aa.dir"
    }


def test_a_new_file_of_code_is_a_change_and_one_that_git_ignores_is_not(outputs):
    package = outputs.root / "kmunet"
    for name in ("kmunet/reports/data", "notes.txt"):  # ignored, and no code
        (outputs.root / name).parent.mkdir(parents=True, exist_ok=True)
        (outputs.root / name).write_text("")
    found = lineage(outputs, {})["code"]
    assert (found["changed"], found["dirty"]) == ([], False)
    (package / "new.py").write_text("x = 1\n")
    found, commit = lineage(outputs, {})["code"], git_commit(outputs.root)
    shutil.rmtree(package)
    (outputs.root / "notes.txt").unlink()
    assert (found["changed"], found["dirty"]) == (["kmunet/new.py"], True)
    assert commit == f"{found['commit']}-dirty"
    assert git_commit(outputs.root.parent) == ""
