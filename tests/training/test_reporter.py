"""The last two checkpoints of one process, whatever is killed or damaged when."""

import json

import pytest

from kmunet.training import LocalReporter


def saved(folder, step):
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"step": step}))
    return folder


def steps(reporter):
    found = []
    for opened in reporter.checkpoints():
        with opened as folder:
            found.append(json.loads((folder / "state.json").read_text())["step"])
    return found


@pytest.mark.parametrize("renamed", [0, 1])
def test_killed_between_two_names_nothing_is_lost(tmp_path, monkeypatch, renamed):
    reporter = LocalReporter(tmp_path / "run")
    for step in (1, 2):
        reporter.report({}, saved(tmp_path / str(step), step))
    paths, done = type(tmp_path), []
    rename = paths.rename

    def killed(self, target):
        if self.name in ("latest", "incoming"):
            if len(done) == renamed:
                raise KeyboardInterrupt
            done.append(self)
        return rename(self, target)

    monkeypatch.setattr(paths, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        reporter.report({}, saved(tmp_path / "3", 3))
    assert steps(reporter) == [3, 2]
