"""`python -m infra.doctor`: the same as `kmunet doctor`."""

import argparse

from infra.doctor.command import __doc__ as about
from infra.doctor.command import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="kmunet doctor", description=about)
    add_arguments(parser)
    raise SystemExit(run(parser.parse_args()))
