"""`write_packed`: from a source to a prepared data set, whole or not at all.

Nothing is visible before all of it is right; the same source gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from kmunet.data.alike import SCRATCH_BYTES, SIDE
from kmunet.data.atomic import new_folder, require_space
from kmunet.data.groups import find_links
from kmunet.data.header import write_header
from kmunet.data.index import links_table
from kmunet.data.integrity import alike, of_classes, warnings
from kmunet.data.packer import Packer
from kmunet.data.pairs import Source
from kmunet.data.prepared import Prepared, open_prepared

SHARD_BYTES = 2**28  # of images in one file


def write_packed(
    folder: Path,
    source: Source,
    sizes: Sequence[int],
    *,
    native: bool = False,
    native_bytes: int = 0,
    shard_bytes: int = SHARD_BYTES,
    extra: Mapping[str, bytes] | None = None,
) -> Prepared:
    """Pack all pairs of `source` at `sizes` (sides in pixels), in its order.

    `native`: keep them at their own size too, in about `native_bytes`, which only the
    check of free space needs. `extra` are files to lie beside. Raises DataError where
    the disk is too full, and with the first ten problems where pairs cannot be used.
    """
    _require_space(folder, len(source.matched), sizes, native_bytes)
    with new_folder(folder) as partial, ExitStack() as stack:
        packer = Packer(partial, source, sizes, native, shard_bytes, stack)
        packer.write_all()
        links = find_links(packer.records, packer.thumbnails, partial)
        np.save(partial / "links.npy", links_table(links))
        np.save(partial / "index.npy", packer.index)
        for name, data in (extra or {}).items():
            (partial / name).write_bytes(data)
        notes = [*warnings(packer.records), *alike(packer.records, links)]
        about = {
            **packer.layout(),
            "source": source.kind,
            "classes": list(source.classes),
            "splits": source.splits,
            "warnings": [
                *source.notes,
                *notes,
                *of_classes(packer.layers),
                *packer.vanished(),
            ],
        }
        stack.close()  # every file is whole before its checksum is taken
        files = (path for path in partial.rglob("*") if path.is_file())
        write_header(partial, about, [f.relative_to(partial).as_posix() for f in files])
    return open_prepared(folder)


def _require_space(folder: Path, count: int, sizes: Sequence[int], more: int) -> None:
    pixels = sum(4 * size**2 for size in sizes)
    scratch = SIDE**2 + SCRATCH_BYTES
    needed = count * (pixels + scratch + 1000) + more + 2**20
    require_space(folder, needed, "free some, or lower 'sizes' under 'sources'")
