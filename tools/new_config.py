"""Write a config that trains on your own data; --help lists the options."""

from xcit_dense.cli.main import run
from xcit_dense.cli.new_config import main

if __name__ == "__main__":
    run(main)
