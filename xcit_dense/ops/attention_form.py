"""Which form of cross-covariance attention is the faster: a model of their cost."""

FORMS = ("auto", "gram", "direct")

# Seconds, fitted to measurements by tools/compare_attention_forms.py on two cores of an AMD EPYC
# (Zen 5) in float32. The forms were equally fast at about 1400, 950 and 1300 tokens of 128, 384
# and 768 channels, with gradients at 600, 700 and 1100. The model says 1750, 975 and 1340, with
# gradients 1410, 760 and 1010; in between it loses less than a third of the attention's time.
_PER_PRODUCT = 5e-12  # of matrix products, for each multiplication
_PER_QUERY_KEY_VALUE = 4.5e-9  # of splitting and normalizing q, k and v, for each element of one
_PER_MATRIX_ENTRY = 8e-9  # of what else happens to C x C matrices, for each element of one
_SMALL_OPERATIONS = 1.2e-3  # of everything that does not grow
# Backward costs the direct form three times its forward, the gram form two and a half times.
_GRAM_WITH_GRADIENT = 2.5 / 3


def choose_form(num_tokens: int, embed_dims: int, num_heads: int, with_gradient: bool) -> str:
    """The form that is expected to be the faster, ``gram`` or ``direct``.

    The direct form multiplies each token by 4 C^2 weights, the gram form by 2 C^2; that works with
    C x C matrices besides, which few tokens do not pay for.

    Args:
        num_tokens: N, of one image.
        embed_dims: C.
        num_heads: heads the channels are divided into.
        with_gradient: whether backward will follow.
    """
    area, width = embed_dims**2, embed_dims // num_heads
    direct = num_tokens * (
        (4 * area + 2 * embed_dims * width) * _PER_PRODUCT + embed_dims * _PER_QUERY_KEY_VALUE
    )
    matrices = (3 * embed_dims + 2 * width) * area * _PER_PRODUCT + area * _PER_MATRIX_ENTRY
    gram = num_tokens * 2 * area * _PER_PRODUCT + matrices + _SMALL_OPERATIONS
    if with_gradient:
        gram *= _GRAM_WITH_GRADIENT
    return "gram" if gram < direct else "direct"
