"""Two Ray nodes with addresses and disks of their own, S3, and a workspace to train."""

import hashlib
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import s3
import yaml

from infra.nodes import Network, Node
from kmunet.config import parse_params
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, split
from pipelines.paths import Paths

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TOKEN = "t0k3n" * 8
TRAIN = {
    "epochs": 3,
    "batch_size": 8,
    "workers": 2,
    "threads": 1,
    "optimizer": "sgd",
    "lr": 2e-3,
    "kan_lr": 2e-3,
    "checkpoint_steps": 1,
}


@dataclass
class Lab:
    """A cluster whose head has no CPU to train on, and a driver on this machine."""

    network: Network
    folder: Path
    server: s3.S3Server | None = None
    nodes: dict[int, Node] = field(default_factory=dict)
    process: subprocess.Popen | None = None  # of S3

    def serve(self):
        """Start S3, at the same port as before if there was one."""
        at = {"host": self.network.host, "port": self.server.port if self.server else 0}
        options = ("--auth-key", f"{s3.KEY},{s3.SECRET}")
        self.process, endpoint = s3.start(self.folder / "buckets", *options, **at)
        self.server = s3.S3Server(endpoint, self.folder / "buckets")

    def cease(self):
        """End S3; what it has stays on its disk."""
        self.process.terminate()
        self.process.wait(10)

    @property
    def head(self):
        return self.nodes[1]

    def node(self, number, **env):
        """Another disk and the same keys, unless `env` has others."""
        self.nodes[number] = Node(
            self.network,
            number,
            self.folder / f"node{number}",
            TOKEN,
            {**self.server.env(), "PYTHONPATH": str(HERE), **env},
            hidden=[self.folder / "workspaces"],
        )
        return self.nodes[number]

    def env(self, **more):
        """Of a driver."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW")}
        return {
            **kept,
            **self.server.env(),
            "PYTHONPATH": str(ROOT),
            "RAY_ADDRESS": self.head.address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "KMUNET_STORAGE": "s3://kmunet/checkpoints",
            **more,
        }

    def workspace(self, name, images=24, **train):
        """Prepared data, whose content the DVC remote has, and params."""
        paths = Paths(self.folder / "workspaces" / name, "synthetic")
        paths.root.mkdir(parents=True)
        raw = yaml.safe_load((ROOT / "params.yaml").read_text())
        raw["sources"]["synthetic"]["sizes"] = [96]
        raw["model"]["widths"] = [16, 24, 32]
        raw["train"] |= {**TRAIN, **train}
        paths.params.write_text(yaml.safe_dump(raw))
        write_synthetic(paths.raw, images, 80, seed=4)
        params = parse_params(raw)
        prepare.run(params, paths)
        split.run(params, paths)
        self._push(paths)
        return paths

    def start(self, paths, **env):
        """The stage as a process on this machine."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.train", "--dataset", paths.dataset],
            cwd=paths.root,
            env=self.env(**env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def saved(self):
        """Names of the files of checkpoints that are in S3."""
        found = self.server.client.list_objects_v2(
            Bucket="kmunet", Prefix="checkpoints/"
        ).get("Contents", [])
        return [item["Key"].partition("/")[2] for item in found]

    def mend(self):
        """Nothing of a training is left, and every node is there again."""
        until_gone = time.monotonic() + 60
        while self.pids() and time.monotonic() < until_gone:
            time.sleep(0.5)
        for node in self.nodes.values():
            node.join_again()
            if not node.pids:
                node.start(self.head.address)
        self.head.wait(len(self.nodes))
        for name in self.saved():
            self.server.delete("kmunet", f"checkpoints/{name}")

    def pids(self):
        """Of the training workers on all nodes."""
        return {pid for node in self.nodes.values() for pid in workers(node)}

    def wholes(self):
        """The whole checkpoints in S3: those with a state.json."""
        return {name for name in self.saved() if name.endswith("state.json")}

    def again(self, process, before, start, limit=300):
        """Seconds since `start` until other workers than `before` have saved."""
        until(lambda: self.pids() - before, process, limit)
        old = self.wholes()
        until(lambda: self.wholes() - old, process, limit)
        return time.monotonic() - start

    def _push(self, paths):
        """As `dvc push` would, with what dvc.lock and .dvc/config then say."""
        outs = []
        for folder in (paths.prepared, paths.splits):
            items = []
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                md5 = self._put(path.read_bytes())
                name = path.relative_to(folder).as_posix()
                items.append({"md5": md5, "relpath": name})
            md5 = self._put(json.dumps(items).encode(), ".dir")
            out = folder.relative_to(paths.root).as_posix()
            outs.append({"path": out, "hash": "md5", "md5": md5})
        lock = {"schema": "2.0", "stages": {"prepare": {"cmd": "", "outs": outs}}}
        (paths.root / "dvc.lock").write_text(yaml.safe_dump(lock))
        (paths.root / ".dvc").mkdir()
        config = (
            "[core]\n    remote = s3\n['remote \"s3\"']\n    url = s3://kmunet/dvc\n"
        )
        (paths.root / ".dvc/config").write_text(config)

    def _put(self, content, suffix=""):
        md5 = hashlib.md5(content).hexdigest()
        key = f"dvc/files/md5/{md5[:2]}/{md5[2:]}{suffix}"
        self.server.put("kmunet", key, content)
        return md5 + suffix


@contextmanager
def laboratory(name, folder, cpus=(0, 1, 1)):
    """A head (node 1) and others with so many CPUs, and S3 on the bridge."""
    with Network.create(name) as network:
        for name in ("buckets", "workspaces"):
            (folder / name).mkdir()
        lab = Lab(network, folder)
        lab.serve()
        try:
            for number, count in enumerate(cpus, 1):
                head = lab.head.address if number > 1 else None
                lab.node(number).start(head, cpus=count)
            lab.head.wait(len(cpus))
            yield lab
        finally:
            lab.cease()


def finish(process, limit=400):
    """What it printed; its code must be 0."""
    out, _ = process.communicate(timeout=limit)
    assert process.returncode == 0, out
    return out


def workers(node):
    """The training workers of a node, by their pids on this machine."""
    found = []
    for pid in node.pids:
        try:
            line = " ".join(psutil.Process(pid).cmdline())
        except psutil.NoSuchProcess:
            continue
        if "ray::" in line and "TrainWorker" in line:
            found.append(pid)
    return found


def until(seen, process, limit=200):
    """What `seen()` is once it is something, while the process goes on."""
    deadline = time.monotonic() + limit
    while not (found := seen()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.2)
    return found
