"""Draw what the training pipeline feeds a model; --help lists the options."""

from xcit_dense.openmmlab.commands.browse_dataset import main
from xcit_dense.openmmlab.commands.options import run

if __name__ == "__main__":
    run(main)
