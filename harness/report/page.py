"""The one door to jinja2: the pages' templates, with everything escaped that they are given."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined


def rendered(template: str, **values: object) -> str:
    """Fill in a template of this package."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    """One for all pages: it keeps the templates that it has compiled."""
    return Environment(
        loader=PackageLoader("harness.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
