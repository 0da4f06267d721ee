"""Which value of --kernel means a kernel that is built already."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.campaign.kernel import _reproduce, build_for, kernel_for
from harness.campaign.request import BuildOptions
from harness.cli.main import cli
from harness.errors import UserError
from harness.model.boot import QemuBoot
from harness.model.prebuilt import PrebuiltKind
from tests.boards import spec
from tests.unit.tinykernel import image, write_files
from tests.unit.toytree import Recorder

SUM = "0" * 64
OPTIONS = BuildOptions(
    build_dir=None,
    kernel="debian-image:linux-image-arm64@trixie",
    patches=(),
    kconfigs=(),
    toolchain=None,
    allow_plain_ftrace=False,
    jobs=None,
)


@pytest.mark.parametrize(
    "options",
    [dataclasses.replace(OPTIONS, patches=(Path("x"),)), dataclasses.replace(OPTIONS, kconfigs=(Path("x"),))],
    ids=["--patches", "--kconfig"],
)
def test_a_built_kernel_can_not_be_changed(options: BuildOptions) -> None:
    with pytest.raises(UserError, match="is a finished kernel: --patches and --kconfig can't change it"):
        build_for(options, spec("b", boot=QemuBoot()), Recorder())


@pytest.mark.parametrize(("is_booted", "expected"), [(True, ["begun", "assembled"]), (False, ["assembled"])])
def test_the_root_image_is_made_while_a_kernel_is_unpacked_that_is_booted(
    is_booted: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    @contextlib.contextmanager
    def begun(_: object) -> Iterator[None]:
        done.append("begun")
        yield

    monkeypatch.setattr("harness.build.rootfs.begun", begun)
    monkeypatch.setattr("harness.build.host.ensure_host", lambda **_: None)
    monkeypatch.setattr("harness.campaign.kernel.wish_for", lambda *_: None)
    monkeypatch.setattr("harness.campaign.kernel.assemble", lambda *_args, **_more: done.append("assembled"))
    build_for(OPTIONS, spec("b", boot=QemuBoot()), Recorder(), is_booted=is_booted)
    assert done == expected


def test_a_built_kernel_is_no_source_for_others() -> None:
    with pytest.raises(UserError, match="expected a source to build kernels from, found a kernel that is built"):
        kernel_for(OPTIONS, spec("b", boot=QemuBoot()), Recorder())


def test_selftests_of_a_source_are_its_own(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, kernel="7.3.4", selftests_dir=tmp_path)
    with pytest.raises(UserError, match="--selftests is for a kernel that was built elsewhere"):
        build_for(options, spec("b", boot=QemuBoot()), Recorder())


@pytest.mark.parametrize(
    ("text", "kind", "location", "ref"),
    [
        ("debian-image:linux-image-arm64@trixie", PrebuiltKind.DEBIAN, "linux-image-arm64", "trixie"),
        ("debian-image:@bookworm-security", PrebuiltKind.DEBIAN, "linux-image-arm64", "bookworm-security"),
    ],
)
def test_debians_kernels_by_name(text: str, kind: PrebuiltKind, location: str, ref: str) -> None:
    found = parse_prebuilt_spec(text)
    assert found is not None
    assert (found.kind, found.location, found.ref, found.text) == (kind, location, ref, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("debian-image:linux-image-arm64", "the suite is missing: debian-image:linux-image-arm64@trixie"),
        ("debian-image:bash@trixie", "expected a package such as linux-image-arm64, found 'bash'"),
        ("debian-image:linux-image-arm64@../x", "expected the name of a Debian suite"),
        ("prebuilt:missing", "no such file or directory"),
        ("missing.deb", "no such file or directory"),
        ("https://example.org/k.deb", "expected a checksum behind the URL, #sha256= and 64 hexadecimal digits"),
        ("https://example.org/k.deb#sha256=12", "expected a checksum behind the URL"),
        (f"https://me:secret@example.org/k.deb#sha256={SUM}", "without a user and a query"),
        (f"https://example.org/k.exe#sha256={SUM}", "expected a file whose name ends in one of .deb, .rpm, .tar"),
        (f"https://[::1/k.deb#sha256={SUM}", "expected a URL of a host and a path"),
        (f"https://example.org:port/k.deb#sha256={SUM}", "expected a URL of a host and a path"),
        (f"https://example.org/a b/k.deb#sha256={SUM}", "expected a URL of a host and a path"),
        (f"https://example.org/a\r\nHost: b/k.deb#sha256={SUM}", "expected a URL of a host and a path"),
        (f"https://example.org/%2e%2e%2fk.deb#sha256={SUM}", "expected a file whose name ends in one of .deb"),
        ("prebuilt:", "prebuilt:: expected a path or a URL behind it, found nothing"),
        ("prebuilt:~no-such-user-here/k.deb", "expected a path, found ~ of a user"),
        ("debian-image:linux-image-arm64-dbg@trixie", "expected a package such as linux-image-arm64, found"),
    ],
)
def test_specs_that_mean_nothing(text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_prebuilt_spec(text)
    assert told in caught.value.message


@pytest.mark.parametrize("name", ["Image", "vmlinuz.efi", "boot/vmlinuz-7.3", "lib/modules/7.3/modules.order"])
def test_a_directory_with_a_built_kernel_needs_no_prefix(name: str, tmp_path: Path) -> None:
    found = parse_prebuilt_spec(str(write_files(tmp_path, {name: b""})))
    assert found is not None
    assert (found.kind, found.location) == (PrebuiltKind.DIRECTORY, str(tmp_path))


def test_sources_are_not_taken_for_built_kernels(tmp_path: Path) -> None:
    write_files(tmp_path / "linux", {"Kconfig": b"", "Makefile": b"", "Image": image()})
    (tmp_path / "linux.tar.xz").touch()
    texts = [
        "7.3.4",
        "debian:@trixie-backports",
        "git:x#topic.deb",
        str(tmp_path / "linux"),
        str(tmp_path / "linux.tar.xz"),
    ]
    assert [parse_prebuilt_spec(text) for text in texts] == [None] * 5


def test_a_name_in_a_url_may_be_encoded() -> None:
    found = parse_prebuilt_spec(f"https://example.org/linux-image-7.3%2Bdeb13_1_arm64.deb#sha256={SUM}")
    assert found is not None
    assert found.location == "https://example.org/linux-image-7.3%2Bdeb13_1_arm64.deb"


def test_a_build_is_repeated_with_the_same_selftests(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, selftests_dir=tmp_path)
    words = _reproduce(options, "debian-image:linux-image-arm64@trixie").split()
    assert words[words.index("--selftests") + 1] == str(tmp_path)


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_no_verb_has_two_options_of_one_name(verb: str) -> None:
    """`harness mutants` has a --selftests of its own."""
    options = [name for parameter in cli.commands[verb].params for name in parameter.opts if name.startswith("-")]
    assert len(options) == len(set(options))
