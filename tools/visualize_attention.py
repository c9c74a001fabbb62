"""Draw what the attention of an XCiT attends to; --help lists the options."""

from xcit_dense.cli.attention import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
