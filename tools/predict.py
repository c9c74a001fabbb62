"""Predict on images with a trained model; --help lists the options."""

from xcit_dense.openmmlab.commands.options import run
from xcit_dense.openmmlab.commands.predict import main

if __name__ == "__main__":
    run(main)
