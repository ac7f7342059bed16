"""Stand-ins for the stages: the same files and ways to fail, in milliseconds.

train.epochs chooses what train does: 13 fails as bad input does, 75 finds a server
away until it is called a third time, 500 hangs with a child process and a grandchild
that left the process group.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

HANG = "import time; time.sleep(600)"


def synthesize(dataset: str, params: dict) -> None:
    write("data/raw/synthetic/one.txt", str(params["synthesize"]["seed"]))


def prepare(dataset: str, params: dict) -> None:
    found = sorted(p for p in Path("data/raw", dataset).rglob("*") if p.is_file())
    listing = [f"{p.name} {p.read_text()}" for p in found]
    write(f"data/prepared/{dataset}/list.txt", "\n".join(listing))


def split(dataset: str, params: dict) -> None:
    write(f"data/splits/{dataset}/splits.json", json.dumps(params["split"]))


def train(dataset: str, params: dict) -> None:
    if params["train"]["epochs"] == 13:
        print(
            "error: train: train.epochs: 13 is unlucky;\nchoose another",
            file=sys.stderr,
        )
        raise SystemExit(2)
    if params["train"]["epochs"] == 75:
        called = Path(".dvc", "tmp", "called")
        called.write_text(called.read_text() + "." if called.exists() else ".")
        if len(called.read_text()) < 3:
            print("error: train: MLflow at nowhere: no answer", file=sys.stderr)
            raise SystemExit(75)
    if params["train"]["epochs"] == 500:
        children = [
            subprocess.Popen([sys.executable, "-c", HANG], start_new_session=apart)
            for apart in (False, True)
        ]
        print("hanging", *(child.pid for child in children), flush=True)
        time.sleep(600)
    for epoch in range(3):
        print(f"epoch {epoch}", flush=True)
    write(f"models/{dataset}/model.json", json.dumps(params["train"], sort_keys=True))


def evaluate(dataset: str, params: dict) -> None:
    score = {"mean": 0.5, "low": 0.4, "high": 0.6}
    metrics = {"iou": score, "dice": score, "images": 3, "misses": 1, "false_alarms": 0}
    write(f"metrics/{dataset}.json", json.dumps(metrics))
    write(f"reports/{dataset}/report.html", "<p>report</p>")


def register(dataset: str, params: dict) -> None:
    print(f"kmunet-{dataset}: version 1 promoted to champion: first model")
    write(f"registered/{dataset}.json", "{}")


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


if __name__ == "__main__":
    _, name, *rest = sys.argv
    dataset = rest[0] if rest else "synthetic"
    globals()[name](dataset, yaml.safe_load(Path("params.yaml").read_text()))
