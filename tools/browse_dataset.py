"""Draw what the training pipeline feeds a model; --help lists the options."""

from xcit_dense.cli.browse import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
