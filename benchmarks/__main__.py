"""`python -m benchmarks`: as `kmunet bench`, where only torch and numpy are."""

import argparse
import sys

from benchmarks import command
from kmunet.errors import KMUNetError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks", description=command.__doc__)
    command.add_arguments(parser)
    try:
        sys.exit(command.run(parser.parse_args()))
    except KMUNetError as error:
        sys.exit(f"error: {error}")
