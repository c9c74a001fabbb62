"""Write the table of docs/variants.md from the model index; --help lists the options."""

from dev.model_zoo import main

from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
