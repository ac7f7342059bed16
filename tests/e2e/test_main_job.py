"""The main job with every real part: DVC, Prefect, Ray, MLflow. Then the caches."""

import json
import shutil
import sqlite3
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

NAMES = ("synthesize", "prepare", "split", "train", "evaluate", "register")


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        target = values.get("src") or values.get("href")
        if target and not target.startswith(("#", "data:")):
            self.found.append(unquote(target))


def test_it_ends_with_results_a_report_and_the_next_commands(first_run, checkout):
    for name in NAMES:
        assert f"pipelines.{name}" in first_run.stdout
    assert "reports/synthetic/report.html" in first_run.stdout
    assert "champion" in first_run.stdout
    assert "make run DATASET=busi RAW=" in first_run.stdout
    metrics = json.loads((checkout.root / "metrics/synthetic.json").read_text())
    assert metrics["images"] > 0
    assert f"{metrics['iou']['mean']:.3f}" in first_run.stdout


def test_it_is_quiet(first_run):
    both = first_run.stdout + first_run.stderr
    for noise in (
        "Traceback",
        "Warning",
        "warning",
        "deprecated",
        "ERROR",
        "telemetry",
    ):
        assert noise not in both


def test_the_reports_links_lead_somewhere(first_run, checkout):
    report = checkout.root / "reports/synthetic/report.html"
    links = _Links()
    links.feed(report.read_text())
    assert [t for t in links.found if not (report.parent / t).exists()] == []
    assert any(target.startswith("overlays/") for target in links.found)


def test_the_registry_holds_a_champion(first_run, checkout):
    store = sqlite3.connect(checkout.root / ".kmunet/mlflow.db")
    query = "select alias from registered_model_aliases where name = 'kmunet-synthetic'"
    rows = store.execute(query).fetchall()
    assert sorted(rows) == [("challenger",), ("champion",)]


def test_git_and_dvc_are_clean(first_run, checkout):
    assert checkout.git("status", "--porcelain") == ""
    assert "up to date" in checkout.dvc("status").stdout


def test_a_second_run_does_no_work_and_says_so(first_run, checkout):
    before = (checkout.root / "models/synthetic/model.safetensors").stat().st_mtime_ns
    done = checkout.flow()
    assert done.returncode == 0
    assert "up to date, no stage had to run" in done.stdout
    after = (checkout.root / "models/synthetic/model.safetensors").stat().st_mtime_ns
    assert after == before


def test_after_the_flow_dvc_repro_has_nothing_to_do(first_run, checkout):
    done = checkout.dvc("repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


def test_a_deleted_output_comes_back_from_the_cache(first_run, checkout):
    model = checkout.root / "models/synthetic"
    weights = (model / "model.safetensors").read_bytes()
    shutil.rmtree(model)
    done = checkout.flow()
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert (model / "model.safetensors").read_bytes() == weights
    assert checkout.git("status", "--porcelain") == ""


def test_a_new_learning_rate_reruns_train_but_not_prepare(first_run, checkout):
    done = checkout.flow("--set", "train.lr=0.002")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [name for name in NAMES if f"> .venv/bin/python -m pipelines.{name}"
           in done.stdout]  # fmt: skip
    assert ran == ["train", "evaluate", "register"]
    assert checkout.git("status", "--porcelain") == ""
    reports = list(checkout.root.glob("runs/*/synthetic/report*/**/report.html"))
    assert len(reports) == 1


@pytest.mark.timeout(900)
def test_forced_stages_give_the_same_bytes(first_run, checkout):
    done = checkout.flow("--force")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "> .venv/bin/python -m pipelines.train" in done.stdout
    assert checkout.git("status", "--porcelain") == ""


def test_after_dvc_repro_the_flow_has_nothing_to_do(first_run, checkout):
    params = checkout.root / "params.yaml"
    kept = params.read_text()
    params.write_text(kept.replace("bootstrap: 200", "bootstrap: 300"))
    assert params.read_text() != kept
    repro = checkout.dvc("repro")
    assert "pipelines.evaluate" in repro.stdout
    done = checkout.flow()
    assert "up to date, no stage had to run" in done.stdout
    params.write_text(kept)
    assert checkout.dvc("repro").returncode == 0
