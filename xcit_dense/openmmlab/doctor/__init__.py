"""Whether a config makes a model that trains: found by building it and taking a step."""

from xcit_dense.openmmlab.doctor.diagnosis import Diagnosis, diagnose
from xcit_dense.openmmlab.doctor.finding import Finding
from xcit_dense.openmmlab.doctor.report import report
from xcit_dense.openmmlab.doctor.trial_model import DEFAULT_IMAGE_SIZE

__all__ = ["DEFAULT_IMAGE_SIZE", "Diagnosis", "Finding", "diagnose", "report"]
