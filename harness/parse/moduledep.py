"""What a module needs to be loaded first, from the files that depmod writes beside the modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_SOFTDEP = re.compile(r"softdep[ \t]+(\S+)[ \t]+(.*)")
_MOST_NESTED = 50  # wishes of what is wished for
_ALIAS = re.compile(r"alias[ \t]+(\S+)[ \t]+(\S+)")


@dataclass(frozen=True, kw_only=True)
class ModuleDependencies:
    """`paths`: from a module's name to its file; `needs`: to the names of all those that it needs, in the order that
    they are loaded; `wishes`: to names or aliases that should be loaded before; `aliases`: from an alias to names."""

    paths: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wishes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def order_for(self, wanted: Iterable[str]) -> list[str]:
        """The files to load, in order, for the modules `wanted`, as far as they exist."""
        names: dict[str, None] = {}
        for name in wanted:
            self._add(module_name(name), names, [])
        return [self.paths[name] for name in names]

    def _add(self, name: str, names: dict[str, None], above: list[str]) -> None:
        """`above`: those for which `name` is loaded; a circle ends there."""
        if name in names or name in above or name not in self.paths or len(above) > _MOST_NESTED:
            return
        first = [each for wish in self.wishes.get(name, ()) for each in self._called(wish)]
        above.append(name)
        for each in (*first, *self.needs.get(name, ())):
            self._add(each, names, above)
        above.pop()
        names[name] = None

    def _called(self, wish: str) -> Iterator[str]:
        """The modules that `wish` means: one of that name, or of that alias. ext4 wishes for crc32c, which is an
        algorithm of the kernel's crypto API."""
        yield module_name(wish)
        yield from self.aliases.get(f"crypto-{wish}", ())
        yield from self.aliases.get(wish, ())


def parse_dependencies(dep: str, *, softdep: str = "", alias: str = "") -> ModuleDependencies:
    """Parse the texts of modules.dep, modules.softdep and modules.alias. Lines that are none are left out."""
    paths: dict[str, str] = {}
    needs: dict[str, tuple[str, ...]] = {}
    for line in dep.splitlines():
        path, colon, rest = line.partition(":")
        if colon:
            name = module_name(path)
            paths[name] = path
            needs[name] = tuple(module_name(each) for each in reversed(rest.split()))
    wishes: dict[str, list[str]] = {}
    for line in softdep.splitlines():
        if match := _SOFTDEP.fullmatch(line.strip()):
            wishes.setdefault(module_name(match[1]), []).extend(_before(match[2].split()))
    aliases: dict[str, list[str]] = {}
    for line in alias.splitlines():
        if match := _ALIAS.fullmatch(line.strip()):
            aliases.setdefault(match[1], []).append(module_name(match[2]))
    return ModuleDependencies(paths=paths, needs=needs, wishes=_frozen(wishes), aliases=_frozen(aliases))


def _frozen(names: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(found) for name, found in names.items()}


def _before(words: Iterable[str]) -> Iterator[str]:
    """Those behind ``pre:``."""
    is_before = False
    for word in words:
        if word.endswith(":"):
            is_before = word == "pre:"
        elif is_before:
            yield word


def module_name(path: str) -> str:
    """The name of the module in the file `path`, as the kernel says it."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
