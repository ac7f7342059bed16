"""Ray Train (V2) behind the library's Reporter: what training needs of ray."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow.fs import LocalFileSystem
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from kmunet.errors import (
    ConfigError,
    KMUNetError,
    SpaceError,
    TrainingError,
    TrainingStoppedError,
    UnavailableError,
)
from kmunet.training.reporter import Pictures, Progress, Reporter
from pipelines import profile
from pipelines.onlookers import Onlookers
from pipelines.ray_checkpoints import (
    check_storage,
    forget_list,
    keep,
    place,
    stored,
)
from pipelines.ray_cluster import connect, this_node
from pipelines.ray_code import check_versions, versions
from pipelines.signals import asking_to_stop
from pipelines.storage import Storage

logger = logging.getLogger("kmunet.training")

NOBODY = Onlookers()
LOOK = "KMUNET_ELASTIC_SECONDS"  # between two looks whether more workers have room
GONE = (  # what Ray's own death looks like to a driver
    ray.exceptions.RayActorError,
    ray.exceptions.RaySystemError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.RpcError,
)
WAITS = 180  # of START_TIMEOUT each: half an hour, then it is an error
WorkerLoop = Callable[[dict[str, Any], Reporter], None]


@dataclass(frozen=True)
class Cluster:
    """What one training run asks of Ray, and where it keeps its checkpoints."""

    workers: int | tuple[int, int]  # at least and at most: elastic
    threads: int
    gpu: bool
    max_failures: int
    storage: Path | Storage
    name: str  # the same storage and name resume

    @property
    def fewest(self) -> int:
        """Workers without which it waits."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]


class RayReporter:
    """`kmunet.training.Reporter` inside a Ray Train worker."""

    def __init__(self, board: Any, pictures_every: int = 0) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world_size: int = context.get_world_size()
        self._board, self._every = board, pictures_every
        self._told = threading.Event()
        threading.Thread(target=self._listen, name="listen", daemon=True).start()

    def report(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        if self.rank == 0:
            self._board.tell.remote("report", metrics)
        saved = checkpoint and ray.train.Checkpoint.from_directory(str(checkpoint))
        ray.train.report(metrics, checkpoint=saved, checkpoint_upload_fn=keep)

    def checkpoints(self) -> Iterator[AbstractContextManager[Path]]:
        system, home = place()
        # All ranks go by what the first one sees.
        found = stored(system, home) if self.rank == 0 else []
        for path in broadcast_from_rank_zero(found):
            yield _opened(system, path)

    def progress(self, progress: Progress) -> None:
        self._board.post.remote(asdict(progress))

    def wants_pictures(self, epoch: int) -> bool:
        return self._every > 0 and (epoch == 1 or epoch % self._every == 0)

    def pictures(self, pictures: Pictures) -> None:
        self._board.tell.remote("pictures", pictures)

    def should_stop(self) -> bool:
        return self._told.is_set()

    def _listen(self) -> None:
        while not self._told.wait(1.0):
            try:
                if ray.get(self._board.is_stopping.remote()):
                    self._told.set()
            except ray.exceptions.RayError:
                return


def run_on_ray(
    loop: WorkerLoop,
    config: dict[str, Any],
    cluster: Cluster,
    on_progress: Callable[[Progress], None],
    onlookers: Onlookers = NOBODY,
) -> AbstractContextManager[Path]:
    """Run `loop(config, reporter)` on every worker; return the last checkpoint, opened.

    `loop` must be importable on the workers. Raises TrainingError with the worker's
    own message where a run ends without a checkpoint, TrainingStoppedError after
    SIGTERM or Ctrl-C, once the workers have saved (a second one ends at once), and
    UnavailableError where Ray itself dies: its head, or the driver's own node.
    """
    if not ray.is_initialized():
        connect(cluster.fewest * cluster.threads)
    _check_resources(cluster)
    board = _Board.options(**this_node()).remote()  # type: ignore[attr-defined]
    where = _storage(cluster).for_ray()
    system, home = where[1] or LocalFileSystem(), f"{where[0]}/{cluster.name}"
    forget_list(system, home)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "loop": loop,
            "config": config,
            "board": board,
            "pictures_every": onlookers.pictures_every,
            "versions": versions(),
        },
        scaling_config=_scaling(cluster),
        run_config=_run_config(cluster, *where),
    )
    trainer._register_sigint_handler = lambda _: None  # Ray's saves nothing
    with _told_if_gone():
        with (
            asking_to_stop(signal.SIGTERM, signal.SIGINT) as asked,
            _watching(board, on_progress, onlookers, asked),
        ):
            try:
                trainer.fit()
            except TrainingFailedError as error:
                raise TrainingError(_cause(board, error)) from error
        _raise_verdict(board)
    found = stored(system, home)
    if not found:
        raise TrainingError(f"the run {cluster.name} ended without a checkpoint")
    return _opened(system, found[0])


@contextmanager
def _told_if_gone() -> Iterator[None]:
    try:
        yield
    except GONE as error:
        where = os.environ.get("RAY_ADDRESS") or "this machine"
        raise UnavailableError(
            f"Ray at {where} went away in mid-training: once it is back, the same "
            f"command goes on from the last checkpoint ({type(error).__name__})"
        ) from error


@contextmanager
def _opened(system: Any, path: str) -> Iterator[Path]:
    """A checkpoint's files: where they are, or fetched for as long."""
    with ray.train.Checkpoint(path, filesystem=system).as_directory() as folder:
        yield Path(folder)


