"""Time and memory of XCiT, the published arithmetic and other backbones, side by side.

``contenders`` is the table of who is measured. Each has a process of its own (``processes``), in
which a ``Runner`` (``worker``) does what ``run`` asks of it, in turn with the others; ``report``
and ``plot`` show what was found. ``command`` and ``checkouts`` are command lines, ``masks`` is a
benchmark of its own.
"""
