"""For the documentation site: the examples of a docstring, which begin with `>>>`, are shown as code."""

from __future__ import annotations

from textwrap import indent
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts a docstring's examples under the heading that griffe knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a class, function or attribute."""
        if obj.docstring and ">>>" in obj.docstring.value:
            text, _, examples = obj.docstring.value.partition(">>>")
            obj.docstring.value = f"{text}Examples:\n{indent('>>>' + examples, '    ')}"
