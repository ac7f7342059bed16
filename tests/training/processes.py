"""Several gloo processes on this machine, for what only shows between ranks."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(count: int, call: Callable[..., Any], *arguments: Any) -> None:
    """Call `call(rank, count, *arguments)` in `count` processes joined by gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_enter, (count, port, call, arguments), nprocs=count, join=True)


def _enter(rank, count, port, call, arguments):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", rank=rank, world_size=count, timeout=limit)
    try:
        call(rank, count, *arguments)
    finally:
        dist.destroy_process_group()
