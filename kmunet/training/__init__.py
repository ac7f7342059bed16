"""Training: `fit`, and the parts that it is made of."""

from kmunet.training.batches import TrainingData
from kmunet.training.fit import fit
from kmunet.training.reporter import LocalReporter, Pictures, Progress, Reporter
from kmunet.training.stopping import Budget

__all__ = [
    "Budget",
    "LocalReporter",
    "Pictures",
    "Progress",
    "Reporter",
    "TrainingData",
    "fit",
]
