"""The inspector: builds the page from components/, starts the engine in the background, and serves."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from components.quick_gradio import without_stubs

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
# Threads that spin while they wait make a busy machine several times slower; torch's OpenMP reads this at import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
with without_stubs():
    import gradio as gr

from cedkv.config import load_config  # noqa: E402
from cedkv.session.limits import Limits, limits_from_environment  # noqa: E402
from cedkv.session.store import SessionStore  # noqa: E402
from components.api import add_endpoints  # noqa: E402
from components.desk import Desk  # noqa: E402
from components.example import example_runs  # noqa: E402
from components.page import build_page  # noqa: E402
from components.tabs import TABS  # noqa: E402
from components.tabs.frame import Tab  # noqa: E402
from components.theme import STYLE, theme  # noqa: E402
from components.wiring import wire  # noqa: E402

# Gradio keeps a copy of every file that it offers: it looks for those older than a day every hour, in seconds.
_CACHE = (3600, 86400)
# Its queue looks for events a thousand times a second, and for their progress a hundred times, which takes a tenth of a
# core as long as the app is up.
_POLL_SECONDS = 0.02


def build(limits: Limits, root: Path, tabs: Sequence[Tab] = TABS) -> tuple[gr.Blocks, Desk]:
    """The page and the engine behind it, not yet started."""
    config = load_config("smoke")
    desk = Desk(limits, SessionStore(root, limits, example_runs(root)))
    with gr.Blocks(title="CED-KV inspector", fill_width=True, analytics_enabled=False, delete_cache=_CACHE) as blocks:
        page = build_page(blocks, limits, config, next(iter(desk.store.shared), None), tabs)
        add_endpoints(desk)  # before the wiring, so that their names are free
        wire(page, desk)
    blocks.queue(max_size=limits.queue)
    for name in ("sleep_when_free", "progress_update_sleep_when_free"):  # on Windows it sleeps for longer as it is
        setattr(blocks._queue, name, max(getattr(blocks._queue, name), _POLL_SECONDS))
    return blocks, desk


def serve(port: int | None = None, root: Path = Path("runs/app"), block: bool = True) -> tuple[gr.Blocks, str]:
    """Start the server; returns the page and its address."""
    limits = limits_from_environment()
    blocks, desk = build(limits, root)
    _, address, _ = blocks.launch(
        server_port=port, theme=theme(), css_paths=[STYLE], footer_links=["api"], run_history=False,
        max_file_size=limits.upload_mb * 1_000_000, prevent_thread_lock=True, ssr_mode=False,
        enable_monitoring=False, pwa=False, allowed_paths=[str(root)],
        mcp_server=limits.assistants and find_spec("mcp") is not None,
    )  # fmt: skip
    desk.warm(load_config("smoke"))
    if block:
        blocks.block_thread()
    return blocks, address


if __name__ == "__main__":
    serve()
