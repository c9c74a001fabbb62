"""Maps that are read by rows have the rows that torch's functions give for whole maps."""

import pytest
import torch
import torch.nn.functional as F

from xcit_dense.large.maps import OfTensor, Reader, resized

# no ratio of the last ones is a number of float32: torch's rounding shows in rows far below
SIZES = [(1, 9), (9, 1), (5, 5), (40, 160), (2000, 1333), (4097, 16383)]


@pytest.mark.parametrize(("height", "new_height"), SIZES)
@pytest.mark.parametrize("align_corners", [False, True, None])
@pytest.mark.parametrize("rows", [1, 50])
def test_resized_equals_interpolate(height, new_height, align_corners, rows):
    feature_map = torch.randn(1, 3, height, 4)
    how = dict(mode="nearest" if align_corners is None else "bilinear", align_corners=align_corners)
    expected = F.interpolate(feature_map, (new_height, 11), **how)
    reader = Reader(resized(OfTensor(feature_map), (new_height, 11), **how))
    found = [reader.read(at, min(at + rows, new_height)) for at in range(0, new_height, rows)]
    torch.testing.assert_close(torch.cat(found, dim=2), expected, rtol=1e-5, atol=2e-6)
