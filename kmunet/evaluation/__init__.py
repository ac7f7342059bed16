"""Metrics: arrays in, numbers out. docs/metrics.md defines each."""

from kmunet.evaluation.bootstrap import bootstrap_interval
from kmunet.evaluation.pooled import pooled_iou
from kmunet.evaluation.summary import breakdown, score_image, summarize
from kmunet.evaluation.surface import hd95

__all__ = [
    "bootstrap_interval",
    "breakdown",
    "hd95",
    "pooled_iou",
    "score_image",
    "summarize",
]
