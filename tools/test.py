"""Evaluate a checkpoint of a detector or a segmentor; --help lists the options."""

from xcit_dense.cli.main import run
from xcit_dense.cli.test import main

if __name__ == "__main__":
    run(main)
