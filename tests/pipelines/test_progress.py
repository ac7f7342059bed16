"""What a log and a terminal show of a training."""

import io

import pytest
from rich.console import Console

from kmunet.training import Progress
from pipelines.progress import TrainingProgress

WHOLE = Progress(2, 9, 15, 90, 0.51234, 0.75, 58.06, 3723.4, 1_500_000_000, 0.614)


@pytest.mark.parametrize("terminal", [False, True])
def test_it_shows_speed_share_memory_and_time_left(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with TrainingProgress(console) as shown:
        shown.update(WHOLE)
    text = out.getvalue()
    assert "epoch 2/9" in text
    assert (
        "loss 0.5123 IoU 0.7500 58.1 images/s 61 % of the measured peak 1.50 GB "
        "left 1:02:03" in text
    )


def test_what_is_not_known_is_not_shown():
    out = io.StringIO()
    with TrainingProgress(Console(file=out, width=200)) as shown:
        shown.update(Progress(1, 3, 1, 9, 0.5, 0.5, 10.0))
    assert out.getvalue() == "epoch 1/3 step 1/9 loss 0.5000 IoU 0.5000 10.0 images/s\n"
