"""Parses Debian's package lists, as ``apt-cache show`` prints them."""

from __future__ import annotations

import re

from harness.errors import InfraError
from harness.model.names import is_name
from harness.model.package import AptPackage

_GAP = re.compile(r"\n\s*\n")
_FIELD = re.compile(r"^(Package|Version|SHA256|Size): *(\S+)", re.MULTILINE)
_DEPENDS = re.compile(r"^Depends: *(.+)$", re.MULTILINE)
_NAME = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")
_SHA256 = re.compile("[0-9a-f]{64}")
_SIZE = re.compile("[0-9]{1,15}")
_FIELDS = 4
_SHOWN = 200  # characters of a paragraph in a message


def parse_packages(text: str) -> list[AptPackage]:
    """Parse the paragraphs of packages; others are left out. Raises InfraError for one whose fields can't be parts of
    paths, or are no numbers."""
    return [found for paragraph in _GAP.split(text) if (found := _parse(paragraph))]


def _parse(paragraph: str) -> AptPackage | None:
    fields = dict(_FIELD.findall(paragraph))
    if len(fields) < _FIELDS:
        return None
    version = fields["Version"].partition(":")[2] or fields["Version"]  # without the epoch
    are_names = is_name(fields["Package"]) and is_name(version)
    if not (are_names and _SHA256.fullmatch(fields["SHA256"]) and _SIZE.fullmatch(fields["Size"])):
        raise InfraError(
            f"apt's package list: expected names, versions, sizes and SHA-256 sums, found {paragraph[:_SHOWN]!r}; see "
            "which archive it is from"
        )
    return AptPackage(
        name=fields["Package"],
        version=fields["Version"],
        sha256=fields["SHA256"],
        size=int(fields["Size"]),
        depends=_dependencies(paragraph),
    )


def _dependencies(paragraph: str) -> tuple[str, ...]:
    found = _DEPENDS.search(paragraph)
    names = (_NAME.match(part) for part in (found[1].split(",") if found else ()))
    return tuple(match[1] for match in names if match)
