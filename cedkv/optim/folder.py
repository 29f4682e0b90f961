"""The folder of a training: settings come first, then figures as they are told, and it never holds two trainings."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from cedkv.config import Settings, dump_config
from cedkv.errors import OutputError
from cedkv.events import Event, Opened
from cedkv.files import write_whole
from cedkv.optim.checkpoint import FILE_NAME
from cedkv.optim.sinks import fed, open_sinks


def kept(work: Iterator[Event], config: Settings, sinks: Sequence[str], folder: Path, resume: bool) -> Iterator[Event]:
    """What a training tells, kept in its folder by the sinks; the work is not begun before the folder is.

    Raises
    ------
    ConfigError
        There is no such sink.
    OutputError
        The folder holds another training that is not to go on, or cannot be written.
    """
    if not resume and (folder / "config.yaml").exists():
        raise OutputError(f"output {str(folder)!r} holds a training; go on with --resume or choose another --out")
    yield from fed(chain(_begun(config, folder), work), open_sinks(sinks, folder))


def _begun(config: Settings, folder: Path) -> Iterator[Event]:
    # Beside a checkpoint stand the settings it was made with. Others are refused as it is read, and must not be noted.
    if not (folder / FILE_NAME).exists() or not (folder / "config.yaml").exists():
        write_whole(folder / "config.yaml", dump_config(config))
    yield Opened(folder)
