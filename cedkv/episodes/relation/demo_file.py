"""A file of demonstrations, in any format that pasted ones may have."""

from pathlib import Path

from cedkv.episodes.relation.parse import Reading, read_demos_text
from cedkv.episodes.relation.tasks import MAX_FILE_BYTES
from cedkv.errors import DemoError

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_demos(path: str, format: str | None = None) -> Reading:
    """Demonstrations from a file in any format, or in the one named; see `read_demos_text`.

    Raises
    ------
    DemoError
        The file cannot be read, is over 5 MB or no UTF-8, or does not hold demonstrations.
    """
    try:
        if (size := Path(path).stat().st_size) > MAX_FILE_BYTES:
            raise DemoError(f"demonstrations file {path!r} has {size / 1e6:.1f} MB; at most 5 MB, keep fewer")
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content[:2] in _UTF16_MARKS else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DemoError(
            f"demonstrations file {path!r} cannot be read: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        raise DemoError(f"demonstrations file {path!r} cannot be read: {error}") from error
    return read_demos_text(text, format)
