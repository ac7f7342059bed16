"""`kmunet bench` end to end at small sizes: ratios, limits, goals, going on after."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from benchmarks import bench as module
from benchmarks import networks, turns, worker
from benchmarks.case import OURS, PARTS, Case, Work
from benchmarks.goals import goals
from benchmarks.modules import RECURSION
from benchmarks.plan import BF16, GRAPHS, Settings, full, groups
from benchmarks.rows import group_rows
from benchmarks.tables import goals_table, group_table
from benchmarks.turns import Round
from kmunet.cli import main

SMALL = ["--sizes", "64", "--repeats", "1", "--quick", "--threads", "1"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The command's file, after a run of the parts that start fast."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    parts = ["--parts", "scan", "kan", "ss2d", "--out", str(out), "--device", "cpu"]
    assert main(["bench", *SMALL, *parts]) == 0
    assert out.with_suffix(".png").exists()
    assert not out.with_suffix(".part.json").exists()
    return json.loads(out.read_text())


def test_rows_have_ratios_and_shares(result):
    assert {row["part"] for row in result["rows"]} == {"scan", "kan", "ss2d"}
    for row in result["rows"]:
        assert "failed" not in row, row
        assert row["cpu"] > 0
        assert row["working"] > 0
        assert row["times_ours"] > 0
        assert row["memory_times_ours"] > 0
        needed = "fma" if row["part"] == "kan" else "exp"
        assert 0 < row["shares"][needed] <= 1.5  # a limit, give or take other work
        if row["peer"] == OURS:
            assert row["times_ours"] == 1
        total = sum(phase["cpu"] for phase in row["phases"].values())
        assert total == pytest.approx(row["cpu"], rel=1e-2)


def test_limits_and_machine(result):
    limits = {"exp", "product", "product_bf16", "bandwidth", "fma"}
    assert set(result["limits"]) == limits
    assert all(rate > 0 for rate in result["limits"].values())
    assert result["machine"]["threads"] == 1
    assert str(Path.home()) not in json.dumps(result)


def test_goals_of_other_shapes_are_not_measured(result):
    assert {goal["reached"] for goal in result["goals"]} == {None}


def test_a_step_and_inference_of_whole_networks():
    settings = Settings("cpu", 1, (64,), (1,), parts=("step", "inference"))
    for cases in groups(settings):
        few = [case for case in cases if case.who in (OURS, "u_kan")]
        rows = group_rows(few, Round(1, 5.0).run(few))
        assert [row["bf16"] for row in rows] == [False, True, False]
        assert all(row["flop"] > 0 and row["working"] > 0 for row in rows)
        assert rows[0]["exps"] > 0 == rows[-1]["exps"]


def test_a_call_that_takes_too_long_is_told_as_such():
    ours = Case("scan", OURS, 64, 1)
    slow = Case("scan", "naive", 128, 1, seconds=0.3)
    rows = group_rows([ours, slow], Round(1, 5.0).run([ours, slow]))
    assert rows[1]["failed"].startswith("more than ")
    assert rows[1]["times_ours_at_least"] > 1
    _, _, lines = group_table(
        [
            {**rows[0], "shares": dict.fromkeys(("exp", "fma", "bandwidth"), 0.1)},
            rows[1],
        ],
        "cpu",
    )
    assert lines[1][1] == rows[1]["failed"]


def test_a_stopped_run_goes_on(tmp_path, monkeypatch, capsys):
    settings = Settings("cpu", 1, (64,), (1,), parts=("kan",), repeats=1)
    kept = module._Kept(tmp_path / "x.part.json", settings)
    case = Case("kan", OURS, 64, 1)
    first = kept.do("kan", settings, [case])
    monkeypatch.setattr(Round, "run", lambda *_: pytest.fail("measured again"))
    more = {**module.machine(), "memory_gb": 1, "load_at_start": 7.0}
    monkeypatch.setattr(module, "machine", lambda: more)
    again = module._Kept(tmp_path / "x.part.json", settings)
    assert again.do("kan", settings, [case]) == first
    assert capsys.readouterr().err == "going on after 1 groups\n"
    other = module._Kept(tmp_path / "x.part.json", full("cpu", 1, ()))
    assert not other._groups
    monkeypatch.setattr(module, "machine", lambda: {**more, "gpu": "another"})
    assert not module._Kept(tmp_path / "x.part.json", settings)._groups
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in told] == [
        f"of another {what}; measuring all anew" for what in ("settings", "machine")
    ]


def test_goals_are_judged_from_rows():
    ours = {"part": "step", "peer": OURS, "size": 256, "batch": 8, "cpu": 1.9}
    ours |= {"peak": 2.8e9}
    stopped = {"part": "step", "size": 128, "batch": 1, "failed": "more than 180 s"}
    stopped |= {"peer": "published KM-UNet, scan by reference"}
    rows = [ours, stopped | {"times_ours_at_least": 900.0}]
    found = [goal.judge(rows) for goal in goals("cpu")]
    by_what = {goal["what"]: goal["reached"] for goal in found}
    assert by_what["training step, 8 x 256 x 256, CPU s"] is True
    assert by_what["  its peak memory, GB"] is False
    assert sum(reached is True for reached in by_what.values()) == 2
    _, _, lines = goals_table(found)
    assert {line[3] for line in lines} == {"reached", "NOT reached", "not measured"}


def on_a_gpu():
    """All cases of a whole run there."""
    return [case for group in groups(full("cuda", 1, ())) for case in group]


def test_compiled_cases_have_one_size_and_time_to_compile():
    compiled = [case for case in on_a_gpu() if case.graphs]
    assert {(case.part, case.size) for case in compiled} == {
        ("step", 256),
        ("inference", 256),
    }
    for case in on_a_gpu():
        assert case.first_seconds == 300  # kernels are compiled and tuned, at least
    assert Case("step", OURS, 256, 8, seconds=10.0).first_seconds == 10.0


def test_ours_is_deterministic_where_it_trains_on_a_gpu():
    same = {(case.part, case.peer) for case in on_a_gpu() if case.deterministic}
    parts = ("scan", "kan", "ss2d", "step")
    assert same == {
        *((part, OURS) for part in parts),
        ("kan", RECURSION),
        *(("step", peer) for peer in (BF16, GRAPHS)),
    }
    assert not Case("step", OURS, 64, 1).deterministic


class Worker:
    """A worker's process and connection in one, for a GPU that is not here."""

    pid = None
    built: ClassVar[list["Worker"]] = []

    def __init__(self, case, first):
        self.case, self.first, self.calls = case, first, 0
        self.answers = [{"flop": 0.0, "exps": 0.0, "bytes": 0.0}]
        self.built.append(self)

    def send(self, what):
        times = {"forward": {"gpu": self.first if self.calls == 0 else 0.001}}
        self.answers.append(times if what == "call" else {"start": 0, "peak": 1})
        if what == "call":
            time.sleep(times["forward"]["gpu"])
            self.calls += 1

    def poll(self, seconds):
        return bool(self.answers)

    def recv(self):
        return self.answers.pop(0)

    def join(self, seconds=None):
        pass

    def is_alive(self):
        return False

    close = kill = join


