"""Demonstrations to tokens with roles; relation tasks; ON query sources; OFF sampling."""

from cedkv.episodes.episode import Episode, Query, build_episode, episode_from_config, make_query, read_demos
from cedkv.episodes.parse import Demonstration, parse_demos
from cedkv.episodes.tasks import Task, load_task, load_task_file, task_names
from cedkv.episodes.template import TEMPLATES, Template, demos_in, get_template, tokenize_demos

__all__ = [
    "TEMPLATES",
    "Demonstration",
    "Episode",
    "Query",
    "Task",
    "Template",
    "build_episode",
    "demos_in",
    "episode_from_config",
    "get_template",
    "load_task",
    "load_task_file",
    "make_query",
    "parse_demos",
    "read_demos",
    "task_names",
    "tokenize_demos",
]
