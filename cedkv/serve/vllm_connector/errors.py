"""Why a state, a request or an engine is refused."""


class Refused(Exception):
    """One line: what cannot be served, its value, and the remedy."""
