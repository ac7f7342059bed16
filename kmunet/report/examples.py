"""Which test images a report shows: failures first, then the worst, median and best."""

import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Row = Mapping[str, Any]

SECTIONS = {
    "misses": "Misses: a lesion, and nothing predicted",
    "false_alarms": "False alarms: a prediction where there is no lesion",
    "worst": "Worst overlaps",
    "median": "Around the median",
    "best": "Best overlaps",
}


def choose_examples(table: Sequence[Row], budget: int) -> dict[str, list[int]]:
    """Positions in `table` by section, at most `budget` in all, none of them twice.

    Sections take turns, so a few examples already show each kind. Misses come by the
    size of the lesion, false alarms by the size of the prediction.
    """
    waiting = _candidates(table)
    chosen: dict[str, list[int]] = {name: [] for name in SECTIONS}
    taken: set[int] = set()
    while len(taken) < budget and any(waiting.values()):
        for name, queue in waiting.items():
            queue[:] = [position for position in queue if position not in taken]
            if queue and len(taken) < budget:
                chosen[name].append(queue.pop(0))
                taken.add(chosen[name][-1])
    return {name: chosen[name] for name in SECTIONS if chosen[name]}


def file_name(section: str, rank: int, identifier: str) -> str:
    """A PNG name that any file system and URL takes, unique by section and rank."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", identifier).strip("._")[-60:]
    return f"{section}-{rank:02d}-{safe or 'image'}.png"


def _candidates(table: Sequence[Row]) -> dict[str, list[int]]:
    def having(outcome: str) -> list[int]:
        return [n for n, row in enumerate(table) if row["outcome"] == outcome]

    segmented = sorted(having("segmented"), key=lambda n: (table[n]["iou"], n))
    middle = median([table[n]["iou"] for n in segmented]) if segmented else 0.0
    return {
        "worst": segmented,
        "misses": sorted(having("miss"), key=lambda n: (-table[n]["truth_pixels"], n)),
        "false_alarms": sorted(
            having("false_alarm"), key=lambda n: (-table[n]["predicted_pixels"], n)
        ),
        "best": segmented[::-1],
        "median": sorted(segmented, key=lambda n: (abs(table[n]["iou"] - middle), n)),
    }
