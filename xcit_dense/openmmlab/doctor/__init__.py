"""Whether a config makes a model that trains: found by building it and taking a step."""

from xcit_dense.openmmlab.doctor.diagnosis import Diagnosis, diagnose
from xcit_dense.openmmlab.doctor.finding import Finding
from xcit_dense.openmmlab.doctor.image_size import DEFAULT_IMAGE_SIZE, LARGEST_STRIDE
from xcit_dense.openmmlab.doctor.report import report

__all__ = [
    "DEFAULT_IMAGE_SIZE",
    "LARGEST_STRIDE",
    "Diagnosis",
    "Finding",
    "diagnose",
    "report",
]
