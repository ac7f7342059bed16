"""`python -m kmunet.ops.cpu.build`: build the kernel ahead of its first use."""

import sys

from kmunet.ops.cpu.compiler import BuildError, build, variants


def main() -> int:
    """Build for this CPU; 0 even without a compiler, since torch alone works too."""
    try:
        print(build(variants()[0]))
    except BuildError as error:
        print(f"no CPU kernel, plain torch will do: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
