"""From a page to another one: as addresses that a server answers, or as files beside each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Protocol
from urllib.parse import urlencode

STYLE = "style.css"
_SLUG = 60  # characters of a name that its file shows


class Links(Protocol):
    """Where pages are. All links are relative, so they work behind a proxy's prefix and from a directory."""

    @property
    def is_live(self) -> bool:
        """Whether a server answers: forms and filters are of use."""

    def to(self, page: str, words: Mapping[str, str], filtered: Mapping[str, str]) -> str | None:
        """Return the link to a page. `words` are the parameters that make it this page, `filtered` what part of the
        history it is to show. None if there is no such page."""


class Served:
    """Addresses of a server."""

    is_live = True

    def to(self, page: str, words: Mapping[str, str], filtered: Mapping[str, str]) -> str:
        """Return the address."""
        query = urlencode({name: value for name, value in {**words, **filtered}.items() if value})
        name = "./" if page == "index" else page
        return f"{name}?{query}" if query else name


class Exported:
    """Files of an export. They were made with one filter, so links keep none."""

    is_live = False

    def __init__(self, files: Collection[str]) -> None:
        self._files = frozenset(files)

    def to(self, page: str, words: Mapping[str, str], filtered: Mapping[str, str]) -> str | None:
        """Return the name of the file, if there is one."""
        name = file_name(page, words)
        return name if name in self._files else None


def file_name(page: str, words: Mapping[str, str]) -> str:
    """Return the name of a page's file: readable, and of no other page, whatever a target called its tests."""
    given = [(name, value) for name, value in sorted(words.items()) if value]
    if not given:
        return f"{page}.html"
    digest = hashlib.blake2b(repr(given).encode("utf-8", "backslashreplace"), digest_size=6).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(value for _, value in given).lower()).strip("-")
    return f"{page}-{slug[-_SLUG:].strip('-')}-{digest}.html"
