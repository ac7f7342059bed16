"""What every worker needs: imported once, in the process that they are forked from."""

import torch.utils.flop_counter  # noqa: F401

import benchmarks.modules
import benchmarks.networks
import benchmarks.scan
import benchmarks.worker  # noqa: F401
