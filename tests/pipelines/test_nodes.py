"""A worker without a workspace: prepared data by content, from a real S3 server."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from kmunet.config import parse_params
from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from kmunet.errors import DataError
from kmunet.training import LocalReporter
from pipelines import prepare, split
from pipelines.content import Content, receive, send
from pipelines.folds import divided
from pipelines.paths import Paths
from pipelines.train import train_worker, worker_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Prepared data with a split, and params for one short epoch."""
    paths = Paths(tmp_path_factory.mktemp("workspace"), "synthetic")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"]["synthetic"]["sizes"] = [32]
    raw["model"]["widths"] = [16, 24, 32]
    raw["train"] |= {"epochs": 1, "max_steps": 1, "threads": 1}
    write_synthetic(paths.raw, 24, 40, seed=4)
    params = parse_params(raw)
    prepare.run(params, paths)
    split.run(params, paths)
    return paths, params


def push(server, folder):
    """Lay a folder out as `dvc push` does; its content's address."""
    items = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        server.put("dvc", f"nodes/files/md5/{md5[:2]}/{md5[2:]}", path.read_bytes())
        items.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    listing = json.dumps(items).encode()
    md5 = hashlib.md5(listing).hexdigest()
    server.put("dvc", f"nodes/files/md5/{md5[:2]}/{md5[2:]}.dir", listing)
    return Content("s3://dvc/nodes", f"{md5}.dir", {})._asdict()


def test_a_node_without_the_folders_trains_on_the_same_bits(
    workspace, aws, s3_server, tmp_path
):
    paths, params = workspace
    aws.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = worker_config(params, paths, open_packed(paths.prepared, paths.splits))
    away = dict(here)
    for name, folder in (("prepared", paths.prepared), ("splits", paths.splits)):
        gone = str(tmp_path / "nowhere" / name)
        away[name] = {"folder": gone, "content": push(s3_server, folder)}
    reporters = [LocalReporter(tmp_path / "here"), LocalReporter(tmp_path / "away")]
    for config, reporter in zip((here, away), reporters, strict=True):
        train_worker(config, reporter)
    assert reporters[0].reports == reporters[1].reports
    assert len(list((tmp_path / "cache" / "kmunet" / "content").glob("[0-9a-f]*"))) == 2
    shutil.rmtree(tmp_path / "away")
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # once a node is enough
    again = LocalReporter(tmp_path / "again")
    train_worker(away, again)
    assert again.reports == reporters[0].reports


def test_a_remote_in_a_folder_of_any_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    md5, store = hashlib.md5(b"x").hexdigest(), tmp_path / "Dépôt de données"
    file = store / "files" / "md5" / md5[:2] / md5[2:]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(config)
    (tmp_path / "set.dvc").write_text(f"outs:\n- {{md5: {md5}, path: set}}\n")
    assert receive(send(tmp_path, "set")).read_bytes() == b"x"


def test_other_data_at_the_same_path_are_refused(workspace, tmp_path):
    """A node's own disk may hold an older version where the driver's lies."""
    paths, params = workspace
    packed = open_packed(paths.prepared, paths.splits)
    config = worker_config(params, paths, packed)
    other = params.model_copy(
        update={"split": params.split.model_copy(update={"seed": 5})}
    )
    folder = tmp_path / "older"
    divided(packed.prepared, other, folder)
    config["splits"] = {"folder": str(folder), "content": None}
    with pytest.raises(DataError, match=r"older on node .*: other data than .*remove"):
        train_worker(config, LocalReporter(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_neither_here_nor_in_a_remote_says_what_to_do(tmp_path):
    sent = {"folder": str(tmp_path / "prepared"), "content": None}
    with pytest.raises(DataError, match=r"prepared: not on node .*dvc push"):
        receive(sent)
