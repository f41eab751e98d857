"""The shapes that data can have; a new shape is one file here and one line below."""

from xstilts.formats.classify import Classify
from xstilts.formats.mask import Mask
from xstilts.formats.retrieve import Retrieve
from xstilts.formats.tag import Tag
from xstilts.task import Format

FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (Classify, Tag, Retrieve, Mask)}

__all__ = ["FORMATS", "Classify", "Mask", "Retrieve", "Tag"]
