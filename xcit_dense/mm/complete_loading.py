"""Loading weights that must leave no parameter of a model as it was."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from xcit_dense.errors import UserError

_OF_A_WRAPPER = "module."  # what saving a model in its DistributedDataParallel puts before names
_COUNTERS = "num_batches_tracked"


def load_complete(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    source: object,
    is_needed: Callable[[str], bool],
) -> list[str]:
    """Load a state dict that has everything that is needed.

    Args:
        model: is filled in place.
        state_dict: may have more than the model.
        source: where it is from, for the messages.
        is_needed: tells by its name whether a tensor of the model must be there.

    Returns:
        The names of the tensors that have no place in the model.

    Raises:
        UserError: a tensor is missing, or has another shape.
    """
    tensors = {name.removeprefix(_OF_A_WRAPPER): tensor for name, tensor in state_dict.items()}
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:3])
        raise UserError(f"{source} does not fit the config: {reason}") from error
    lacking = [name for name in missing if is_needed(name) and not name.endswith(_COUNTERS)]
    if lacking:
        raise UserError(
            f"{source} does not fit the config: it lacks {len(lacking)} of "
            f"{len(model.state_dict())} tensors, {lacking[0]} among them"
        )
    return unexpected
