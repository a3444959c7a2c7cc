"""The interactive demos, one module a chapter, named as the chapter's module: ``demos.occlusion.show(…)``.

Each ``show`` returns a `widget.Demo`.
"""

from . import (  # noqa: F401
    activations,
    cam,
    deconvnet,
    embedding,
    filters,
    guided,
    occlusion,
    saliency,
    shared,
    shortcut,
    transfer,
)
