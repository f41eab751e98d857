"""The shapes that data can have; a new shape is one file here and one line below."""

from xstilts.formats.base import Format
from xstilts.formats.choose import Choose
from xstilts.formats.classify import Classify
from xstilts.formats.mask import Mask
from xstilts.formats.retrieve import Retrieve
from xstilts.formats.span import Span
from xstilts.formats.tag import Tag

FORMATS: dict[str, type[Format]] = {format.name: format for format in (Classify, Choose, Tag, Span, Retrieve, Mask)}

__all__ = ["FORMATS", "Choose", "Classify", "Mask", "Retrieve", "Span", "Tag"]
