"""The network run without gradients, band by band, for images of any size."""

from xcit_dense.engine.engine import Engine, Features, Level, levels_by_engine, pays
from xcit_dense.engine.optimizing import optimize_for_inference
from xcit_dense.engine.stores import FileTokenStore, Source, TensorSource, TokenStore
from xcit_dense.engine.weights import NotAsBuilt

__all__ = [
    "Engine",
    "Features",
    "FileTokenStore",
    "Level",
    "NotAsBuilt",
    "Source",
    "TensorSource",
    "TokenStore",
    "levels_by_engine",
    "optimize_for_inference",
    "pays",
]
