"""Say what is wrong with the data of a config, and draw them; --help lists the options."""

from xcit_dense.cli.check_data import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
