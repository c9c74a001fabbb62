"""Lets the tests of this folder import mmseg, with mmcv's ops where they are not compiled."""

import xcit_dense  # noqa: F401
