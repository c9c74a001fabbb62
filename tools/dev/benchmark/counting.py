"""What a run asks of a device: kernels, and bytes moved."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Kernels(TorchDispatchMode):
    """Counts operations that make or change tensors, and the bytes that they read and write.

    Each is a kernel or more on a GPU. The bytes are those of a device without caches that runs the
    operations one by one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        is_view = name == "_unsafe_view" or any(
            output.alias_info is not None and not output.alias_info.is_write
            for output in operation._schema.returns
        )
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if made and not is_view and "empty" not in name:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.count += 1
            # one that is expanded has no more than its storage
            self.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in read + made)
        return result
