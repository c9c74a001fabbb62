"""Put XCiT in the place of the backbone of an mmdet or mmseg config; --help lists the options."""

from xcit_dense.openmmlab.commands.options import run
from xcit_dense.openmmlab.commands.swap_backbone import main

if __name__ == "__main__":
    run(main)
