"""The JSON schema of boards.yaml, for editors: what parse/boards.py accepts, as far as a schema can express it, with
the descriptions from docs/boards.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.model.names import NAME_PATTERN
from harness.parse import boards

_OUTSIDE = {"type": "string", "pattern": r"^\$\{[^{}]+\}$", "description": "from the environment or a file"}
_NUMBERS = ("integer", "number")
Node = dict[str, Any]


def schema(docs: str) -> Node:
    """The schema as a JSON document. `docs` is the text of docs/boards.md: what follows a # in its examples describes
    the key before it."""
    raw = boards.raw_schema()
    definitions = {name: _plain(node) for name, node in raw["$defs"].items()}
    board = definitions["Board"]
    for (parent, key), text in _described(docs).items():
        for name in _definitions_of(parent, raw["$defs"]["Board"]):
            if key in definitions[name]["properties"]:
                definitions[name]["properties"][key]["description"] = text
    part = _part(board, definitions)
    like = {"type": "string", "description": "the entry of `defaults` that this one is laid over"}
    definitions["Default"] = part
    definitions["LikeADefault"] = {**part, "properties": {"like": like, **part["properties"]}}
    entry = {"if": {"required": ["like"]}, "then": _reference("LikeADefault"), "else": _reference("Board")}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",  # what editors know best
        "title": "boards.yaml",
        "type": "object",
        "additionalProperties": False,
        "required": ["boards"],
        "properties": {
            "boards": {
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
                "additionalProperties": entry,
                "description": "the machines, by name",
            },
            "defaults": {
                "type": "object",
                "additionalProperties": _reference("Default"),
                "description": "what entries with `like` have in common",
            },
        },
        "$defs": definitions,
    }


def _reference(name: str) -> Node:
    return {"$ref": f"#/$defs/{name}"}


def _plain(node: Any, *, tag: bool = False) -> Any:
    """`node` as pydantic made it, without what is for it alone, and with ${…} where a text may come to be what is
    expected. `tag`: it tells which kind of entry this is, and has to stand there."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _reference(node["$ref"].rpartition("/")[2])
    kept = {key: value for key, value in node.items() if key not in ("title", "discriminator", "default", "examples")}
    default = {"default": node["default"]} if node.get("default") is not None else {}
    if "properties" in kept:
        properties = {key: _plain(value, tag=key in ("kind", "method")) for key, value in kept["properties"].items()}
        return {**kept, "properties": properties}
    if "anyOf" in kept and all(option.get("type") in _NUMBERS for option in kept["anyOf"]):
        kept = dict(next(option for option in kept["anyOf"] if option["type"] == "number"))
    if "pattern" in kept:
        kept["pattern"] += r"|\$\{[^{}]+\}"
    made = {key: _plain(value) for key, value in kept.items()}
    if kept.get("type") in _NUMBERS or ("enum" in kept and not tag):
        made = {"anyOf": [made, dict(_OUTSIDE)]}
    return {**made, **default}


def _part(board: Node, definitions: dict[str, Node]) -> Node:
    """An entry of which any key may be missing, because another one has it."""
    properties = dict(board["properties"])
    for key, node in board["properties"].items():
        if any(_referenced(node)):
            definitions[f"Any{key.title()}"] = _loose(node, definitions)
            properties[key] = _reference(f"Any{key.title()}")
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _loose(node: Node, definitions: Mapping[str, Node]) -> Node:
    """`node` where keys may be missing: of all kinds that an entry may be, any keys."""
    kinds = [definitions[name] for name in _referenced(node)]
    if not kinds:
        return node
    properties: dict[str, Node] = {}
    for kind in kinds:
        for key, value in kind["properties"].items():
            loose = _loose(value, definitions)
            known = properties.get(key, loose)
            options = [*known.get("either", [known]), *([] if known == loose else [loose])]
            properties[key] = known if len(options) == 1 else {"either": options}
    merged = {key: {"anyOf": value["either"]} if "either" in value else value for key, value in properties.items()}
    return {"type": "object", "additionalProperties": False, "properties": merged}


def _referenced(node: Node) -> Iterator[str]:
    """The definitions that `node` may be."""
    if "$ref" in node:
        yield node["$ref"].rpartition("/")[2]
    for option in (*node.get("oneOf", ()), *node.get("anyOf", ())):
        yield from _referenced(option)


def _definitions_of(parent: str, board: Node) -> list[str]:
    """The definition that a mapping of docs/boards.md's examples shows: ``board``, ``limits``, ``boot uboot``."""
    key, _, kind = parent.partition(" ")
    if parent == "board":
        return ["Board"]
    node = board["properties"].get(key, {})
    for option in (node, *node.get("anyOf", ())):
        if kind in option.get("discriminator", {}).get("mapping", {}):
            return [option["discriminator"]["mapping"][kind].rpartition("/")[2]]
    return list(_referenced(_plain(node))) if not kind else []


def _described(docs: str) -> dict[tuple[str, str], str]:
    """What the examples' comments say, by mapping and key."""
    told: dict[tuple[str, str], str] = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", docs, re.DOTALL | re.MULTILINE):
        above: list[tuple[int, str]] = []
        last, kind = None, ""
        for line in block.splitlines():
            body, _, comment = line.partition(" #")
            if not body.strip():
                if last:
                    told[last] += f" {comment.strip()}"
                continue
            indent, (key, _, value) = len(body) - len(body.lstrip()), body.strip().partition(":")
            above = [(depth, name) for depth, name in above if depth < indent]
            names = [name for _, name in above]
            if key in ("kind", "method"):
                kind = value.strip()
            parent = f"{names[-1]} {kind}" if names else ""
            if names[:-1] == ["boards"]:
                parent = "board"
            elif names[-1:] == ["limits"]:
                parent = "limits"
            above.append((indent, key))
            last = (parent, key) if comment else None
            if last:
                told[last] = comment.strip()
    return told
