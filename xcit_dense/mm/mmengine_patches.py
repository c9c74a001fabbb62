"""Importing this replaces functions of mmengine; nothing else of the package does.

The commands import it, and configs name it in ``custom_imports``.
"""

from xcit_dense.mm import atomic_saving, mmengine_loading, timm_weights

mmengine_loading.install()
atomic_saving.install()
timm_weights.install()