@pytest.fixture
def workers(monkeypatch):
    """Whose first call takes as long as all repeats may."""

    def start(serve, case, preload):
        worker = Worker(case, first=0.3)
        return worker, worker

    monkeypatch.setattr(turns, "start", start)
    monkeypatch.setattr(Worker, "built", [])
    return Worker.built


def test_a_gpu_s_first_call_compiles_and_is_no_figure(workers):
    cases = [Case("scan", peer, 256, 8, device="cuda") for peer in (OURS, "chunked")]
    rows = group_rows(cases, Round(3, patience=0.2).run(cases))
    for row in rows:
        assert (row["repeats"], row["cold"], row["gpu"]) == (3, False, 0.001)
    assert rows[1]["times_ours"] == 1


@pytest.mark.parametrize(("device", "begun"), [("cuda", [0, 1, 2]), ("cpu", [0, 0, 1])])
def test_nobody_builds_on_a_gpu_while_another_tunes(
    workers, monkeypatch, device, begun
):
    """How many had been called when each was started."""
    called = []
    own = turns.Runner.__init__

    def noted(self, case):
        called.append(sum(worker.calls > 0 for worker in workers))
        own(self, case)

    monkeypatch.setattr(turns.Runner, "__init__", noted)
    peers = (OURS, "chunked", "naive")
    cases = [Case("scan", peer, 64, 1, device=device) for peer in peers]
    monkeypatch.setattr(turns, "summary", lambda runner: {})
    monkeypatch.setattr(turns, "_free_share", lambda: 1.0)
    Round(0, patience=1.0).run(cases)
    assert called == begun


