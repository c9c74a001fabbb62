"""Time and memory of XCiT against the published arithmetic and other backbones.

Every contender lives in a process of its own, and the processes are asked in turn, so that all of
them see the same machine and one that runs out of memory does not end the run.

>>> from dev.benchmark import parse_contenders
>>> [contender.label for contender in parse_contenders(["xcit_auto:bf16", "timm_xcit"])]
['xcit_auto:bf16', 'timm_xcit']
"""

from dev.benchmark.alternate import run_benchmark
from dev.benchmark.contenders import CONTENDERS, Contender, parse_contenders
from dev.benchmark.names import DTYPES, INFERENCE, MODES, TRAINING
from dev.benchmark.plan import Plan, Size, parse_sizes
from dev.benchmark.plot import draw
from dev.benchmark.report import report
from dev.benchmark.results import Measurement, Results
from dev.benchmark.worker import WorkerError

__all__ = [
    "CONTENDERS",
    "DTYPES",
    "INFERENCE",
    "MODES",
    "TRAINING",
    "Contender",
    "Measurement",
    "Plan",
    "Results",
    "Size",
    "WorkerError",
    "draw",
    "parse_contenders",
    "parse_sizes",
    "report",
    "run_benchmark",
]
