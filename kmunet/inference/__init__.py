"""A trained model applied to images."""

from kmunet.inference.folder import read_history
from kmunet.inference.predictor import Predictor

__all__ = ["Predictor", "read_history"]
