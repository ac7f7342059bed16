"""The process of one run: reads its task on stdin, speaks JSON lines on stdout.

It lives as long as its stdin is open: when that closes, it saves and ends. What is
done already (training.json, scores-*.json) is not done again.
"""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kmunet.config import Params, parse_params
from kmunet.data.store import PackedSet, open_packed
from kmunet.device import choose_device
from kmunet.errors import DataError, KMUNetError, TrainingStoppedError
from kmunet.inference import Predictor
from kmunet.models import build_model
from kmunet.models.cost import flops, parameter_count
from kmunet.ops import use_backend
from kmunet.training import fit
from kmunet.training.checkpoint import TrainingState
from kmunet.training.determinism import make_deterministic
from kmunet.training.losses import LOSSES
from kmunet.training.optimizer import build_optimizer
from kmunet.training.precision import Precision
from kmunet.training.supervision import supervise
from kmunet.training.utilisation import forget_peak
from pipelines.comparison.ledger import Ledger, Spent
from pipelines.comparison.memory import memory
from pipelines.comparison.request import ALL, Limit
from pipelines.receipt import check_code
from pipelines.scoring import MaskFile, score
from pipelines.train import export, model_arguments, training_data
from pipelines.whole_file import write_whole

STOPPED = 3  # exit code
Say = Callable[[dict[str, Any]], None]


class Stop:
    """Set once nobody listens any more; ends at once what cannot be resumed."""

    def __init__(self) -> None:
        self.ledger: Ledger | None = None

    def watch(self) -> None:
        threading.Thread(target=self._wait, name="stdin", daemon=True).start()

    def _wait(self) -> None:
        while sys.stdin.read(1):
            pass
        if self.ledger is None:
            os._exit(STOPPED)
        self.ledger.stop = True


def main() -> int:
    """Do the task of stdin's first line; 2 with {"error": ...} on bad input."""
    task = json.loads(sys.stdin.readline())
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is for the log

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=out, flush=True)

    stop = Stop()
    stop.watch()
    try:
        do(task, say, stop)
    except TrainingStoppedError:
        return STOPPED
    except KMUNetError as error:
        say({"error": str(error)})
        return 2
    return 0


def do(task: dict[str, Any], say: Say, stop: Stop) -> None:
    """Train unless that is done, score the test images unless that is.

    DataError or TrainingError where data or code are not those of the plan.
    """
    params = parse_params(task["params"])
    folder = Path(task["folder"])
    size = params.train.size
    packed = open_packed(Path(task["prepared"]), Path(task["splits"]), size)
    if packed.fingerprint != task["fingerprint"]:
        raise DataError(
            f"{task['splits']}: other data than the comparison began with; run it again"
        )
    check_code(ALL, task["code"])
    weights = folder / "model" / task["dataset"]
    if not (folder / "training.json").exists():
        limit = Limit(**task["limit"])
        facts = train(params, packed, limit, folder / "checkpoints", say, stop)
        # An epoch's schedule is that of the stage; any other follows the budget.
        budget = "" if limit.kind == "epochs" else str(limit)
        check_code(ALL, task["code"])  # what was read when it was needed
        export(folder / "checkpoints" / "latest", params, packed, weights, budget)
        write_whole(folder / "training.json", json.dumps(facts))
        shutil.rmtree(folder / "checkpoints")
    say({"share": 1.0, "scoring": True})
    torch.set_num_threads(params.train.threads)
    predictor = Predictor.load(weights, choose_device(params.train.device))
    with MaskFile(folder, len(packed.classes)) as masks:
        scored = score(predictor, packed, params.evaluate, masks)
    table = [{"row": r, **t} for r, t in zip(scored.rows, scored.table, strict=True)]
    write_whole(Path(task["scores"]), json.dumps(table))


def train(
    params: Params, packed: PackedSet, limit: Limit, place: Path, say: Say, stop: Stop
) -> dict[str, Any]:
    """`fit` within the budget; what it took."""
    make_deterministic(params.train.seed, params.train.threads)
    build_model(**model_arguments(params, packed))  # imports what it needs
    before, data = memory(), training_data(params, packed)
    with use_backend(params.train.scan_backend):
        cost = warm_up(params, packed)
    forget_peak(choose_device(params.train.device))
    make_deterministic(params.train.seed, params.train.threads)
    model = build_model(**model_arguments(params, packed))
    ledger = Ledger(place, limit, say)
    stop.ledger = ledger
    state = fit(model, data, params.train, ledger, ledger)
    stop.ledger = None
    return cost | usage(ledger.spent, state, before)


def warm_up(params: Params, packed: PackedSet) -> dict[str, Any]:
    """A step and a validation of nothing: no budget pays for compiling or imports.

    With the batches and the precision of the training and of its validation, for which
    kernels are tuned; of a network that torch compiles, the code lies in its cache
    then. Also counts parameters and operations.
    """
    train = params.train
    model = build_model(**model_arguments(params, packed))
    cost = {"parameters": parameter_count(model), "flops": flops(model, packed.size)}
    device = choose_device(train.device)
    batch = max(1, train.batch_size // train.accumulate)
    image = torch.zeros((batch, 3, packed.size, packed.size), device=device)
    model.to(device).train()
    precision = Precision(train.precision, device)
    with precision.autocast():
        outputs = (torch.compile(model) if train.compile else model)(image)
    _, loss = supervise(LOSSES[train.loss], outputs, image[:, :1])
    precision.backward(loss)
    precision.step(build_optimizer(model, train), model, train.clip)
    model.eval()
    validated = len(packed.indices("validation"))
    with torch.no_grad():
        for size in {min(batch, validated), validated % batch} - {0}:
            LOSSES[train.loss](model(image[:size]), image[:size, :1])
    return cost


def usage(spent: Spent, state: TrainingState, before: int) -> dict[str, Any]:
    """Times in seconds, memory in bytes: the peak less what was held `before`."""
    steps = max(1, spent.timed)
    cuda = torch.cuda.is_available() and torch.cuda.max_memory_allocated()
    return {
        "steps": state.step,
        "epochs": state.epoch,
        "wall": spent.wall,
        "cpu": spent.cpu,
        "step_wall": spent.timed_wall / steps if spent.timed else None,
        "step_cpu": spent.timed_cpu / steps if spent.timed else None,
        "memory": max(0, spent.memory - before),
        "process_memory": spent.memory,
        "device_memory": cuda or None,
        "best": {"epoch": state.best_epoch, "iou": state.best_iou},
        "history": asdict(spent)["epochs"],
    }


if __name__ == "__main__":
    sys.exit(main())
