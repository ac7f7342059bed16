"""A signal as a wish: what runs is saved first, and a second signal ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asking_to_stop(*signals: signal.Signals) -> Iterator[threading.Event]:
    """An event that the first of `signals` sets; the next does what it did before."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals are the main thread's
        return
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: object) -> None:
        asked.set()
        restore()

    for number in signals:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        restore()
