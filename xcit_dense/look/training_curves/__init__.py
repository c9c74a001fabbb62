"""Training curves from the scalar logs that mmengine leaves in work folders."""

from xcit_dense.look.training_curves.drawing import draw_curves, smoothed
from xcit_dense.look.training_curves.reading import (
    Record,
    TrainingLog,
    read_training_log,
)
from xcit_dense.look.training_curves.runs import find_scalar_logs, joined, read_run
from xcit_dense.look.training_curves.tables import last_evaluation, metrics_table

__all__ = [
    "Record",
    "TrainingLog",
    "draw_curves",
    "find_scalar_logs",
    "joined",
    "last_evaluation",
    "metrics_table",
    "read_run",
    "read_training_log",
    "smoothed",
]
