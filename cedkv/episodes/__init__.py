"""What a prefix is made and judged for: episodes, the first kind of which is the relation; OFF sampling."""

from cedkv.episodes import relation
from cedkv.episodes.episode import Episode, Query
from cedkv.episodes.relation import *  # noqa: F403  # a kind's own `__all__` says which of its names are of use outside

__all__ = ["Episode", "Query"]
__all__ += relation.__all__
