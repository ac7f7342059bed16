"""`python -m benchmarks.orchestration_train WORKERS THREADS`: a training, watched.

As stage train in the current folder, but for its record; prints when the first step
was done and how fast those were after the first few.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil

BEGUN = psutil.Process().create_time()
SKIPPED = 4  # steps before the speed counts


def main() -> int:
    """Train, and print JSON."""
    from kmunet.data.store import open_packed
    from pipelines.overrides import overridden
    from pipelines.paths import Paths
    from pipelines.ray_backend import run_on_ray
    from pipelines.ray_cluster import shutdown
    from pipelines.train import cluster_for, train_worker, worker_config

    imported = time.time() - BEGUN
    count, threads = map(int, sys.argv[1:])
    paths = Paths(Path.cwd(), "synthetic")
    team = {"train.workers": count, "train.threads": threads}
    params = overridden(paths.params, team)
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    cluster = cluster_for(params, paths, packed)
    seen: list[tuple[float, int, float]] = []

    def look(progress: Any) -> None:
        if not seen or progress.step > seen[-1][1]:
            seen.append((time.time(), progress.step, _spent()))

    try:
        config = worker_config(params, paths, packed)
        with run_on_ray(train_worker, config, cluster, look):
            pass
    finally:
        shutdown()
        chosen = cluster.storage
        chosen.remove(cluster.name) if not isinstance(chosen, Path) else None
    (first, _, spent), (last, steps, _) = seen[0], seen[-1]
    warm = next((item for item in seen if item[1] >= SKIPPED), seen[0])
    speed = (steps - warm[1]) * params.train.batch_size / max(last - warm[0], 1e-9)
    start = {"imports": imported, "first_step": first - BEGUN, "cpu seconds": spent}
    print(json.dumps({"start": start, "images_per_second": speed}))
    return 0


def _spent() -> float:
    """CPU seconds of this process and of all that it started."""
    found = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            found += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return found


if __name__ == "__main__":
    raise SystemExit(main())