def _worker(payload: dict[str, Any]) -> None:
    board = payload["board"]
    if ray.get(board.is_over.remote()):
        return  # started anew, though what ended it would again
    reporter = RayReporter(payload["board"], payload["pictures_every"])
    try:
        profile.apply()
        check_versions(payload["versions"])
        check_storage()
    except KMUNetError as error:
        # Of this node alone: the other ranks wait for this one.
        ray.get(board.fail.remote(str(error), "over"))
        raise
    try:
        payload["loop"](payload["config"], reporter)
    except SpaceError as error:
        ray.get(board.fail.remote(str(error), "over"))
        raise  # as above
    except (ConfigError, TrainingError) as error:
        # Raised on all ranks alike, and would be again: no failure to Ray, which
        # would start the workers anew.
        stopped = isinstance(error, TrainingStoppedError)
        ray.get(board.fail.remote(str(error), "stopped" if stopped else "over"))
    except KMUNetError as error:
        ray.get(board.fail.remote(str(error), "failed"))
        raise


def _scaling(cluster: Cluster) -> ray.train.ScalingConfig:
    return ray.train.ScalingConfig(
        num_workers=cluster.workers,
        elastic_resize_monitor_interval_s=float(os.environ.get(LOOK, "60")),
        use_gpu=cluster.gpu,
        resources_per_worker={
            "CPU": cluster.threads,
            **({"GPU": 1} if cluster.gpu else {}),
        },
    )


def _storage(cluster: Cluster) -> Storage:
    kept = cluster.storage
    storage = Storage(str(kept)) if isinstance(kept, Path) else kept
    if not storage.is_remote:
        Path(storage.place).mkdir(parents=True, exist_ok=True)
    return storage


def _run_config(cluster: Cluster, path: str, system: Any) -> ray.train.RunConfig:
    return ray.train.RunConfig(
        name=cluster.name,
        storage_path=path,
        storage_filesystem=system,
        failure_config=ray.train.FailureConfig(
            max_failures=cluster.max_failures,
            # Each of these is a wait for workers to start: for a node to come back.
            controller_failure_limit=cluster.max_failures and WAITS,
        ),
    )


def _check_resources(cluster: Cluster) -> None:
    """A group that can never start would wait for ever: say so instead."""
    have = ray.cluster_resources()
    need = {"CPU": cluster.fewest * cluster.threads}
    if cluster.gpu:
        need["GPU"] = cluster.fewest
    for kind, count in need.items():
        if have.get(kind, 0) < count:
            raise ConfigError(
                f"train.workers x train.threads needs {count} {kind}s and the Ray "
                f"cluster has {have.get(kind, 0):g}: lower them or add nodes"
            )
    if have.get("GPU") and not cluster.gpu and os.environ.get("RAY_ADDRESS"):
        print(
            f"note: training on CPUs, though the Ray cluster has {have['GPU']:g} GPUs: "
            "train.device is cpu, or it is auto and this machine has none"
        )


@ray.remote(num_cpus=0)
class _Board:
    """Where rank 0 posts its progress, a worker its error and the driver its wish."""

    def __init__(self) -> None:
        self.latest: dict[str, Any] | None = None
        self.error: tuple[str, str] | None = None  # and its kind
        self.stopping = False
        self.news: list[tuple[str, Any]] = []

    def stop(self) -> None:
        self.stopping = True

    def is_stopping(self) -> bool:
        return self.stopping

    def post(self, progress: dict[str, Any]) -> None:
        self.latest = progress

    def fail(self, message: str, kind: str) -> None:
        """`stopped` and `over`: not to be tried again; `failed`: Ray may."""
        self.error = message, kind

    def is_over(self) -> bool:
        return self.error is not None and self.error[1] != "failed"

    def tell(self, kind: str, what: Any) -> None:
        self.news.append((kind, what))

    def take(self) -> list[tuple[str, Any]]:
        """What is new since the last time."""
        news, self.news = self.news, []
        return news

    def read(self) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
        return self.latest, self.error


@contextmanager
def _watching(
    board: Any,
    on_progress: Callable[[Progress], None],
    onlookers: Onlookers,
    asked: threading.Event,
) -> Iterator[None]:
    done = threading.Event()

    def poll() -> None:
        told = last = False
        while not last:
            last = done.wait(0.5)
            try:
                if asked.is_set() and not told:
                    told = True
                    ray.get(board.stop.remote())
                latest, _ = ray.get(board.read.remote())
                news = ray.get(board.take.remote())
            except ray.exceptions.RayError:
                return
            if latest is not None:
                on_progress(Progress(**latest))
                news = [("progress", Progress(**latest)), *news]
            for kind, what in news:
                _tell(getattr(onlookers, kind), what)

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _tell(onlooker: Callable[[Any], None], what: Any) -> None:
    try:
        onlooker(what)
    except Exception:  # no reason to leave the workers alone
        logger.warning("whoever looks on failed", exc_info=True)


def _raise_verdict(board: Any) -> None:
    """Raise what the workers ended with of their own accord, if they did."""
    _, verdict = ray.get(board.read.remote())
    if verdict is not None and verdict[1] != "failed":
        message, kind = verdict
        raise (TrainingStoppedError if kind == "stopped" else TrainingError)(message)


def _cause(board: Any, error: TrainingFailedError) -> str:
    _, verdict = ray.get(board.read.remote())
    if verdict is not None:
        return str(verdict[0])
    print(error, file=sys.stderr)
    return f"a training worker failed: {str(error).strip().splitlines()[-1]}"
