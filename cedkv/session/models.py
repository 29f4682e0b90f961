"""The loaded model that all sessions share: loaded once, in the background, replaced when another one is asked for."""

import threading
import time
from dataclasses import dataclass

from cedkv.config import Config
from cedkv.errors import CedKVError
from cedkv.lm import LanguageModel, load_model
from cedkv.session.runs import Run


@dataclass(frozen=True)
class ModelStatus:
    """What the page says about the model. `state` is one of `loading`, `ready`, `failed`."""

    state: str
    name: str
    detail: str


class ModelShelf:
    """One model at a time. Use of the model is serialised by the caller; this only guards loading."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[str, str, str] | None = None
        self._lm: LanguageModel | None = None
        self.status = ModelStatus("loading", "", "loading the model")

    def get(self, config: Config) -> LanguageModel:
        """The model a config names, loaded if it is not the one at hand.

        Raises
        ------
        ModelError
            It cannot be had; the one at hand stays.
        """
        key = (config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
        with self._lock:
            if self._lm is None or key != self._key:
                self._lm, self._key = self._load(key), key
            return self._lm

    def of(self, run: Run) -> LanguageModel:
        """The model a run was made with.

        Raises
        ------
        CedKVError
            The model at hand under that name is another one.
        """
        lm = self.get(run.config)
        made_with = run.report["model"]["fingerprint"]
        if lm.fingerprint != made_with:
            raise CedKVError(f"run {run.id!r} was made with a model of fingerprint {made_with}, not {lm.fingerprint}")
        return lm

    def _load(self, key: tuple[str, str, str]) -> LanguageModel:
        before, started = self.status, time.perf_counter()
        self.status = ModelStatus("loading", key[0], "loading")
        try:
            lm = load_model(*key)
        except CedKVError as error:
            self.status = before if self._lm else ModelStatus("failed", key[0], str(error))
            raise
        where = f"{lm.device.type} · {str(lm.dtype).removeprefix('torch.')}"
        self.status = ModelStatus("ready", lm.id, f"{where} · loaded in {time.perf_counter() - started:.1f} s")
        return lm
