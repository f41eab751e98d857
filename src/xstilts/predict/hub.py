"""Uploads an exported folder to the Hugging Face Hub, in one commit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xstilts.errors import UserError, first_line, listed

TAG = "xstilts"
"""The tag of each card; a repository without it holds something else than an export."""
GIT_FILES = (".gitattributes",)
"""Files that the Hub itself makes."""
_REASONS = {
    401: "the Hub refuses the token", 402: "the Hub asks for a payment", 403: "the token may not write there",
    404: "there is no such user or organization, or the token may not see it",
    409: "the repository has changed meanwhile", 413: "a file is too large", 429: "the Hub asks to wait",
}  # fmt: skip


def check_push(name: str) -> None:
    """Check what a push needs, before any work.

    Args:
        name: OWNER/NAME of a model on the Hub; NAME alone is the token's owner's.

    Raises:
        UserError: the name is not well formed, there is no token, or the Hub is switched off.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    where = f"--push {name}"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        hint = "write OWNER/NAME, of letters, digits, `-`, `_` and `.`"
        raise UserError("is no name of a model on the Hub", where=where, hint=hint) from error
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be uploaded", where=where)
    if get_token() is None:
        raise UserError("there is no token of the Hub", where=where, hint="run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, name: str) -> str:
    """Upload a folder as a model, in one commit. A new repository is private. Files that are there are not sent again.

    Returns:
        The address of the model.

    Raises:
        UserError: the Hub refuses or cannot be reached, or the repository holds something else than an earlier export.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with _as_user_error(folder, name):
        url = api.create_repo(name, private=True, exist_ok=True)
        found = api.model_info(url.repo_id)
        _check_content(found, files, folder, name)
        operations = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=path) for file, path in files.items()]
        api.create_commit(url.repo_id, operations, commit_message="Export by xstilts", parent_commit=found.sha)
    return str(url)


def _check_content(found: Any, files: dict[str, Path], folder: Path, name: str) -> None:
    """Refuse a repository with files that no export has written."""
    theirs = [file.rfilename for file in found.siblings or () if file.rfilename not in GIT_FILES]
    others = [file for file in theirs if file not in files]
    if others or (theirs and TAG not in (found.tags or ())):
        what = f"has {listed(others, 3)}, which this export lacks" if others else "holds a model of another origin"
        hint = f"choose another name; the export stays in {folder}"
        raise UserError(f"the repository {what}", where=f"--push {name}", hint=hint)


@contextmanager
def _as_user_error(folder: Path, name: str) -> Iterator[None]:
    """Turn errors of the Hub and of the network into one message; says how to upload the folder later."""
    from huggingface_hub.errors import HfHubHTTPError

    failures: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, HfHubHTTPError.__bases__[0])
    try:
        yield
    except failures as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, HfHubHTTPError):
            cause = cause.__cause__
        status = getattr(getattr(cause, "response", None), "status_code", None)
        detail = " ".join((getattr(cause, "server_message", None) or "").split())
        answer = f"the Hub answers {status}" + (f": {detail}" if detail else "")
        reason = _REASONS.get(status or 0) or (answer if status else first_line(error.__cause__ or error))
        hint = f"the export stays in {folder}; to upload it later: hf upload {name} {folder} --private"
        raise UserError(reason, where=f"--push {name}", hint=hint) from error
