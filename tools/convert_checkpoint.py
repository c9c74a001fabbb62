"""Give a checkpoint the key names of xcit_dense, of timm or of the paper's release."""

from xcit_dense.cli.convert import main
from xcit_dense.cli.main import run

if __name__ == "__main__":
    run(main)
