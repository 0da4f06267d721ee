"""The records of builds and runs as JSON, both ways: build.json, and the properties of a run in events.jsonl and
results.json. Fields that an older harness did not write are read as empty."""

from __future__ import annotations

import json

from harness.model.record import (
    BoardRecord,
    BuildHost,
    BuildRecord,
    HarnessRecord,
    KernelRecord,
    PatchRecord,
    RunRecord,
    SourceRecord,
    ToolchainRecord,
)
from harness.parse.fields import Fields, filled, finite, json_object

_BOARD_DETAILS = ("accelerator", "threads")  # the properties that boot methods report of their boards


def build_record_to_json(record: BuildRecord) -> str:
    """The text of a build.json."""
    kernel = record.kernel
    toolchain = kernel.toolchain
    data = {
        "key": record.key,
        "kernel": kernel.key,
        "made": kernel.made,
        "release": kernel.release,
        "source": _source_data(kernel.source),
        "patches": _patches_data(kernel),
        "fragments": list(kernel.fragments),
        "toolchain": {
            "name": toolchain.name,
            "command": toolchain.command,
            "version": toolchain.version,
            "patchable_function_entry": toolchain.patchable,
        },
        "host": {"machine": record.host.machine, "system": record.host.system, "cpus": record.host.cpus},
        "times": dict(record.times),
        "reproduce": record.reproduce,
        **filled(sandbox=kernel.sandbox, era_fixes=dict(kernel.era_fixes)),
        "without": dict(kernel.without),
        "test_modules_left_out": dict(record.left_out),
        **filled(not_built=dict(record.unbuilt)),
        **({"manifest": True} if record.has_manifest else {}),
        **filled(errors=list(record.errors)),
    }
    return json.dumps(data, indent=2) + "\n"


def build_record_from_json(text: str) -> BuildRecord:
    """Parse a build.json. Raises ValueError if it is malformed, or does not name the build and its kernel."""
    data = json_object(text)
    for key, kind in (("key", str), ("release", str), ("without", dict), ("test_modules_left_out", dict)):
        if not isinstance(data.get(key), kind):
            raise ValueError(f"{key}: expected {_WORDS[kind]}, found {data.get(key)!r}")
    fields = Fields(data)
    tools, host = fields.inner("toolchain"), fields.inner("host")
    times = fields.take("times")
    patchable = tools.take("patchable_function_entry")
    return BuildRecord(
        key=fields.text("key"),
        kernel=KernelRecord(
            release=fields.text("release"),
            key=fields.text("kernel"),
            made=fields.text("made"),
            source=_source(fields.inner("source")),
            patches=_patches(fields),
            fragments=fields.texts("fragments"),
            toolchain=ToolchainRecord(
                name=tools.text("name"),
                command=tools.text("command"),
                version=tools.text("version"),
                patchable=patchable if isinstance(patchable, bool) else None,
            ),
            without=fields.texts_by_name("without"),
            sandbox=fields.text("sandbox"),
            era_fixes=fields.texts_by_name("era_fixes"),
        ),
        left_out=fields.texts_by_name("test_modules_left_out"),
        unbuilt=fields.texts_by_name("not_built"),
        host=BuildHost(machine=host.text("machine"), system=host.text("system"), cpus=host.count("cpus")),
        times=_times(times),
        reproduce=fields.text("reproduce"),
        has_manifest=fields.flag("manifest"),
        errors=fields.texts("errors"),
    )


_WORDS = {str: "a string", dict: "an object"}


def run_record_to_data(record: RunRecord) -> dict[str, object]:
    """The properties of a run, on one level as far as they can be: ``kernel`` is its release. None of a run of which
    nothing is known."""
    if record == RunRecord():
        return {}
    kernel = record.kernel
    harness = record.harness
    return {
        **filled(id=record.id),
        "schema": record.schema,
        "harness": harness.version,
        **filled(harness_commit=harness.commit, harness_modified=harness.is_dirty or None),
        "kernel": kernel.release,
        "version": kernel.source.version,
        "source": _source_data(kernel.source),
        "patches": _patches_data(kernel),
        "compiler": kernel.toolchain.compiler,
        "toolchain": kernel.toolchain.name,
        "fragments": list(kernel.fragments),
        "build": record.build,
        "kernel_key": kernel.key,
        "kernel_made": kernel.made,
        **filled(sandbox=kernel.sandbox, era_fixes=dict(kernel.era_fixes)),
        "testcases": record.testcases,
        "board": record.board.name,
        "suites": list(record.suites),
        "keyword": record.keyword,
        "isolation": record.isolation,
        "workers": record.workers,
        "host": record.host,
        "without": dict(kernel.without),
        **record.board.details,
        **filled(command=record.command, boards=list(record.boards)),
    }


def run_record_from_fields(fields: Fields, *, schema: int) -> RunRecord:
    """What `run_record_to_data` made; `schema`: the version of a harness that wrote none."""
    compiler = fields.text("compiler")
    command, _, version = compiler.rpartition(" ") if " " in compiler else (compiler, "", "")
    source = _source(fields.inner("source"))
    fields.take("version")  # the source's
    return RunRecord(
        id=fields.text("id"),
        schema=fields.count("schema", schema),
        harness=HarnessRecord(
            version=fields.text("harness"),
            commit=fields.text("harness_commit"),
            is_dirty=fields.flag("harness_modified"),
        ),
        host=fields.text("host"),
        build=fields.text("build"),
        kernel=KernelRecord(
            release=fields.text("kernel"),
            key=fields.text("kernel_key"),
            made=fields.text("kernel_made"),
            source=source,
            patches=_patches(fields),
            fragments=fields.texts("fragments"),
            toolchain=ToolchainRecord(name=fields.text("toolchain"), command=command, version=version),
            without=fields.texts_by_name("without"),
            sandbox=fields.text("sandbox"),
            era_fixes=fields.texts_by_name("era_fixes"),
        ),
        board=BoardRecord(
            name=fields.text("board"),
            details={name: fields.text(name) for name in _BOARD_DETAILS if name in fields},
        ),
        boards=fields.texts("boards"),
        suites=fields.texts("suites"),
        keyword=fields.text("keyword"),
        isolation=fields.text("isolation"),
        workers=fields.count("workers", 1),
        testcases=fields.text("testcases"),
        command=fields.text("command"),
    )


def _source_data(source: SourceRecord) -> dict[str, object]:
    return filled(spec=source.spec, version=source.version, checksum=source.checksum, identity=source.identity)


def _source(fields: Fields) -> SourceRecord:
    return SourceRecord(
        spec=fields.text("spec"),
        version=fields.text("version"),
        checksum=fields.text("checksum"),
        identity=fields.text("identity"),
    )


def _patches_data(kernel: KernelRecord) -> list[dict[str, str]]:
    return [{"name": patch.name, "sha256": patch.sha256} for patch in kernel.patches]


def _patches(fields: Fields) -> tuple[PatchRecord, ...]:
    return tuple(PatchRecord(name=each.text("name"), sha256=each.text("sha256")) for each in fields.inners("patches"))


def _times(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        return {}
    numbers = {str(name): finite(seconds) for name, seconds in value.items()}
    return {name: seconds for name, seconds in numbers.items() if seconds is not None}
