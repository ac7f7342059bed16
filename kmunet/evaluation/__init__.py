"""Metrics: arrays in, numbers out. docs/metrics.md defines each."""

from kmunet.evaluation.bootstrap import bootstrap_interval, too_few
from kmunet.evaluation.classes import score_labels, summarize_classes
from kmunet.evaluation.pooled import pool, pooled_iou, shared_pixels
from kmunet.evaluation.repeated import Repeat, summarize_repeats
from kmunet.evaluation.summary import breakdown, score_image, summarize
from kmunet.evaluation.surface import hd95

__all__ = [
    "Repeat",
    "bootstrap_interval",
    "breakdown",
    "hd95",
    "pool",
    "pooled_iou",
    "score_image",
    "score_labels",
    "shared_pixels",
    "summarize",
    "summarize_classes",
    "summarize_repeats",
    "too_few",
]
