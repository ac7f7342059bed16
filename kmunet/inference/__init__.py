"""A trained model applied to images."""

from kmunet.inference.folder import read_history
from kmunet.inference.predictor import Predictor, labels

__all__ = ["Predictor", "labels", "read_history"]
