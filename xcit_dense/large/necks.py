"""FPN on maps that are read by rows."""

from torch import nn

from xcit_dense.engine.weights import NotAsBuilt, expect
from xcit_dense.large.maps import Convolved, FeatureMap, Halved, Rectified, Summed, resized


def through_fpn(neck: nn.Module, levels: list[FeatureMap]) -> list[FeatureMap]:
    """The outputs of the FPN of mmseg or mmdet.

    Raises:
        NotAsBuilt: it is not what it was built as, or has a fixed scale between levels.
    """
    expect(neck, type(neck))
    if "scale_factor" in neck.upsample_cfg:
        raise NotAsBuilt("FPN with a fixed scale between levels")
    mode, align_corners = neck.upsample_cfg["mode"], neck.upsample_cfg.get("align_corners")
    laterals = [
        Convolved(convolution, level)
        for convolution, level in zip(neck.lateral_convs, levels[neck.start_level :], strict=False)
    ]
    for index in range(len(laterals) - 1, 0, -1):
        upper = resized(laterals[index], laterals[index - 1].size, align_corners, mode)
        laterals[index - 1] = Summed(laterals[index - 1], upper)
    outs = [Convolved(*pair) for pair in zip(neck.fpn_convs, laterals, strict=False)]
    if not neck.add_extra_convs:
        while len(outs) < neck.num_outs:
            outs.append(Halved(outs[-1]))
        return outs
    last_input = levels[neck.backbone_end_level - 1]
    sources = dict(on_input=last_input, on_lateral=laterals[-1], on_output=outs[-1])
    source = sources[neck.add_extra_convs]
    for convolution in neck.fpn_convs[len(outs) :]:
        outs.append(Convolved(convolution, source, stride=2))
        source = Rectified(outs[-1]) if neck.relu_before_extra_convs else outs[-1]
    return outs
