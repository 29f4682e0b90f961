"""What a prefix is made and judged for: episodes, the first kind of which is the relation; OFF sampling."""

from cedkv.episodes.episode import Episode, Query
from cedkv.episodes.relation import (
    DEFAULT_TASK,
    TEMPLATES,
    Demonstration,
    RelationEpisode,
    Task,
    Template,
    build_episode,
    demos_in,
    episode_from_config,
    get_template,
    load_task,
    load_task_file,
    make_query,
    parse_demos,
    read_demos,
    task_names,
    tokenize_demos,
)

__all__ = [
    "DEFAULT_TASK",
    "TEMPLATES",
    "Demonstration",
    "Episode",
    "Query",
    "RelationEpisode",
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
