"""JSON, JSON lines and YAML documents."""

import json
import re
from functools import partial
from typing import Any

import yaml

from cedkv.episodes.relation.parse.json_text import loads
from cedkv.episodes.relation.parse.lines import arrows_in
from cedkv.episodes.relation.parse.reading import Format, Found, Outcome, Refusal, Strength
from cedkv.episodes.relation.parse.records import FIRST, WHOLE, pairs_of
from cedkv.episodes.relation.parse.rows import numbered_lines
from cedkv.errors import DemoError

_JSON_START = re.compile(r'\s*(?:\[\s*)*(?:[\[{]\s*["{\[]|\[\s*\]|\{\s*\})')
# Lists and tuples in single quotes or round brackets, and DSPy's examples, as a program has them.
_PYTHON = re.compile(r"(?:\w+\s*=\s*)?(?:[\[({]\s*)*(?:[\[({]\s*'|\(\s*\"|\[\s*(?:\w+\.)?Example\().*[\])}]", re.S)
_YAML_START = re.compile(r"(?:%YAML|---[ \t]*$|-[ \t]+\S|- *$|[\w-]+:[ \t]*$)", re.M)
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def _read_json(lists: str | None, text: str) -> Outcome:
    stripped = text.strip()
    uncommented = "\n".join("" if line.lstrip().startswith("//") else line for line in text.split("\n"))
    start = uncommented.strip()
    if _PYTHON.fullmatch(start):
        return Refusal("the demonstrations look like Python; write them as JSON, with json.dumps", Strength.MOSTLY)
    if not start.startswith(("[", "{")):
        return None
    try:
        value = loads(start)
    except json.JSONDecodeError as error:
        whole, lines = error, numbered_lines(uncommented)
        try:
            value = [loads(line) for _, line in lines]
        except json.JSONDecodeError:
            return _broken(uncommented, whole)
        except DemoError as error:
            return Refusal(str(error), Strength.SURE)
    except DemoError as error:
        return Refusal(str(error), Strength.SURE)
    outcome = pairs_of(value, lists)
    if isinstance(outcome, Found) and start != stripped:
        more = ("comment lines are left out",)
        return Found(outcome.pairs, outcome.strength, outcome.detail, outcome.about, outcome.warnings + more)
    return outcome


def _broken(text: str, error: json.JSONDecodeError) -> Refusal | None:
    """What is wrong with JSON; None for lines that only start like it."""
    lines = numbered_lines(text)
    if not _JSON_START.match(text) or all(arrows_in(line) or "\t" in line for _, line in lines):
        return None
    line = text[: len(text) - len(text.lstrip())].count("\n") + error.lineno
    objects = [number for number, content in lines if content.startswith("{") and content.endswith("}")]
    if len(objects) > 1 or error.msg == "Extra data":
        for number, content in lines:
            try:
                json.loads(content)
            except (ValueError, RecursionError) as problem:
                line, error = number, problem if isinstance(problem, json.JSONDecodeError) else error
                break
    return Refusal(f"the demonstrations look like JSON but are not: {error.msg} in line {line}", Strength.SURE)


def _read_yaml(text: str) -> Outcome:
    if not _YAML_START.match(text.lstrip("\n")) or len(text) > 1_000_000:
        return None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                return None
        documents = [_plain(node) for node in yaml.compose_all(text, Loader=_LOADER) if node is not None]
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    except DemoError as error:
        return Refusal(str(error), Strength.SURE)
    value: Any = documents[0] if len(documents) == 1 else documents
    nested = isinstance(value, list) and all(isinstance(item, dict | list) for item in value)
    wrapped = isinstance(value, dict) and any(isinstance(item, list) for item in value.values())
    outcome = pairs_of(value, None) if value and (nested or wrapped) else None
    if isinstance(outcome, Refusal):
        # Lines that start with a dash are YAML too; only keys that name the sides make them certainly so.
        return outcome if '"input"' not in outcome.message else Refusal(outcome.message, Strength.WEAK)
    return outcome


def _plain(node: yaml.Node) -> Any:
    """Lists, mappings and texts as written: in YAML's own typing `no` is a truth value and `2.50` a number."""
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError("a key that is no text")
            if name in made:
                raise DemoError(f"the YAML gives the key {name[:60]!r} twice in one mapping; keep one of them")
            made[name] = _plain(value)
        return made
    return node.value


JSON = Format("json", "JSON", partial(_read_json, None))
JSON_FIRST = Format("json-first", "JSON, of several values the first", partial(_read_json, FIRST), asked_only=True)
JSON_LISTS = Format("json-lists", "JSON, with lists as JSON text", partial(_read_json, WHOLE), asked_only=True)
YAML = Format("yaml", "YAML", _read_yaml)
