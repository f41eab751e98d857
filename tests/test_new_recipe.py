"""`xstilts new recipe`: a first recipe for task files."""

from collections.abc import Callable
from pathlib import Path

from conftest import CliResult
from xstilts.study.load import read


def test_a_recipe_needs_a_task_to_train_on_and_score(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    (tmp_path / "few.csv").write_text("text,label\nso,good\nno,bad\n")
    assert "too few rows" in xstilts("new", "task", tmp_path / "few.csv").out
    result = xstilts("new", "recipe", tmp_path / "my-few.yaml")
    assert result.code == 2 and "has no task with labelled train and dev or test data" in result.err
    (tmp_path / "test.csv").write_text("text,label\nho,good\nna,bad\n")
    (tmp_path / "few.csv").rename(tmp_path / "train.csv")
    xstilts("new", "task", tmp_path, "--out", tmp_path / "two.yaml")
    result = xstilts("new", "recipe", tmp_path / "two.yaml", "--intermediate", "mnil")
    assert result.code == 2 and "no intermediate task 'mnil' is built in" in result.err and "'mnli'?)" in result.err
    result = xstilts("new", "recipe", tmp_path / "two.yaml", "--intermediate", "my-tow")
    assert result.code == 2 and "my-" not in result.err.partition("(")[2], (
        "the target is no intermediate task of itself"
    )
    result = xstilts("new", "recipe", tmp_path / "two.yaml", "--intermediate", "none")
    assert result.code == 0 and "fetch" not in result.out
    (phase,) = read(str(tmp_path / "two-study.yaml"))[0].phases
    assert phase.each is not None and xstilts("check", tmp_path / "two-study.yaml", "--data", tmp_path).code == 0


def test_an_intermediate_task_of_ones_own(tmp_path: Path, xstilts: Callable[..., CliResult]) -> None:
    """It is no target, although it has test data; its file may lie elsewhere."""
    for name in ("reviews", "stars/parcels"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("text,label\n" + "".join(f"day {i},{'dry' if i % 2 else 'wet'}\n" for i in range(60)))
        assert xstilts("new", "task", path).code == 0
    reviews, stars = tmp_path / "my-reviews.yaml", tmp_path / "stars/my-parcels.yaml"
    result = xstilts("new", "recipe", reviews, "--intermediate", "my-parcels")
    assert result.code == 2 and "for another one give its task file, too (" in result.err
    result = xstilts("new", "recipe", stars, "--intermediate", "my-parcels")
    assert result.code == 2 and "has no task with labelled train and dev or test data beside the" in result.err
    assert xstilts("new", "recipe", reviews, stars, "--intermediate", "my-parcels").code == 0
    recipe, _ = read(str(tmp_path / "my-reviews-study.yaml"))
    assert (recipe.use, recipe.evaluate) == (("my-reviews.yaml", "stars/my-parcels.yaml"), ("my-reviews",))
