"""Draw losses and metrics of one or several runs; --help lists the options."""

from xcit_dense.openmmlab.commands.analyze_logs import main
from xcit_dense.openmmlab.commands.options import run

if __name__ == "__main__":
    run(main)