def test_a_gpu_s_memory_is_without_the_tuning_of_the_first_call(monkeypatch):
    peak = {"bytes": 0}  # a call takes 10, and once the tuner's buffer besides
    sizes = iter([300, 10, 10])

    def call():
        peak["bytes"] = max(peak["bytes"], 40 + next(sizes))

    monkeypatch.setattr(worker, "_build", lambda _: Work([("forward", call)]))
    monkeypatch.setattr(worker, "_on_gpu", lambda work, ahead: work.phases[0][1]())
    driver = {
        "synchronize": lambda: None,
        "memory_allocated": lambda: 40,
        "max_memory_allocated": lambda: peak["bytes"],
        "reset_peak_memory_stats": lambda *_: peak.update(bytes=40),
    }
    for name, stub in driver.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    told, asked = [], ["call", "memory", "call", "call", "memory", "end"]
    both = SimpleNamespace(send=told.append, recv=lambda: asked.pop(0))
    worker._serve(both, Case("scan", OURS, 256, 8, device="cuda"))
    assert told[-1] == {"start": 40, "peak": 50}


def test_a_goal_takes_no_first_call_of_a_gpu():
    def judged(**of_ours):
        ours = {"part": "step", "size": 256, "batch": 64, "gpu": 1.0, "peer": BF16}
        theirs = {"part": "scan", "size": 256, "batch": 8, "peer": "mamba-ssm"}
        theirs |= {"gpu": 2.0, "times_ours": 2.0, "cold": False}
        of_scan = theirs | {"peer": OURS} | of_ours
        phases = {name: {"gpu": 1.0} for name in ("forward", "backward")}
        rows = [ours | of_ours, theirs, of_scan | {"phases": phases}]
        found = [goal.judge(rows) for goal in goals("cuda")]
        return [line[2:] for line in goals_table(found)[2]]

    cold = ["", "cold: no second call"]
    assert [line for line in judged(cold=True) if line == cold] == [cold] * 4
    assert cold not in judged(cold=False)


def test_without_monai_its_networks_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    assert not {"unet", "attention_unet"} & {case.peer for case in on_a_gpu()}
    assert "u_kan" in {case.peer for case in on_a_gpu()}
    module._tell_left_out(full("cuda", 1, ()))
    assert capsys.readouterr().err == (
        "no attention_unet, unet: MONAI is not installed\n"
    )


@pytest.mark.parametrize("size", ["32", "100"])
def test_sizes_that_networks_cannot_take(size, capsys):
    assert main(["bench", "--sizes", size]) == 2
    assert "multiples of 32" in capsys.readouterr().err


def test_a_wrong_path_to_published_code_stops_at_once(tmp_path, capsys):
    assert main(["bench", "--published", str(tmp_path)]) == 2
    assert "no archs.py" in capsys.readouterr().err


def test_the_command_knows_the_parts():
    from benchmarks import command

    assert command.PARTS == PARTS


def test_the_exp_loop_for_gpus_in_triton_s_interpreter():
    pytest.importorskip("triton")
    code = (
        "import torch; from benchmarks.limits_gpu import exp_loop;"
        "x = torch.linspace(-1, 1, 4096); y = x.clone(); exp_loop(y, 2);"
        "torch.testing.assert_close(y, torch.exp2(-torch.exp2(-x)))"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
