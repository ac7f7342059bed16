"""Models by name, their parameter groups, and published weights."""

from kmunet.models.parameter_groups import parameter_groups
from kmunet.models.published import load_published
from kmunet.models.registry import MODELS, build_model

__all__ = ["MODELS", "build_model", "load_published", "parameter_groups"]
