"""FPN on maps that are read by rows."""

from torch import nn

from xcit_dense.engine.weights import NotAsBuilt, expect
from xcit_dense.large.maps import Convolved, FeatureMap, Summed, resized


def through_fpn(neck: nn.Module, levels: list[FeatureMap]) -> list[FeatureMap]:
    """The outputs of the FPN of mmseg or mmdet, without further levels.

    Raises:
        NotAsBuilt: it is not what it was built as, or has further levels.
    """
    expect(neck, type(neck))
    if neck.num_outs != len(neck.lateral_convs) or "scale_factor" in neck.upsample_cfg:
        raise NotAsBuilt("FPN with levels of its own, or with a fixed scale between levels")
    mode, align_corners = neck.upsample_cfg["mode"], neck.upsample_cfg.get("align_corners")
    laterals = [
        Convolved(convolution, level)
        for convolution, level in zip(neck.lateral_convs, levels[neck.start_level :], strict=False)
    ]
    for index in range(len(laterals) - 1, 0, -1):
        upper = resized(laterals[index], laterals[index - 1].size, align_corners, mode)
        laterals[index - 1] = Summed(laterals[index - 1], upper)
    return [Convolved(*pair) for pair in zip(neck.fpn_convs, laterals, strict=True)]
