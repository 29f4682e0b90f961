"""The engine behind the page: imported and warmed in the background, so that the page is there first."""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from cedkv.config import Config
from cedkv.errors import CedKVError
from cedkv.session.limits import Limits
from cedkv.session.store import SessionStore

if TYPE_CHECKING:
    from cedkv.session.documents import Documents
    from cedkv.session.service import Service

# Importing torch holds Python's lock for seconds, in which a first page would not be drawn.
_QUIET_SECONDS = 6.0


class Desk:
    """One per server. `store` is there at once; `service` waits until the engine is imported, not for its model."""

    def __init__(self, limits: Limits, store: SessionStore) -> None:
        self.limits, self.store = limits, store
        self._service: Service | None = None
        self._documents: Documents | None = None
        self._lock = threading.Lock()
        self._wanted = threading.Event()

    def warm(self, config: Config) -> None:
        """Import the engine and load a config's model in the background, once a page asks for it or nobody comes."""
        threading.Thread(target=self._warm, args=(config,), daemon=True).start()

    @property
    def service(self) -> "Service":
        self._wanted.set()
        with self._lock:
            if self._service is None:
                from cedkv.session.service import Service

                self._service = Service(self.limits, self.store)
            return self._service

    @property
    def documents(self) -> "Documents":
        """Documents and questions, by the same engine."""
        service = self.service
        with self._lock:
            if self._documents is None:
                from cedkv.session.documents import Documents

                self._documents = Documents(service)
            return self._documents

    def end(self, session: str) -> None:
        """Stop and forget what a session that has ended was doing."""
        if self._documents is not None:
            self._documents.going.end(session)
        self.service.end(session)

    def model_line(self) -> tuple[str, str, str]:
        """State, name and detail of the model, without waiting for anything."""
        if self._service is None:
            return "loading", "", "starting the engine"
        status = self._service.models.status
        return status.state, status.name, status.detail

    def _warm(self, config: Config) -> None:
        self._wanted.wait(_QUIET_SECONDS)
        # Whoever needs the model gets the error itself, and the status line says it already.
        with suppress(CedKVError):
            self.service.models.get(config)
