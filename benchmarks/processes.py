"""Start a function in a fresh process, forked from a server that imported its needs."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")


def start(
    target: Callable[..., None], *arguments: Any, preload: Sequence[str]
) -> tuple[BaseProcess, Connection]:
    """Run target(connection, *arguments); the process, and the other end.

    `preload` counts at the first start of all: there is one server.
    """
    CONTEXT.set_forkserver_preload(list(preload))
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=target, args=(theirs, *arguments), daemon=True)
    with _no_main_module():
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Else the child runs the program's main module again, with all its imports."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
