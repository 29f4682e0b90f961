"""Demonstrations that were pasted or loaded: read rightly or refused, never guessed."""

from cedkv.episodes.relation.parse.detect import FORMATS, known_format, parse_demos, read_demos_text
from cedkv.episodes.relation.parse.reading import Demonstration, Reading

__all__ = ["FORMATS", "Demonstration", "Reading", "known_format", "parse_demos", "read_demos_text"]
