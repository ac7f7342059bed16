"""Which test images a version may be judged on: those that it never learnt from."""

from kmunet.data.store import PackedSet
from pipelines.tracking import ModelVersion, Registry


def content(packed: PackedSet, row: int) -> str:
    """Tells images apart by their pixels, whatever they are called."""
    return str(packed.records[row].image_sha256[:16])


def learnt_from(packed: PackedSet) -> str:
    """A line for each image that was trained or selected on."""
    rows = {n for split in ("train", "validation") for n in packed.indices(split)}
    return "".join(f"{line}\n" for line in sorted(content(packed, n) for n in rows))


def fair_rows(
    registry: Registry, version: ModelVersion | None, packed: PackedSet
) -> list[int]:
    """Rows of the test images, less those that the version has learnt from."""
    learnt = registry.learnt_from(version) if version else frozenset()
    return untouched(packed, learnt)


def untouched(packed: PackedSet, learnt: frozenset[str]) -> list[int]:
    """Rows of the test images that whoever learnt from these (`content`) never met.

    The rest of a patient, sequence or view of which it learnt a part goes with that.
    """
    known = [content(packed, row) in learnt for row in range(len(packed.records))]
    groups = packed.clusters
    met = set(groups[known].tolist()) - {-1}
    test = packed.indices("test").tolist()
    return [row for row in test if not known[row] and int(groups[row]) not in met]
