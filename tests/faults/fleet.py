"""A whole stack with a small checkout: its runs watched, its parts killed."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import psutil
from cluster import Cluster, alone, running

from benchmarks import small_checkout
from infra.cluster import clients
from infra.doctor.request import ask
from infra.local import processes
from infra.local.http import post
from kmunet.errors import KMUNetError
from pipelines import overrides

VALUES = {**small_checkout.SMALL, "train.max_steps": None, "train.batch_size": 8}
STAGES = ("synthesize", "prepare@synthetic", "split@synthetic", "train@synthetic",
          "evaluate@synthetic", "register@synthetic")  # fmt: skip
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Fleet:
    """One Ray node; the deployment's runs work in the checkout itself."""

    cluster: Cluster

    @classmethod
    def started(cls, folder):
        root = small_checkout.make(folder / "checkout", VALUES)
        for cluster in running(Cluster(root, tuple(alone()))):
            yield cls(cluster)

    @property
    def root(self):
        return self.cluster.root

    def train(self, **values):
        """The id of a new flow run, with these values of `train` in params.yaml."""
        chosen = {f"train.{key}": value for key, value in values.items()}
        overrides.write(self.root / "params.yaml", chosen)
        return self.post(f"deployments/{self._deployment}/create_flow_run",
                         {"state": {"type": "SCHEDULED"}})["id"]  # fmt: skip

    def post(self, path, body):
        return post(f"{self.cluster.stack.api}/{path}", body, self._login)

    def get(self, path):
        """What Prefect's server answers; None where it does not."""
        with suppress(KMUNetError):
            answer = ask(f"{self.cluster.stack.api}/{path}", self._login)
            return answer.json() if answer.status == 200 else None
        return None

    def state(self, run):
        """Its state, None where no server says it."""
        found = self.get(f"flow_runs/{run}")
        return found and found["state"]

    def ended(self, run, limit=400):
        """Its last state."""

        def last():
            state = self.state(run)
            return state if state and state["type"] in FINAL else None

        return until(last, limit)

    def completed(self, run):
        """Its tasks, once it has ended well."""
        state = self.ended(run)
        assert state["type"] == "COMPLETED", (state, self.logs(run)[-30:])
        return self.tasks(run)

    def tasks(self, run):
        """The name of the last state, by stage; a stage has run in one task."""
        found = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        states = {item["name"]: item["state_name"] for item in found}
        assert len(states) == len(found)
        return states

    def logs(self, run):
        """The first 200 lines."""
        asked = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200,
                 "sort": "TIMESTAMP_ASC"}  # fmt: skip
        return [item["message"] for item in self.post("logs/filter", asked)]

    def slots(self):
        """How many hold the data set's turn."""
        limit = "v2/concurrency_limits/kmunet-synthetic"
        return until(lambda: self.get(limit), 30)["active_slots"]

    def epoch(self):
        """The last one in a checkpoint of the training under way; 0 without."""
        found = [0]
        bucket = self.cluster.place.buckets / "kmunet-checkpoints"
        for file in bucket.rglob("state.json"):
            with suppress(OSError, ValueError):  # going, or not whole yet
                found.append(json.loads(file.read_text())["epoch"])
        return max(found)

    def reaches(self, run, epoch, limit=240):
        """Wait for an epoch to be saved; the run goes on, as far as one knows."""

        def saved():
            state = self.state(run)
            assert not state or state["type"] not in FINAL, state
            return self.epoch() >= epoch

        until(saved, limit)

    def drivers(self):
        """The processes of the stage train."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("KMUNET_ROOT") == str(self.root)
                if ours and "pipelines.train" in process.cmdline():
                    found.add(process)
        return found

    def at_work(self):
        """The processes below the Prefect worker, and the trainers below Ray."""
        found = psutil.Process(self.pid("worker")).children(recursive=True)
        for process in psutil.Process(self.pid("ray")).children(recursive=True):
            with suppress(psutil.Error):
                if "TrainWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return [process.pid for process in found]

    def kill(self, name):
        """A part at once, as a crash."""
        os.killpg(self.pid(name), signal.SIGKILL)
        until(lambda: not self.cluster.records()[name], 20)

    def up(self):
        done = self.cluster.up()
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pid(self, name):
        return processes.find(name, self.cluster.place.folder).pid

    @cached_property
    def _login(self):
        return clients.prefect_headers(self.cluster.stack.secrets)

    @cached_property
    def _deployment(self):
        return until(lambda: self.get("deployments/name/kmunet/train"), 30)["id"]


def until(found, limit):
    """What `found()` gives once it is something."""
    deadline = time.monotonic() + limit
    while not (value := found()):
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.3)
    return value
