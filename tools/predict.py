"""Predict on images with a trained model; --help lists the options."""

from xcit_dense.cli.main import run
from xcit_dense.cli.predict import main

if __name__ == "__main__":
    run(main)
