"""Training: `fit`, and the parts that it is made of."""

from kmunet.training.batches import TrainingData
from kmunet.training.fit import fit
from kmunet.training.reporter import LocalReporter, Progress, Reporter

__all__ = ["LocalReporter", "Progress", "Reporter", "TrainingData", "fit"]
