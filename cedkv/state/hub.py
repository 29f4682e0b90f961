"""Sharing a state: a folder with the state file and a card, local or on the Hugging Face Hub."""

from pathlib import Path

from cedkv.config import settings_today
from cedkv.errors import OutputError, StateError
from cedkv.files import write_whole
from cedkv.state.prefix import KVPrefix

STATE_FILE = "state.safetensors"
CARD_FILE = "README.md"


def save_folder(prefix: KVPrefix, folder: str | Path, precision: str | None = None) -> Path:
    """Write the state and its card into a folder, as `push` sends it.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    folder = Path(folder)
    prefix.save(folder / STATE_FILE, precision)
    write_whole(folder / CARD_FILE, card(prefix))
    return folder


def load_folder(source: str | Path, fingerprint: str | None = None) -> KVPrefix:
    """A state from a local folder or, where there is none of that name, from a Hub repository; verified like a file.

    Raises
    ------
    StateError
        Neither a folder nor a repository has a state file, or the file is refused.
    """
    folder = Path(source)
    if folder.is_dir():
        return KVPrefix.load(folder / STATE_FILE, fingerprint)
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(str(source), STATE_FILE)
    except Exception as error:  # offline, unknown, gated, malformed: the hub client has a kind for each
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StateError(f"state {str(source)!r} is no folder and cannot be had from the hub: {reason}") from error
    return KVPrefix.load(path, fingerprint)


def push(folder: str | Path, repository: str) -> str:
    """Send a folder made by `save_folder` to a Hub repository, made if there is none; returns its address.

    Raises
    ------
    OutputError
        The Hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().create_repo(repository, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=repository, folder_path=folder).commit_url)
    except Exception as error:  # offline, no token, malformed name: the hub client has a kind for each
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutputError(f"repository {repository!r} cannot be written: {reason}") from error


def card(prefix: KVPrefix) -> str:
    """What the state is, for whom, and how to use it, as Markdown with the Hub's front matter."""
    meta = prefix.meta
    layers, kv_heads, slots, head_dim = prefix.keys.shape
    base = settings_today(meta.get("settings", {})).get("run", {}).get("model", {}).get("id", "")
    front = ["---", "library_name: cedkv", "tags: [cedkv, kv-prefix]"]
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        front.append(f"base_model: {_plain(base)}")
    facts = {
        "task": meta.get("task"),
        "method": meta.get("method"),
        "model": meta.get("model"),
        "model fingerprint": prefix.fingerprint,
        "template": meta.get("template"),
        "white space that ends every query": repr(meta.get("opening", "")),
        "slots": f"{slots} ({layers} layers, {kv_heads} key/value heads, {head_dim} numbers each)",
        **{name.replace("_", " "): f"{value:.4g}" for name, value in meta.get("metrics", {}).items()},
    }
    rows = [
        f"| {name} | `{_plain(repr(value) if name == 'template' else str(value))}` |" for name, value in facts.items()
    ]
    return "\n".join(
        [
            *front,
            "---",
            "",
            f"# Relation state: {_plain(str(meta.get('task', 'unnamed')))}",
            "",
            "A few key/value slots that stand in for the demonstrations of a relation. They work with the model they",
            "were made for and with no other; using them checks that.",
            "",
            "| | |",
            "| --- | --- |",
            *rows,
            "",
            "```python",
            "from cedkv import load_model",
            "from cedkv.lm import generate",
            "from cedkv.state.hub import load_folder",
            "",
            f"lm = load_model({base!r})",
            'state = load_folder("THIS_FOLDER_OR_REPOSITORY", lm.fingerprint)',
            'print(generate(lm, [lm.encode("...")], state))',
            "```",
            "",
        ]
    )


def _plain(text: str) -> str:
    """Text on one line that ends no table cell, code span or heading: demonstrations may hold anything."""
    return "".join(char if char.isprintable() and char not in "`|<>" else " " for char in text)
