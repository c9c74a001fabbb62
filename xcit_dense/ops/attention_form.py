"""Which form of cross-covariance attention is the faster."""

FORMS = ("auto", "gram", "direct")


def choose_form(num_tokens: int, embed_dims: int, with_gradient: bool) -> str:
    return "gram" if num_tokens >= embed_dims else "direct"
