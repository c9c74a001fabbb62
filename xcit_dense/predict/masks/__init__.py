"""Instance masks as run lengths, so that no array of all of them is needed."""

from xcit_dense.predict.masks.heads import encode_masks

__all__ = ["encode_masks"]
