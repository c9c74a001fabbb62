"""What runs in the processes of the tests: no torch, no mm, so that they start at once."""

import os
import signal


class FakeRunner:
    """Behaves, fails or dies as the name says, from 64 pixels on."""

    def __init__(self, contender, **settings):
        if contender.name == "unbuildable":
            raise ImportError("its library is missing")
        self.name = contender.name

    def prepare(self, mode, height, width, images):
        if height >= 64 and self.name == "failing":
            raise RuntimeError("out of memory\nand more lines")
        if height >= 64 and self.name == "mortal":
            os.kill(os.getpid(), signal.SIGKILL)
        return 10**6

    def time_run(self):
        return 0.5

    def rest(self):
        pass

    def imported(self):
        import xcit_dense

        return xcit_dense.__file__
