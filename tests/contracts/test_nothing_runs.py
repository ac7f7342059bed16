"""Loading a model, a checkpoint or data runs nothing that a file asks for.

In each file that our loaders open, one at a time, stands a pickle that would touch a
file if anybody read it as Python's own loaders do. Each is refused, by name.
"""

import hashlib
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn, optim

from kmunet.data.division import write_split
from kmunet.data.header import verify_packed
from kmunet.data.pack import write_packed
from kmunet.data.sources import open_source
from kmunet.data.store import open_packed
from kmunet.data.synthetic import write_synthetic
from kmunet.errors import CheckpointError, DataError
from kmunet.inference import Predictor
from kmunet.inference.folder import read_history
from kmunet.models import build_model, load_published
from kmunet.training.checkpoint import (
    Parts,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    state_digest,
)
from kmunet.training.precision import Precision


class Payload:
    """Runs `touch MARKER` when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def as_pickle(path, payload):
    path.write_bytes(pickle.dumps(payload))


def as_torch(path, payload):
    torch.save({"state_dict": {"weight": payload}}, path)


def as_numpy(path, payload):
    with path.open("wb") as file:
        np.save(file, np.array([payload, payload], dtype=object), allow_pickle=True)


FORMS = pytest.mark.parametrize("write", [as_pickle, as_torch, as_numpy])


@pytest.fixture
def payload(tmp_path):
    """It must not have run by the end."""
    marker = tmp_path / "it-ran"
    yield Payload(marker)
    assert not marker.exists()


def test_the_payload_works(tmp_path):
    """Or else the other tests would prove nothing."""
    for number, write in enumerate((as_pickle, as_torch, as_numpy)):
        marker, file = tmp_path / f"ran-{number}", tmp_path / "file"
        write(file, Payload(marker))
        if write is as_torch:
            torch.load(file, weights_only=False)
        elif write is as_numpy:
            np.load(file, allow_pickle=True)
        else:
            pickle.loads(file.read_bytes())
        assert marker.exists()


@pytest.fixture(scope="session")
def model_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrusted-model")
    arguments = {"name": "km_unet", "widths": [32, 40, 48]}
    save_file(build_model(**arguments).state_dict(), folder / "model.safetensors")
    seen = {"size": 32, "mean": [0.5] * 3, "std": [0.2] * 3}
    text = json.dumps({"model": arguments, "input": seen})
    (folder / "model.json").write_text(text)
    row = "epoch,train_loss,val_loss,val_iou\n1,1.0,1.0,0.5\n"
    (folder / "history.csv").write_text(row)
    return folder


@FORMS
@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "history.csv"])
def test_a_model_folder(name, write, model_files, payload, tmp_path):
    for file in model_files.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    read_all(tmp_path)
    write(tmp_path / name, payload)
    with pytest.raises(CheckpointError, match=name):
        read_all(tmp_path)


def read_all(folder):
    Predictor.load(folder)
    read_history(folder / "history.csv")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    made = parts()
    made.model(torch.ones(1, 2)).sum().backward()
    made.optimizer.step()
    save_checkpoint(folder, made, made.model.state_dict(), TrainingState(step=1))
    return folder


def parts():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Parts(model, optimizer, None, Precision("float32", torch.device("cpu")))


@FORMS
@pytest.mark.parametrize("name", ["state.json", "weights", "optimizer", "best"])
def test_a_checkpoint(name, write, checkpoint, payload):
    assert load_checkpoint(checkpoint, parts())[0].step == 1
    file = checkpoint / (name if "." in name else f"{name}.safetensors")
    write(file, payload)
    if name != "state.json":  # its checksum is right: who wrote it knows how
        whole = json.loads((checkpoint / "state.json").read_text())
        whole["sha256"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
        whole["sha256_of_state"] = state_digest(whole)
        (checkpoint / "state.json").write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match="not a checkpoint of this run"):
        load_checkpoint(checkpoint, parts())


@FORMS
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_published_weights(write, payload, tmp_path):
    file = tmp_path / "published.pth"
    write(file, payload)
    with pytest.raises(CheckpointError, match=r"published\.pth: .* was not run"):
        load_published(build_model("km_unet", widths=(32, 40, 48)), file)


def test_published_weights_that_are_tensors(tmp_path):
    one, other = (build_model("km_unet", widths=(32, 40, 48)) for _ in range(2))
    torch.save({"epoch": 3, "state_dict": one.state_dict()}, tmp_path / "good.pth")
    load_published(other, tmp_path / "good.pth")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    with pytest.raises(CheckpointError, match="No such file"):
        load_published(other, tmp_path / "gone.pth")


@pytest.fixture(scope="session")
def data_files(tmp_path_factory):
    root = tmp_path_factory.mktemp("untrusted-data")
    write_synthetic(root / "raw", images=12, size=40, seed=5)
    rules = SimpleNamespace(
        protocol="clean", seed=1, validation=0.25, test=0.25, folds=1, fold=0,
        official=True,
        stable=False,
    )  # fmt: skip
    with open_source("folder", root / "raw") as source:
        prepared = write_packed(root / "set", source, [32], native=True)
    write_split(prepared, root / "split", rules, {})
    return root


def opens(root):
    """Whether it is taken, without reading all checksums, as training opens it."""
    try:
        opened = open_packed(root / "set", root / "split")
        opened.prepared.links()
        opened.prepared.known_groups()
        opened.native(0)
    except (DataError, UnicodeDecodeError):  # the latter from bytes that are no names
        return False
    return True


@FORMS
def test_every_file_of_prepared_data(write, data_files, payload, tmp_path):
    files = [*data_files.glob("set/**/*"), *data_files.glob("split/**/*")]
    names = [file.relative_to(data_files) for file in sorted(files) if file.is_file()]
    assert len(names) > 8
    for name in names:
        root = copied(data_files, tmp_path / "copy")
        assert opens(root)
        size = (root / name).stat().st_size
        write(root / name, payload)
        stretch(root / name, size)
        taken = opens(root)
        if name.parts[0] == "set":
            with pytest.raises(DataError):
                verify_packed(root / "set")
        if (
            name.suffix in (".json", ".npy") and name.name != "splits.json"
        ):  # for people
            assert not taken, name


def stretch(file, size):
    """To the size that index.json asks for, so that it is opened at all."""
    if 0 < file.stat().st_size < size:
        file.write_bytes(file.read_bytes().ljust(size, b"\0"))


def copied(source, target):
    for part in ("set", "split"):
        for file in (source / part).rglob("*"):
            if file.is_file():
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read_bytes())
    return target


def test_no_loader_unpickles():
    """The ways of Python, numpy and torch that run what a file says."""
    root = Path(__file__).parents[2]
    forbidden = ("pickle.load", "allow_pickle=True", "weights_only=False", "yaml.load(",
                 "joblib.load", "marshal.load", "dill.load", "shelve.open")  # fmt: skip
    for package in ("kmunet", "pipelines", "flows", "infra"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text("utf-8")
            assert not [word for word in forbidden if word in text], path
            if "torch.load(" in text:
                assert text.count("torch.load(") == text.count("weights_only=True")
            if "np.load(" in text:
                assert text.count("np.load(") == text.count("allow_pickle=False")
