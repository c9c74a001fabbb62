"""Train a detector or a segmentor from a config; --help lists the options."""

from xcit_dense.cli.main import run
from xcit_dense.cli.train import main

if __name__ == "__main__":
    run(main)
