"""The engine behind the page: imported and warmed in the background, so that the page is there first."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cedkv.config import Config
from cedkv.errors import CedKVError
from cedkv.session.limits import Limits
from cedkv.session.runs import Run

if TYPE_CHECKING:
    from cedkv.session.service import Service


class Desk:
    """One per server. `service` waits until the engine is imported; the model may still be loading then."""

    def __init__(self, limits: Limits, root: Path, shared: list[Run]) -> None:
        self.limits, self._root, self._shared = limits, root, shared
        self._service: Service | None = None
        self._lock = threading.Lock()

    def warm(self, config: Config) -> None:
        """Import the engine and load a config's model, in the background."""
        threading.Thread(target=self._warm, args=(config,), daemon=True).start()

    @property
    def service(self) -> "Service":
        with self._lock:
            if self._service is None:
                from cedkv.session.service import open_service

                self._service = open_service(self.limits, self._root, self._shared)
            return self._service

    def model_line(self) -> tuple[str, str, str]:
        """State, name and detail of the model, without waiting for anything."""
        if self._service is None:
            return "loading", "", "starting the engine"
        status = self._service.models.status
        return status.state, status.name, status.detail

    def _warm(self, config: Config) -> None:
        # Whoever needs the model gets the error itself, and the status line says it already.
        with suppress(CedKVError):
            self.service.models.get(config)
