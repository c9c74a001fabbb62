"""Draw what the attention of an XCiT attends to; --help lists the options."""

from xcit_dense.openmmlab.commands.options import run
from xcit_dense.openmmlab.commands.visualize_attention import main

if __name__ == "__main__":
    run(main)
