"""Types that typed models share: strict models, paths, seeds and counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from xstilts.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
"""Of forward and backward passes; `auto`: bf16 on a GPU that computes in bfloat16, else fp32."""


def precision_in_ids(precision: Precision) -> str:
    """A precision as ids hash it: `auto` as fp32, the earlier default, so recipes that name none keep their ids.

    >>> [precision_in_ids(precision) for precision in ("auto", "fp32", "bf16")]
    ['fp32', 'fp32 alone', 'bf16']
    """
    return {"auto": "fp32", "fp32": "fp32 alone"}.get(precision, precision)


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def identity(self) -> dict[str, Any]:
        """The part of it that ids hash: fields that are not at their default, so a new field changes no id."""
        return self.model_dump(mode="json", exclude_defaults=True)


def expand_user(name: str) -> str:
    """A path with a leading `~` or `~user` replaced; any other name as it is.

    Raises:
        UserError: there is no such user.
    """
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError as error:
        raise UserError(f"the home folder of '{Path(name).parts[0]}' is not known", where=name) from error


def encoder_path(name: str, data: Path | None) -> str:
    """An encoder's folder or Hub id, with `~` and, given a data folder, `{data}` filled in.

    Raises:
        UserError: there is no such user.
    """
    return expand_user(name.replace("{data}", str(data)) if data else name)


def _path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError(f"{value!r} is no path")
    return value


PathText = Annotated[str, AfterValidator(_path)]


Seed = Annotated[int, Field(ge=0, lt=2**63)]


Count = Annotated[int, Field(ge=1, le=10**9)]
