"""`python -m kmunet.ops.cpu.build`: build the kernel ahead of its first use."""

import sys
from argparse import ArgumentParser

from kmunet.ops.cpu.compiler import VARIANTS, BuildError, build, variants


def main() -> int:
    """Build for this CPU; 0 even without a compiler, since torch alone works too."""
    parser = ArgumentParser(prog="python -m kmunet.ops.cpu.build", description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="for other CPUs too, as an image needs it"
    )
    chosen = VARIANTS if parser.parse_args().all else variants()[:1]
    for variant in chosen:
        try:
            print(build(variant))
        except BuildError as error:
            text = f"no CPU kernel ({variant.name}), plain torch will do: {error}"
            print(text, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
