"""Write the README's table of variants from the model index; --help lists the options."""

from xcit_dense.openmmlab.commands.model_zoo import main
from xcit_dense.openmmlab.commands.options import run

if __name__ == "__main__":
    run(main)
