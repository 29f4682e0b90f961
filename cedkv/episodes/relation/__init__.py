"""Relations shown by demonstrations: templates, tasks, pasted pairs, queries."""

from cedkv.episodes.relation.build import (
    DEFAULT_TASK,
    RelationEpisode,
    build_episode,
    draw_demos,
    episode_from_config,
    make_query,
    read_source,
)
from cedkv.episodes.relation.chat import noted_template, template_for
from cedkv.episodes.relation.demo_file import read_demos
from cedkv.episodes.relation.foreign import foreign_questions
from cedkv.episodes.relation.parse import FORMATS, Demonstration, Reading, parse_demos, read_demos_text
from cedkv.episodes.relation.tasks import Task, load_task, load_task_file, task_names
from cedkv.episodes.relation.template import CHATS, TEMPLATES, Template, demos_in, get_template, tokenize_demos

__all__ = [
    "CHATS",
    "DEFAULT_TASK",
    "FORMATS",
    "TEMPLATES",
    "Demonstration",
    "Reading",
    "RelationEpisode",
    "Task",
    "Template",
    "build_episode",
    "demos_in",
    "draw_demos",
    "foreign_questions",
    "episode_from_config",
    "get_template",
    "load_task",
    "load_task_file",
    "make_query",
    "parse_demos",
    "read_demos",
    "read_demos_text",
    "read_source",
    "task_names",
    "noted_template",
    "template_for",
    "tokenize_demos",
]
