"""What `benchmarks.scale` runs in processes of their own: one JSON line each."""

import json
import sys
import time
from pathlib import Path

TASKS = 5  # of a flow run
METRICS = 10  # of a request


def _prepare(home: Path, count: int) -> dict[str, float]:
    from kmunet.data.pack import write_packed
    from kmunet.data.sources import open_source
    from kmunet.data.synthetic import write_synthetic

    write_synthetic(home / "raw", images=count, size=256, seed=1)
    before = time.process_time()
    with open_source("folder", home / "raw") as source:
        write_packed(home / "set", source, [256])
    used = time.process_time() - before
    files = [file for file in (home / "set").rglob("*") if file.is_file()]
    return {"cpu": used, "bytes": float(sum(f.stat().st_size for f in files))}


def _flows(home: Path, count: int) -> dict[str, float]:
    from prefect import flow, task

    @task
    def nothing(number: int) -> int:
        return number

    @flow(log_prints=False)
    def scale() -> None:
        for number in range(TASKS):
            nothing(number)

    before = time.process_time()
    for _ in range(count):
        scale()
    return {"cpu": time.process_time() - before}


def _metrics(home: Path, count: int) -> dict[str, float]:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    run = client.create_run("0").info.run_id
    start = time.perf_counter()
    for step in range(count):
        values = [Metric(f"m{n}", step * 0.1, 0, step) for n in range(METRICS)]
        client.log_batch(run, metrics=values)
    return {"seconds": time.perf_counter() - start}


if __name__ == "__main__":
    part, folder, number = sys.argv[1:]
    print(json.dumps(globals()[part](Path(folder), int(number))))
