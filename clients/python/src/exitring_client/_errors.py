"""Exceptions, besides ``OSError`` and its ``ConnectionError``."""

from __future__ import annotations


class ServiceError(Exception):
    """The service refused a request. ``code`` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProtocolError(Exception):
    """The service sent a line that this version does not understand."""


class Unwatched(Exception):
    """``unwatch`` removed the watch while a task waited for its exit, which will not come."""
