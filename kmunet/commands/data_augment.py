"""`kmunet data augment SOURCE PATH... --preset NAME --out FILE.png`: look at samples.

A row an image: the original, then what training sees of it in epochs 1, 2, ..., the
mask outlined. The same seed, size and image give the same pixels as in training.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.config import Params, load_params
from kmunet.data.pairs import Pair, Source
from kmunet.data.remote import localize
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.sources import KINDS, open_source
from kmunet.data.transforms import Transform, build_transform
from kmunet.errors import ConfigError, DataError
from kmunet.report.sheets import Tile, write_sheet

Pixels = NDArray[np.uint8]
SIDE = 224  # pixels of a picture on the sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("source", choices=KINDS, metavar="SOURCE", help=", ".join(KINDS))
    add("path", nargs="+", metavar="PATH", help="archives or folders, or their URLs")
    kept = "where what URLs name is downloaded to, once; default: ~/.cache/kmunet"
    add("--cache", type=Path, metavar="DIR", help=kept)
    where = "the picture to write"
    add("--out", required=True, type=Path, metavar="FILE.png", help=where)
    add("--preset", metavar="NAME", help="of 'presets' (default: 'augment' names it)")
    params = "the file that declares presets (default: ./params.yaml)"
    add("--params", type=Path, default=Path("params.yaml"), help=params)
    add("--samples", type=_positive, default=6, metavar="N", help="images, evenly far")
    add("--epochs", type=_positive, default=6, metavar="M", help="versions of each")
    add("--size", type=_positive, default=256, metavar="S", help="side in training")
    seed = "of the stream (default: train.seed)"
    add("--seed", type=int, metavar="SEED", help=seed)
    classes = "busi: folders to read; folder, manifest: what mask values 1, 2, ... mean"
    add("--classes", nargs="+", metavar="NAME", help=classes)


def run(arguments: argparse.Namespace) -> int:
    """Write the sheet. Raises KMUNetError for an unknown preset or source."""
    out: Path = arguments.out
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: a PNG is written; name it {out.stem}.png")
    params = load_params(arguments.params)
    transform = _transform(params, arguments)
    paths = [localize(place, arguments.cache) for place in arguments.path]
    size = arguments.size
    with open_source(arguments.source, paths, arguments.classes) as source:
        pairs = _spread(_some(source), arguments.samples)
        tiles = [
            tile for p in pairs for tile in _row(p, transform, size, arguments.epochs)
        ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_sheet(out, tiles, side=SIDE, columns=arguments.epochs + 1)
    print(f"{len(pairs)} images, {arguments.epochs} epochs each: {out}")
    return 0


def _transform(params: Params, arguments: argparse.Namespace) -> Transform | None:
    name = arguments.preset or params.augment
    if name not in params.presets:
        raise ConfigError(
            f"--preset {name}: {arguments.params} declares "
            f"{', '.join(sorted(params.presets))} under 'presets'"
        )
    seed = params.train.seed if arguments.seed is None else arguments.seed
    transform = build_transform(params.presets[name], seed, f"presets.{name}")
    if transform is not None:
        transform.check(arguments.size)
    return transform


def _some(source: Source) -> Sequence[Pair]:
    """The pairs that there are. DataError says what is wrong where there are none."""
    if not source.matched and not source.pairs():  # which raises what was found
        raise DataError(f"{source.files.label}: no image with a mask; nothing to draw")
    return source.matched


def _spread(pairs: Any, count: int) -> list[Pair]:
    """`count` pairs at equal distances in the sorted list."""
    places = np.linspace(0, len(pairs) - 1, min(count, len(pairs)))
    return [pairs[place] for place in places.round().astype(int)]


def _row(
    pair: Pair, transform: Transform | None, size: int, epochs: int
) -> Iterator[Tile]:
    image, mask = pair.read()
    image, mask = resize_image(image, size, size), resize_mask(mask, size, size)
    yield Tile(pair.id, [image], [mask])
    for epoch in range(epochs):  # `fit` counts from 0 and reports from 1
        done = image, mask
        if transform is not None:
            done = transform(image, mask, epoch=epoch, image_id=pair.id)
        yield Tile(f"epoch {epoch + 1}", [done[0]], [done[1]])


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
