"""Lets the tests of this folder import mm's libraries, with mmcv's ops where none are compiled."""

import xcit_dense  # noqa: F401
