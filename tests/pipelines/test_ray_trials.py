"""Trials that end before their own code can say why: what is told of them."""

import os
from importlib import import_module
from threading import Event

from pipelines.ray_search import Rules, run_search
from pipelines.ray_trials import Share, run_trials

SHARE = Share(1, 0, 0)


class Reads:
    """Calls something where it is read: on the worker."""

    def __init__(self, *what):
        self.what = what

    def __reduce__(self):
        function, *arguments = self.what
        return function, tuple(arguments)


def _run(ray_cluster, **job):
    found = run_trials([{"name": "a", **job}], SHARE, print, Event())
    ((name, outcome),) = found
    assert (name, outcome["status"]) == ("a", "failed")
    return outcome


def test_the_cause_is_told_and_where_it_was_is_kept(ray_cluster):
    outcome = _run(ray_cluster, needs=Reads(import_module, "albumentationz"))
    cause = "ModuleNotFoundError: No module named 'albumentationz'"
    assert outcome["message"] == cause
    assert outcome["traceback"].startswith("ray::attempt() (pid=")
    assert outcome["traceback"].endswith(cause)


def test_a_process_that_is_gone_is_told_as_that(ray_cluster):
    outcome = _run(ray_cluster, needs=Reads(os._exit, 1))
    assert outcome["message"].startswith("its process was lost: ")
    assert "\x1b" not in outcome["message"] + outcome["traceback"]


def test_a_search_tells_the_cause_too(ray_cluster, tmp_path):
    (tmp_path / "taken").write_text("no folder")
    job = {
        "name": "a",
        "folder": str(tmp_path / "taken"),
        "params": {"train": {"epochs": 1}},
    }
    ended = {}
    rules = Rules("val_iou", 1, None)
    run_search(
        [job], SHARE, rules, tmp_path / "ray" / "b", print, ended.__setitem__, Event()
    )
    assert ended["a"]["status"] == "failed"
    assert ended["a"]["message"].startswith("FileExistsError: ")
    assert ended["a"]["traceback"].startswith("ray::")
    assert "workplace" in ended["a"]["traceback"]
