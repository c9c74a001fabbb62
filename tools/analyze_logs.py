"""Draw losses and metrics of one or several runs; --help lists the options."""

from xcit_dense.cli.curves import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
