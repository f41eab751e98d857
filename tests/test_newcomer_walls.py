"""Mistakes of a newcomer's first hour: each is one message with the line to write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import CliResult

TASK = """\
tickets:
  format: classify
  texts: [text]
  labels: [low, high]
  data: {train: ticket.csv, test: "test.{lang}.csv"}
  languages: [en, de]
"""
RECIPE = """\
name: support
encoder: me/encoder
seeds: [1]
use: [mine.yaml]
phases:
  - {name: target, each: [tickets]}
evaluate: [tickets]
"""
ROWS = "id,text,label\n7,The printer burns.,high\n8,The mouse is grey.,low\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of tickets, in the working directory."""
    (tmp_path / "mine.yaml").write_text(TASK)
    (tmp_path / "study.yaml").write_text(RECIPE)
    for name in ("ticket.csv", "test.en.csv", "test.de.csv"):
        (tmp_path / name).write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_own_task_without_any_of_its_files_is_an_error(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    """The same error as that of `data check`, together with the wrong encoder."""
    (folder / "ticket.csv").rename("tickets.csv")
    for code in ("en", "de"):
        (folder / f"test.{code}.csv").unlink()
    edit(folder / "study.yaml", "me/encoder", "./encoder")
    looked = "tickets: no data for 'en': looked for ticket.csv, also with .gz (the nearest there is tickets.csv)\n"
    checked = xstilts("check", "study.yaml")
    assert checked.code == 2 and looked in checked.err and "./encoder: " in checked.err
    assert looked in xstilts("data", "check", "tickets", "--use", "mine.yaml").err
    planned = xstilts("plan", "study.yaml")
    assert planned.code == 0 and f"missing:\n  {looked}  tickets: no data for 'en': looked for test.en" in planned.out


def test_own_files_in_the_data_folder_need_the_option(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    data = folder / "elsewhere"
    data.mkdir()
    for path in folder.glob("*.csv"):
        path.rename(data / path.name)
    missing = xstilts("check", "study.yaml")
    assert missing.code == 2 and "ticket.csv, also with .gz (give the data folder with --data" in missing.err
    assert xstilts("check", "study.yaml", "--data", data).code == 0


def test_the_command_that_lists_missing_files_is_whole(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "mine.yaml", "[en, de]", "[en, de, fr, es, sw, ar]")
    for name in ("test.en.csv", "test.de.csv"):
        (folder / name).unlink()
    data = folder / "my data"
    data.mkdir()
    error = xstilts("check", "study.yaml", "--data", data).err
    assert f"`xstilts data check tickets --use mine.yaml --data '{data}'` lists them" in error
    assert xstilts("data", "check", "tickets", "--use", "mine.yaml", "--data", data).out.count("│ tickets") == 2


def test_a_limit_where_nothing_is_scored_is_named(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    target = "  - {name: target, each: [tickets]}\n"
    limited = "  - {name: before, choices: [[], [tickets]], settings: {lr: 1e-4, tasks: {tickets: {limit: 20}}}}\n"
    edit(folder / "study.yaml", target, limited + target.replace("]}", "], settings: {limit: 20}}"))
    line = "before: no effect in this phase: limit; scoring takes it from the recipe's `settings`"
    for command in ("check", "plan"):
        out = xstilts(command, "study.yaml").out
        assert out.count("no effect") == 1 and f"{line} or the phase with `each`\n" in out
    edit(folder / "study.yaml", target.replace("]}", "], settings: {limit: 20}}"), "")
    edit(folder / "study.yaml", "[[], [tickets]]", "[[tickets]]")
    assert f"{line}\n" in xstilts("plan", "study.yaml").out
    edit(folder / "study.yaml", ", tasks: {tickets: {limit: 20}}", "")
    assert "no effect" not in xstilts("plan", "study.yaml").out


def test_a_forgotten_use_is_one_mistake_with_the_line(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "study.yaml", "use: [mine.yaml]\n", "")
    hint = "unknown task 'tickets' (mine.yaml has it: write `use: [mine.yaml]`)\n"
    assert xstilts("check", "study.yaml").err == f"error: study.yaml:6: evaluate: {hint}"
    (folder / "others.yaml").write_text("notes: {like: xnli}\n")
    edit(folder / "study.yaml", "phases:", "use: [others.yaml]\nphases:")
    assert "write `use: [others.yaml, mine.yaml]`" in xstilts("check", "study.yaml").err


@pytest.mark.usefixtures("folder")
def test_data_check_reads_the_tasks_of_a_task_file(xstilts: Callable[..., CliResult]) -> None:
    out = xstilts("data", "check", "--use", "mine.yaml").out
    assert out.count("│ tickets") == 2 and "xnli" not in out
    result = xstilts("data", "check", "mine.yaml")
    assert result.err == "error: mine.yaml: is a file, not a task (write `tickets --use mine.yaml`)\n"
    assert "`xstilts check study.yaml` reads" in xstilts("data", "check", "study.yaml").err


def test_a_placeholder_without_quotation_marks_is_named(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "mine.yaml", '"test.{lang}.csv"', "test.{lang}.csv")
    error = xstilts("check", "study.yaml").err
    assert "mine.yaml:5: is not YAML" in error and "(put the path with {lang} in quotes)" in error
    edit(folder / "mine.yaml", "test.{lang}.csv}", '"test.{lang}.csv", x')
    assert "in quotes" not in xstilts("check", "study.yaml").err


def test_a_setting_outside_settings_has_the_line_to_write(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "study.yaml", "[tickets]}", "[tickets], learning_rate: 3e-5}")
    edit(folder / "study.yaml", "seeds:", "epochs: 4\nseeds:")
    assert xstilts("check", "study.yaml").err.splitlines() == [
        "error: study.yaml:3: epochs: not a field of Recipe (write `settings: {epochs: ...}`)",
        "error: study.yaml:7: phases[0].learning_rate: not a field of Phase (write `settings: {lr: ...}`)",
    ]
    edit(folder / "study.yaml", "epochs: 4", "settings: {learning_rate: 3e-5}")
    assert "settings.learning_rate: not a field of Settings (did you mean 'lr'?)" in xstilts("check", "study.yaml").err


@pytest.mark.usefixtures("folder")
def test_show_takes_a_language_by_its_code(xstilts: Callable[..., CliResult]) -> None:
    error = xstilts("show", "tickets", "German", 0, "--use", "mine.yaml").err
    assert error == "error: the task 'tickets' has no data in 'German' (write de)\n"


def test_a_header_of_other_names_has_the_line_to_write(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    """The text is neither the id nor the label, and the label's column comes with it; what the hint says works."""
    for path in folder.glob("*.csv"):
        edit(path, "id,text,label", "id,review,sentiment")
    error = xstilts("check", "study.yaml").err
    assert "write `texts: [review]` and `label: sentiment`, or for this file alone" in error
    assert "`{path: ticket.csv, columns: {text: review, label: sentiment}}`" in error
    assert '`{path: "test.{lang}.csv", columns: {text: review, label: sentiment}}`' in error
    edit(folder / "mine.yaml", "texts: [text]", "texts: [review]\n  label: sentiment")
    assert xstilts("check", "study.yaml").code == 0


def test_the_columns_of_one_file_alone_can_be_named(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "ticket.csv", "id,text,label", "title,body,label")
    edit(folder / "ticket.csv", "7,", "Fire,")
    written = "{path: ticket.csv, columns: {text: body}}"
    assert f"alone `{written}`)" in xstilts("check", "study.yaml").err
    edit(folder / "mine.yaml", "train: ticket.csv", f"train: {written}")
    assert xstilts("check", "study.yaml").code == 0


def test_a_pair_and_a_question_have_their_columns(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "mine.yaml", "texts: [text]", "texts: [one, other]")
    edit(folder / "ticket.csv", ROWS, "id,claim,score,source,label\n7,It burns.,3,The printer burns.,high\n")
    assert "write `texts: [claim, source]`, or" in xstilts("check", "study.yaml").err
    (folder / "ask.yaml").write_text("ask: {format: span, data: {test: ask.tsv}}\n")
    (folder / "ask.tsv").write_text("id\tpassage\tquestion\n1\tUlm is on the Danube.\tWhere?\n")
    error = xstilts("data", "check", "ask", "--use", "ask.yaml").err
    assert "the task wants context (write `{path: ask.tsv, columns: {context: passage}}`)" in error


def test_labels_in_another_column_have_the_line_to_write(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    edit(folder / "ticket.csv", "id,text,label", "id,text,urgency")
    assert xstilts("check", "study.yaml").err == (
        "error: ticket.csv: has no column 'label'; its columns are id, text, urgency (write `label: urgency`)\n"
    )
    edit(folder / "mine.yaml", "texts:", "label: urgency\n  texts:")
    assert xstilts("check", "study.yaml").code == 0
    edit(folder / "ticket.csv", "id,text,urgency", "id,text,Urgency")
    assert "has no column 'urgency' (did you mean 'Urgency'?)" in xstilts("check", "study.yaml").err


def test_parts_of_one_file_share_no_rows(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    """No warning says that training stops on test data; one does where the parts overlap."""
    rows = "".join(f"{i},Printer {i} burns.,{('low', 'high')[i % 2]}\n" for i in range(40))
    (folder / "ticket.csv").write_text(f"id,text,label\n{rows}")
    edit(folder / "mine.yaml", "train: ticket.csv, test: \"test.{lang}.csv\"}\n  languages: [en, de]",
         "train: {path: ticket.csv, part: 1/4}, dev: {path: ticket.csv, part: 2/4},"
         " test: {path: ticket.csv, part: 3-4/4}}\n  languages: [en]")  # fmt: skip
    edit(folder / "study.yaml", "encoder: me/encoder", "encoder: {text: play-text, layers: 1, hidden: 16, heads: 2}")
    assert "optimistic" not in xstilts("check", "study.yaml").out
    edit(folder / "mine.yaml", "3-4/4", "2-4/4")
    assert "early stopping uses test data, so scores on them are optimistic" in xstilts("check", "study.yaml").out


def test_test_labels_that_the_training_data_lack_are_noted(folder: Path, xstilts: Callable[..., CliResult]) -> None:
    """Of two people who named the same urgencies differently; another spelling in the task file joins them."""
    edit(folder / "test.de.csv", "high", "urgent")
    edit(folder / "mine.yaml", "[low, high]", "[low, high, urgent]")
    note = "test.de.csv: labels that no training example has, so no model learns them: urgent 1"
    assert note in xstilts("data", "check", "--use", "mine.yaml").out
    edit(folder / "mine.yaml", "[low, high, urgent]", "[low, high]\n  spellings: {urgent: high}")
    assert "no training example" not in xstilts("data", "check", "--use", "mine.yaml").out
