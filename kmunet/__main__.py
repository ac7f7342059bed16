"""`python -m kmunet` is `kmunet`."""

import sys

from kmunet.cli import main

sys.exit(main())
