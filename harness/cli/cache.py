"""`harness cache`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from harness.cli.options import seconds_of
from harness.cli.output import tell
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.build.contents import Item


def _complete_kind(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from harness.build.contents import KINDS

    return [kind for kind in KINDS if kind.startswith(incomplete)]


def _checked_kinds(_context: click.Context, _parameter: click.Parameter, given: Sequence[str]) -> Sequence[str]:
    from harness.build.contents import KINDS

    for kind in given:
        if kind not in KINDS:
            raise click.BadParameter(f"expected one of {', '.join(KINDS)}, found {kind!r}")
    return given


_KINDS = click.argument("kinds", nargs=-1, metavar="[KIND]...", callback=_checked_kinds, shell_complete=_complete_kind)


@click.group(
    invoke_without_command=True,
    epilog="Examples: harness cache   ·   harness cache limit   ·   harness cache clean --dry-run",
)
@click.pass_context
def cache(context: click.Context) -> None:
    """Show what the cache holds and its limits, and clean it. What somebody uses is never removed."""
    if context.invoked_subcommand is None:
        _show(())


@cache.command("show", epilog="Examples: harness cache show   ·   harness cache show builds workspaces")
@_KINDS
def show(kinds: Sequence[str]) -> None:
    """Show the size and age of what there is by kind, and how much of it is in use; of a KIND, each entry."""
    _show(kinds)


def _show(kinds: Sequence[str]) -> None:
    from harness.build.cache import cache_root
    from harness.build.contents import KINDS, OTHER, items, limit_lines

    limits = limit_lines()
    if kinds:
        for item in items(kinds):
            tell(f"{_size(item.size)}  {_age(item)}  {'in use' if item.is_in_use else '      '}  {item.name}")
        return
    found = list(items())
    tell(f"{'kind':<11} entries       size  in use  last used")
    for kind, what in KINDS.items():
        if these := [item for item in found if item.kind == kind]:
            used = sum(item.is_in_use for item in these)
            ages = _age(max(these, key=lambda item: item.used)), _age(min(these, key=lambda item: item.used))
            span = ages[0].strip() if ages[0] == ages[1] else f"{ages[0].strip()} to {ages[1].strip()}"
            tell(f"{kind:<11} {len(these):>7}  {_size(sum(item.size for item in these))}  {used:>6}  {span} ({what})")
    others = [item for item in found if item.kind == OTHER]
    size, names = _size(sum(item.size for item in others)), ", ".join(item.name for item in others)
    tell(f"{OTHER:<11} {len(others):>7}  {size}  not cleaned: {names or 'none'}")
    tell(f"together {_size(sum(item.size for item in found)).strip()} in {cache_root()}")
    for line in limits:
        tell(f"limit   {line}")


@cache.command("limit", epilog="Example: HARNESS_CACHE_GB=20 harness cache limit")
def limit() -> None:
    """Show the limits of the cache, and how to set them."""
    from harness.build.contents import limit_lines

    for line in limit_lines():
        tell(line)


@cache.command(
    "clean", epilog="Examples: harness cache clean --dry-run   ·   harness cache clean builds --older-than 2w"
)
@_KINDS
@click.option(
    "--older-than", "age", metavar="AGE", help="Only what was not used for so long: days or weeks, as 30d or 4w."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def clean(kinds: Sequence[str], age: str | None, dry_run: bool) -> None:
    """Remove what exceeds the limits, and what killed commands left; or everything of a KIND. With --older-than and no
    KIND, of all kinds. What somebody uses stays."""
    from harness.build.contents import KINDS, items, surplus
    from harness.build.prune import limits_from_environment

    verb, removed = "would remove" if dry_run else "removed", 0
    before = None if age is None else time.time() - seconds_of(age)
    if not kinds and before is None:
        for item, why in surplus(limits_from_environment(), dry_run=dry_run):
            tell(f"{verb} {item.name} ({_size(item.size).strip()}): {why}")
            removed += item.size
    else:
        for item in items(kinds or tuple(KINDS)):
            if before is None or item.used < before:
                removed += _cleaned(item, verb, dry_run=dry_run)
    tell(f"{verb} {_size(removed).strip()} in all")


def _cleaned(item: Item, verb: str, *, dry_run: bool) -> int:
    """Remove an item and say so; return how much room that gave."""
    why = "somebody uses it"
    is_removed = False
    try:
        is_removed = not item.is_in_use if dry_run else bool(item.remove and item.remove())
    except HarnessError as error:
        why = error.message
    except OSError as error:
        why = f"can't be removed: {error.strerror}"
    told = _size(item.size).strip()
    tell(f"{verb} {item.name} ({told})" if is_removed else f"kept {item.name} ({told}): {why}")
    return item.size if is_removed else 0


def _size(size: float) -> str:
    """In GB, or in MB if it is less, in nine characters."""
    return f"{size / 1e9:6.1f} GB" if size >= 1e9 else f"{size / 1e6:6.1f} MB"


def _age(item: Item) -> str:
    seconds = max(0.0, time.time() - item.used)
    for unit, length in (("d", 86400.0), ("h", 3600.0)):
        if seconds >= length:
            return f"{seconds / length:5.0f} {unit} ago"
    return f"{seconds / 60:5.0f} m ago"
