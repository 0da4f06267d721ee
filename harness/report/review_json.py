"""A review in, one JSON document out. Keys are only ever added; any other change increments VERSION.

The fields are those of `harness.model.review.Review`, with ``version``, ``exit_code`` and ``is_well`` beside them.
Enumerations are their texts."""

from __future__ import annotations

import dataclasses
import json

from harness.model.review import Review

VERSION = 1


def review_json(review: Review) -> str:
    """Return the document, indented, ASCII only, with a line end."""
    document = {
        "version": VERSION,
        "exit_code": review.exit_code,
        "is_well": review.is_well,
        **dataclasses.asdict(review),
    }
    return json.dumps(document, indent=1) + "\n"
