"""Put XCiT in the place of the backbone of an mmdet or mmseg config; --help lists the options."""

from xcit_dense.cli.main import run
from xcit_dense.cli.swap import main

if __name__ == "__main__":
    run(main)
