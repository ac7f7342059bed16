"""What is known of a public data set: counts, licence, citation, where to get it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """One public data set. `expected`: images by part (a split or a class)."""

    title: str
    expected: Mapping[str, int]
    licence: str
    citation: str
    origin: str  # who gives it out


def missing_images(about: About, found: Mapping[str, int]) -> list[str]:
    """A line for each part with another number of images than was published."""
    notes = []
    for part, count in about.expected.items():
        here = found.get(part, 0)
        if here != count:
            notes.append(f"{about.title}: {part}: {here} of {count} images are here")
    return notes


def missing_numbers(part: str, numbers: Iterable[int], last: int) -> str:
    """ "part: missing 3 to 7, 9", or "" where 1..last are all there."""
    here = set(numbers)
    runs: list[list[int]] = []
    for number in range(1, last + 1):
        if number in here:
            continue
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if not runs:
        return ""
    shown = [f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:8]]
    more = ", ..." if len(runs) > 8 else ""
    return f"{part}: missing {', '.join(shown)}{more}"
