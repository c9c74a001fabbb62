"""Evaluate a checkpoint of a detector or a segmentor; --help lists the options."""

from xcit_dense.openmmlab.commands.options import run
from xcit_dense.openmmlab.commands.test import main

if __name__ == "__main__":
    run(main)
