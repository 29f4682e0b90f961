"""Every error a user can cause. One line each: the thing, the value, the remedy."""


class CedKVError(Exception):
    """Base of all errors a user can cause; the command line exits 2 on it, the app shows its message."""


class ConfigError(CedKVError):
    """A setting is unknown, out of range or does not fit another one."""


class DemoError(CedKVError):
    """Pasted demonstrations, a task file or queries cannot be used."""


class ModelError(CedKVError):
    """A model cannot be found, read or is of an unsupported architecture."""


class StateError(CedKVError):
    """A saved state is damaged, of another version or made for another model."""


class OutputError(CedKVError):
    """A run folder or file cannot be written."""


class Cancelled(CedKVError):
    """Work was told to stop before it had a result."""


class NonFiniteError(CedKVError):
    """A loss term or gradient stopped being a finite number during training."""


class CheckpointError(CedKVError):
    """A training cannot be taken up from a file."""


def first_line(error: BaseException) -> str:
    """What another library's error says, as part of a line of our own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
