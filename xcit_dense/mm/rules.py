"""What is known of mm's own classes by their names: the one table of exceptions.

A class that is not named here is taken as its config describes it: a neck or head reads the levels
that ``in_channels``, ``in_index``, ``start_level`` and ``end_level`` tell. Two necks that hand on
what they read take more than a name: JPU and SSDNeck have functions in ``swap/readers.py``.
"""

# ---- backbones and necks that no other can take the place of, and why ----

BOUND_BACKBONES = {
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
BOUND_NECKS = {
    "RFP": "it feeds its maps back into a second DetectoRS backbone (rfp_backbone)",
    "NASFCOS_FPN": "it looks at four levels by number and learns from three, so that one of XCiT's "
    "would have weights without gradients",
    "GlobalAveragePooling": "the model embeds whole images: it needs no dense backbone",
}

# ---- how necks and heads read levels ----

# necks whose first entry is for the last level
COARSE_TO_FINE_NECKS = ("YOLOV3Neck",)
# necks that do not read the level which end_level names; mmdet's, and FPN of both, are told below
NECKS_THAT_STOP_BEFORE_END_LEVEL = ("JPU",)
# necks that make a pyramid of maps of one stride, which XCiT does itself
PYRAMIDS_OF_ONE_STRIDE = ("Feature2Pyramid",)

# keys of a segmentor with heads
SEGMENTATION_HEADS = ("decode_head", "auxiliary_head")
# further keys of heads with the width of one level: key to the level
EXTRA_WIDTH_KEYS = {"c1_in_channels": 0}
# heads that are told several levels and learn from the last, without this key
HEADS_OF_THE_LAST_LEVEL = {"EncHead": "add_lateral"}
# heads that call ``view`` across batch and channels of what they get
VIEWING_HEADS = ("DMHead",)

# ---- how images get to the model ----

# data preprocessors that hand the images on to one inside
PREPROCESSOR_WRAPPERS = ("MultiBranchDataPreprocessor",)
# keys of data preprocessors that say what is done to images
PREPROCESSOR_IMAGE_KEYS = ("mean", "std", "bgr_to_rgb", "rgb_to_bgr", "pad_size_divisor", "size")

# ---- backbones and optimizers ----

# backbones that download their weights if they are not told pretrained=None
DOWNLOADING_BACKBONES = ("TIMMBackbone",)
# names of parameters that only other transformer backbones have
TRANSFORMER_KEYS = (
    "absolute_pos_embed",
    "relative_position_bias_table",
    "rel_pos_bias",
    "pos_embed",
    "pos_block",
    "cls_token",
)
# what constructors with layer-wise decay call its rate, and what else they are told
LAYER_RATE_KEYS = ("decay_rate", "layer_decay_rate")
LAYER_DECAY_KEYS = ("num_layers", "decay_type", *LAYER_RATE_KEYS)
