"""What a run asks of a device: kernels, and bytes moved."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Kernels(TorchDispatchMode):
    """Counts operations that make or change tensors, and the bytes that they read and write.

    Each is a kernel or more on a GPU; a device without caches would move these bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        is_view = any(r.alias_info and not r.alias_info.is_write for r in operation._schema.returns)
        if not is_view and "empty" not in name and name != "_unsafe_view":
            tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
            self.count += 1
            # one that is expanded has no more than its storage
            self.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return result
