"""A session's runs as one zip file, and a zip of runs taken apart again."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from cedkv.files import whole_file
from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.upload import ACCEPTED

# A zip may unpack to this many times what may be uploaded; states hardly shrink, so a bomb alone needs more.
_SWELL = 8
# What zipfile lets through of a damaged file, from its own checks and from those of what is compressed.
_DAMAGES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, NotImplementedError, EOFError, ValueError,
)  # fmt: skip


def pack_runs(runs: Sequence[Run], path: Path) -> Path:
    """Write the folders of runs into a zip, each under the run's name. A page made of a run can be made again.

    A file whose name begins with a dot is one that is still being written.
    """
    with whole_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in runs:
            for file in sorted(run.folder.rglob("*")):
                if file.is_file() and file.suffix != ".html" and not file.name.startswith("."):
                    archive.write(file, PurePosixPath(run.id) / file.relative_to(run.folder).as_posix())
    return path


def unpack_runs(path: Path, scratch: Path, limits: Limits) -> Iterator[tuple[str, list[Path]]]:
    """Each run in a zip: the name it goes by, and its files below `scratch`, where no name in the zip decides anything.

    Raises
    ------
    RunError
        It is no zip, is damaged, or unpacks to more than is allowed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if PurePosixPath(entry.filename).suffix in ACCEPTED]
            most = limits.upload_mb * 1_000_000 * _SWELL
            if sum(entry.file_size for entry in entries) > most:
                raise RunError(f"{path.name!r} unpacks to more than {most / 1e6:.0f} MB; open fewer runs at a time")
            runs: dict[str, list[zipfile.ZipInfo]] = {}
            for entry in entries:
                runs.setdefault(PurePosixPath(entry.filename).parts[0], []).append(entry)
            for number, (name, files) in enumerate(runs.items()):
                folder = scratch / str(number)
                folder.mkdir(parents=True)
                yield name, [_unpacked(archive, entry, folder) for entry in files]
    except _DAMAGES as error:
        raise RunError(f"{path.name!r} is no zip of runs, or damaged: {error}") from error


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> Path:
    target = folder / PurePosixPath(entry.filename.replace("\\", "/")).name
    if target.exists():
        raise RunError(f"{entry.filename!r} is in the zip twice; open a zip that this app has written")
    target.write_bytes(archive.read(entry))
    return target
