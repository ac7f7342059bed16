"""What becomes of versions before the gate, in a real MLflow registry.

What models predict is given here; that they are applied is tested with `register`.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import yaml

from kmunet.config import parse_params
from kmunet.data.store import open_packed
from kmunet.errors import ServiceError, UnavailableError
from pipelines import promotion, rollback, split
from pipelines.fair import learnt_from
from pipelines.promotion import is_judged, pass_gate
from pipelines.tracking import LEARNT_FROM, Registry
from tests.pipelines.workspaces import tiny_workspace


class Versions(Registry):
    """Each says the same of every pixel, in the share of images that it is right on."""

    def __init__(self, root, name):
        super().__init__(root, name)
        self.right, self.on_apply = {}, lambda: None

    def make(self, right, learnt="", **params):
        """Probabilities of pixels with a lesion and of others, as a version's own."""
        run = self.client.create_run(self.experiment).info.run_id
        self.client.log_text(run, learnt, LEARNT_FROM)
        for key, value in params.items():
            self.client.log_param(run, key.replace("__", "."), value)
        made = self.client.create_model_version(self.name, "none", run)
        self.right[str(made.version)] = right
        return self.get(made.version)

    @contextmanager
    def apply(self, version, images, rows):
        self.on_apply()
        self.applied = list(rows)
        yield [self.right[str(version)](self.packed.masks[row], row) for row in rows]


def says(lesion, other=0.0):
    """Probabilities of a pixel with a lesion and of another."""
    return lambda mask, row: np.where(mask > 0, lesion, other).astype(np.float32)


def misses(every):
    """All that lies in the upper half of one image in `every`."""

    def found(mask, row):
        own = np.where(mask > 0, 0.9, 0.0).astype(np.float32)
        own[: own.shape[0] // 2] *= row % every > 0
        return own

    return found


noisy = misses(2)


@dataclass
class Place:
    paths: object
    raw: dict
    registry: Versions

    def params(self, **gate):
        self.raw["register"]["gate"] |= gate
        return parse_params(self.raw)

    def open(self):
        self.registry.packed = open_packed(self.paths.prepared, self.paths.splits)
        return self.registry.packed

    def judge(self, version, **gate):
        params = self.params(**gate)
        version = self.registry.get(version.version)
        if not is_judged(params, version):
            pass_gate(params, self.open(), self.registry, version)
        return self.registry.get(version.version).tags


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return tiny_workspace(tmp_path_factory.mktemp("promotion"))[0]


@pytest.fixture
def place(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    raw = yaml.safe_load(workspace.params.read_text())
    raw["split"] |= {"test": 0.4}
    registry = Versions(workspace.root, "kmunet-synthetic")
    found = Place(workspace, raw, registry)
    split.run(found.params(), workspace)
    return found


def test_what_stayed_challenger_is_judged_again_by_other_settings(place, capsys):
    first = place.judge(place.registry.make(noisy))
    assert first["gate"].startswith("first model")
    better = place.registry.make(says(0.9))
    assert "needed > 0.9" in place.judge(better, min_gain=0.9)["gate"]
    assert "gate_pending" not in place.judge(better, min_gain=0.9)
    assert capsys.readouterr().out.count("version 2") == 1  # not judged twice
    assert place.judge(better, min_gain=0.0)["gate"].endswith("needed > 0")
    assert str(place.registry.alias("champion").version) == "2"


def test_what_was_rolled_back_stays_so(place):
    place.judge(place.registry.make(noisy))
    better = place.registry.make(says(0.9))
    reason = place.judge(better)["gate"]
    rollback.run(place.params(), place.paths)
    assert place.judge(better, min_gain=-0.5)["gate"] == reason
    assert str(place.registry.alias("champion").version) == "1"


def test_each_is_judged_at_its_own_threshold(place):
    """Today's threshold is the challenger's; the champion is perfect at its own."""
    place.judge(place.registry.make(says(0.9, 0.4), evaluate__threshold=0.5))
    weak = place.registry.make(says(0.9, 0.1), evaluate__threshold=0.05)
    place.raw["evaluate"]["threshold"] = 0.05
    reason = place.judge(weak)["gate"]
    assert "against 1.0000 of the champion" in reason
    assert str(place.registry.alias("champion").version) == "1"


def test_images_that_the_challenger_was_selected_on_are_no_evidence(place):
    place.judge(place.registry.make(noisy))
    place.raw["split"]["protocol"] = "paper"
    split.run(place.params(), place.paths)
    selected = place.registry.make(says(0.9), learnt_from(place.open()))
    reason = place.judge(selected)["gate"]
    assert "its epoch was selected on 8 of the 8 test images" in reason
    assert "split.protocol: clean" in reason
    assert str(place.registry.alias("champion").version) == "1"


@pytest.mark.parametrize("moved", [True, False])
def test_a_promotion_cut_short_is_carried_on(place, monkeypatch, capsys, moved):
    """Killed before or after the alias moved, MLflow gone included."""
    place.judge(place.registry.make(noisy))
    better = place.registry.make(says(0.9))

    def killed(*arguments):
        if moved:
            Registry.set_alias(place.registry, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place.registry, "set_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            place.judge(better)
    capsys.readouterr()
    tags = place.judge(better)
    assert "against 0." in tags["gate"]
    assert "gain +0." in tags["gate"]
    assert tags["replaced"] == "1"
    assert "version 2 promoted to champion: " in capsys.readouterr().out
    rollback.run(place.params(), place.paths)
    assert str(place.registry.alias("champion").version) == "1"


def test_it_is_compared_with_the_champion_of_the_end(place):
    """Another run promotes a better one in between."""
    place.judge(place.registry.make(noisy))
    middling, best = place.registry.make(noisy), place.registry.make(says(0.9))
    place.registry.right["2"] = lambda mask, row: noisy(
        mask, row // 2 * 2 + (row % 3 > 0)
    )
    place.registry.on_apply = lambda: place.registry.set_alias("champion", best.version)
    reason = place.judge(middling, confidence=0.0, min_gain=-0.4)["gate"]
    assert str(place.registry.alias("champion").version) in {"2", "3"}
    assert "against 1.0000 of the champion" in reason


def test_a_champion_that_never_stays_is_waited_for(place):
    place.judge(place.registry.make(noisy))
    others = [place.registry.make(noisy) for _ in range(9)]
    better = place.registry.make(says(0.9))
    place.registry.on_apply = lambda: place.registry.set_alias(
        "champion", others.pop().version
    )
    with pytest.raises(UnavailableError, match="changed 3 times while version 11"):
        place.judge(better)
    assert promotion.TRIES == 3


def test_a_champion_by_hand_has_nothing_before_it(place):
    place.judge(place.registry.make(noisy))
    place.registry.set_alias("champion", place.registry.make(noisy).version)
    with pytest.raises(ServiceError, match="version 2 is champion by hand and not by"):
        rollback.run(place.params(), place.paths)
