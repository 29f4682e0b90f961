"""Documents and questions from files: any text, and LongBench-style rows (`context, question, answer_prefix, answers,
max_new_tokens`) as JSON lines in a local folder."""

import json
from pathlib import Path
from typing import Any

from cedkv.episodes.documents.question import Question
from cedkv.errors import DemoError

_NEW_TOKENS = 32


def read_document(path: str | Path) -> str:
    """The text of a file. Errors have its name alone: where a server keeps an upload is nobody's business.

    Raises
    ------
    DemoError
        The file cannot be read, is no text, or is empty.
    """
    return _text_of(Path(path), Path(path).name)


def _text_of(path: Path, name: str) -> str:
    try:
        return as_document(path.read_bytes(), name)
    except OSError as error:
        raise DemoError(f"document {name!r} cannot be read: {error.strerror}") from error


def as_document(content: bytes, name: str) -> str:
    """The text that bytes hold; `name` names them in errors, which are those of `read_document`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DemoError(f"document {name!r} is no text (byte {error.start} is no UTF-8); save it as UTF-8") from error
    if "\0" in text:
        raise DemoError(f"document {name!r} is a binary file; give a text file")
    if not text.strip():
        raise DemoError(f"document {name!r} is empty; give a file with text in it")
    return text


def read_questions(path: str | Path) -> list[Question]:
    """The rows of a `.jsonl` file, or of all of a folder's, in the order of their names.

    `input` is read as `question`, as LongBench calls it; `answer_prefix` and `max_new_tokens` may be left out.

    Raises
    ------
    DemoError
        There is no such file, it holds no rows, or a row cannot be used; file, line and field are named.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise DemoError(f"folder {str(path)!r} has no .jsonl files; put LongBench-style rows there")
    found = [question for file in files for question in _rows(file)]
    if not found:
        raise DemoError(f"{str(path)!r} holds no questions; write one JSON object a line")
    return found


def _rows(file: Path) -> list[Question]:
    lines = _text_of(file, str(file)).splitlines()
    return [_question(f"{file} line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _question(where: str, line: str) -> Question:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DemoError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise DemoError(f"{where}: a row is an object of fields, not {type(row).__name__}")
    answers = row.get("answers", ())
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not answers or not all(isinstance(answer, str) for answer in answers):
        raise DemoError(f"{where}: 'answers' must be a list of texts with one or more")
    room = row.get("max_new_tokens", _NEW_TOKENS)
    if isinstance(room, bool) or not isinstance(room, int) or room < 1:
        raise DemoError(f"{where}: 'max_new_tokens' = {room!r} is no whole number of at least 1")
    return Question(
        context=_text(where, row, "context"),
        question=_text(where, row, "question" if "question" in row else "input"),
        answers=tuple(answers),
        answer_prefix=str(row.get("answer_prefix") or ""),
        max_new_tokens=room,
        about={"kind": str(row.get("task") or row.get("dataset") or Path(where.split(" line ")[0]).stem)},
    )


def _text(where: str, row: dict[str, Any], name: str) -> str:
    text = row.get(name)
    if not isinstance(text, str) or not text.strip():
        raise DemoError(f"{where}: {name!r} is missing or empty; every row needs context, question and answers")
    return text
