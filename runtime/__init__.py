"""Watching a host with concept lenses, token by token.

Monitor         a pack's lenses on a host: attach it, generate, read `events`
MonitorConfig   what a monitor can be told
Event           what was seen at one position
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.config import MonitorConfig
    from runtime.events import Event
    from runtime.monitor import Monitor

__all__ = ["Event", "Monitor", "MonitorConfig"]

_HOME = {"Event": "runtime.events", "Monitor": "runtime.monitor", "MonitorConfig": "runtime.config"}


def __getattr__(name: str) -> Any:
    # Imported when asked for, as in `lenses`: the command's help need not wait for torch.
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
