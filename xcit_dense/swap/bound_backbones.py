"""Backbones that are the model: what is built around them can not do without them."""

from xcit_dense.swap.swap_error import BoundBackboneError, SwapError

_REASONS = {
    "BiSeNetV1": "its spatial path and its attention refinement are what BiSeNet is",
    "BiSeNetV2": "its detail and semantic branches, each with losses of its own, are the model",
    "CGNet": "it is the whole segmentor; the head only classifies its pixels",
    "DDRNet": "its two branches of different resolution are the model, and the head needs both",
    "ERFNet": "it is an encoder and a decoder; the head only classifies its pixels",
    "FastSCNN": "its learning-to-downsample branch and its fusion are the model",
    "HourglassNet": "its stacked hourglasses, each supervised by heads of its own, are the model",
    "ICNet": "it runs at three image sizes, and its neck and heads join these",
    "PIDNet": "its three branches, each with losses of its own, are the model",
    "STDCContextPathNet": "its context path and detail guidance are the model",
    "TridentResNet": "its three branches of different dilation are the model",
    "UNet": "it is an encoder and a decoder; its last maps are already fine",
    "VPD": "it is a diffusion model with a text prompt",
}

_NECK_REASONS = {
    "RFP": "it feeds its maps back into a second DetectoRS backbone (rfp_backbone)",
    "NASFCOS_FPN": "it looks at four levels by number and learns from three, so that one of XCiT's "
    "would have weights without gradients",
    "GlobalAveragePooling": "the model embeds whole images: it needs no dense backbone",
}


def refuse_bound_backbone(name: str, path: str) -> None:
    """Refuse a backbone that is more than a backbone.

    Raises:
        BoundBackboneError: it is; says why.
    """
    if name in _REASONS:
        raise BoundBackboneError(path, f"{name} is more than a backbone: {_REASONS[name]}")


def refuse_bound_neck(name: str, path: str) -> None:
    """Refuse a neck that fits no other backbone.

    Raises:
        SwapError: it fits none; says why.
    """
    if name in _NECK_REASONS:
        raise SwapError(path, f"{name} takes no other backbone: {_NECK_REASONS[name]}")
