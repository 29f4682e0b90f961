"""Where a gate is: which of its parts this is and how many there are."""

from cedkv.events import Event, Opened, Progress, StepTrace


class Stages:
    """Follows a gate's events. Other runs plan no stages, and nothing is said of theirs."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._at = 0

    def of(self, event: Event) -> str:
        """`stage 3 of 7 · `, or nothing before a plan is known. A stage that is left never comes back."""
        if isinstance(event, Opened):
            self._names = event.stages
        named = event.method if isinstance(event, StepTrace) else event.stage if isinstance(event, Progress) else ""
        place = next((n for n, name in enumerate(self._names) if name == named.removeprefix("judging ")), self._at)
        self._at = max(self._at, place)
        return f"stage {self._at + 1} of {len(self._names)} · " if self._names else ""
