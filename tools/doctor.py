"""Build and try the model of a config, and say what is wrong with it; --help lists the options."""

from xcit_dense.cli.doctor import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
