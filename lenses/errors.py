"""Every error that Phoropter raises on purpose, as one small tree.

    PhoropterError
    ├── PackError               a lens pack cannot be used
    │   ├── PackNotFound            nothing at that path or hub id
    │   ├── PackFormatError         a file of the pack says something it may not
    │   ├── PackIntegrityError      bytes are not the bytes that were written
    │   └── PackMismatch            the pack was made for another host or site
    ├── HierarchyError          concepts do not form a forest
    ├── ConceptNotFound         no concept of that id
    ├── SourceError             a source of concepts or texts is missing or damaged
    ├── HostError               the host model cannot be loaded, hooked or watched
    ├── UnsupportedDecoding     a way of generating that reorders or hides rows
    ├── PromptError             a prompt that cannot be generated from
    ├── RecordingError          a recording cannot be read, or is not of what it is to be scored with
    ├── ConfigError             a setting that cannot hold
    │   └── BudgetError             a memory budget too small for what must fit
    ├── ExtraMissing            a library or program that only some uses need is not installed
    ├── WriteError              a file could not be written
    ├── ServerFull              a server has as many requests or sessions as it may
    ├── EngineFailed            a server's engine has ended by itself
    ├── SessionNotFound         no session of that id
    └── SessionBusy             a session is in a turn

A message is one line: the file or concept, what was found, what was expected, what to do.
"""


class PhoropterError(Exception):
    """Base of all errors that a user can act on; the CLI prints its message and exits with code 2."""


class PackError(PhoropterError):
    """A lens pack cannot be used."""


class PackNotFound(PackError):
    """There is no lens pack at the given path or hub id."""


class PackFormatError(PackError):
    """A file of a lens pack is not of the format, or contradicts another file."""


class PackIntegrityError(PackError):
    """Bytes of a lens pack are damaged: truncated, changed, or not finite."""


class PackMismatch(PackError):
    """A lens pack was made for another host, hidden size or site."""


class HierarchyError(PhoropterError):
    """Concepts do not form a forest: a cycle, an orphan, a duplicate id."""


class ConceptNotFound(PhoropterError):
    """No concept has this id."""


class SourceError(PhoropterError):
    """A source of concepts or texts (a WordNet database, say) is missing or damaged."""


class HostError(PhoropterError):
    """The host model cannot be found, loaded, hooked or watched."""


class UnsupportedDecoding(PhoropterError):
    """A way of generating that reorders or hides rows from the monitor."""


class PromptError(PhoropterError):
    """A prompt that cannot be generated from: empty, or longer than the context."""


class RecordingError(PhoropterError):
    """A recording of a run is missing, damaged, or of another host or site than a pack that is to score it."""


class ConfigError(PhoropterError):
    """A setting that cannot hold."""


class BudgetError(ConfigError):
    """A memory budget is too small for what must fit."""


class ExtraMissing(PhoropterError):
    """A library that is an extra of this package, or a program that only some uses need, is not installed."""


class WriteError(PhoropterError):
    """A file could not be written; nothing half-written is left."""


class ServerFull(PhoropterError):
    """A server has as many requests waiting as it may; `retry_after_s` is when to try again, in seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineFailed(PhoropterError):
    """A server's engine has ended by itself; nobody is served any more."""


class SessionNotFound(PhoropterError):
    """No session has this id: it never was, or is over."""


class SessionBusy(PhoropterError):
    """A session's turn was asked for while another one of it runs."""
