"""`kmunet bench`: what the model costs on this machine, beside its peers.

Scan, KAN, SS2D, training step and inference are timed in turns with others' code; every
figure is given as a multiple of ours and as a share of what the machine can do.
"""

import argparse
from pathlib import Path

PARTS = ("scan", "kan", "ss2d", "step", "inference")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute instead of a quarter of an hour")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=int, metavar="N", help="default: all cores given to this")
    add("--parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    sides = "side of the image in pixels, multiples of 32"
    add("--sizes", nargs="+", type=int, metavar="SIZE", help=sides)
    add("--repeats", type=int, metavar="N", help="calls of each case after the first")
    folder = "a checkout of the published KM-UNet or U-KAN, to be measured too"
    add("--published", nargs="+", default=[], metavar="PATH", help=folder)
    out = "figures; the plot goes beside it; a run that was stopped goes on from there"
    default = Path("benchmarks/results/bench.json")
    add("--out", type=Path, default=default, metavar="FILE", help=out)


def run(arguments: argparse.Namespace) -> int:
    """Measure, write the figures and the plot, print the tables. 0 when done."""
    from benchmarks.bench import bench, settings_of

    bench(settings_of(arguments), arguments.out)
    return 0
