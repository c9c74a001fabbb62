"""Time and memory of XCiT, the published arithmetic and other backbones, side by side.

``contenders`` is the table of who is measured: add yours there. ``command`` is the command line.
``run`` gives each contender a process of its own (``processes``), in which a ``Runner``
(``runner``) builds and measures it, in turn with the others; ``report`` shows what was found.
``plain_models`` has the networks that are neither timm's nor registered in OpenMMLab.
"""
