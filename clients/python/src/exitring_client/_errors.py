"""What can go wrong, beside ``OSError`` and its ``ConnectionError``."""

from __future__ import annotations


class ServiceError(Exception):
    """The service refused a request. ``code`` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProtocolError(Exception):
    """The service said what this version does not understand."""


class Unwatched(Exception):
    """The process was being waited for when its watch was given up by ``unwatch``: no exit will come."""
