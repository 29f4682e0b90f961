"""Long documents and questions about them: made ones with a needle or a theme, and files that others wrote."""

from cedkv.episodes.documents.chunks import Passage, split_passages
from cedkv.episodes.documents.episode import document_episode
from cedkv.episodes.documents.files import read_document, read_questions
from cedkv.episodes.documents.niah import NEEDLES, Needles, make_needles, make_one
from cedkv.episodes.documents.prose import SPLITS, sentences
from cedkv.episodes.documents.question import Question
from cedkv.episodes.documents.themes import make_themes

__all__ = [
    "NEEDLES",
    "SPLITS",
    "Needles",
    "Passage",
    "Question",
    "document_episode",
    "make_needles",
    "make_one",
    "make_themes",
    "read_document",
    "read_questions",
    "sentences",
    "split_passages",
]
