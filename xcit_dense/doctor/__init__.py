"""Whether a config makes a model that trains: found by building it and taking a step."""

from xcit_dense.doctor.diagnosis import Diagnosis, diagnose
from xcit_dense.doctor.finding import Finding
from xcit_dense.doctor.image_size import DEFAULT_IMAGE_SIZE, LARGEST_STRIDE
from xcit_dense.doctor.report import report

__all__ = [
    "DEFAULT_IMAGE_SIZE",
    "LARGEST_STRIDE",
    "Diagnosis",
    "Finding",
    "diagnose",
    "report",
]
