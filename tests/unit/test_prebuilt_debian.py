"""Debian's kernels: which packages have their parts, and what is built from them with a toy of each."""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.build import command, guesttools, host, sandbox
from harness.build.confinement import Confinement
from harness.build.finished import load_record
from harness.build.prebuilt import assemble as assembling
from harness.build.prebuilt import headers as headers_of
from harness.build.prebuilt import programs
from harness.build.prebuilt.assemble import Wish, assemble
from harness.build.prebuilt.headers import LOADERS
from harness.build.prebuilt.resolve import Prebuilt, resolve_prebuilt
from harness.build.prebuilt.spec import parse_prebuilt_spec
from harness.build.sandbox import Sandbox, View
from harness.cli.main import cli
from harness.errors import InfraError, UserError
from harness.model.kernel import Build, Toolchain
from harness.model.suite import LIVEPATCH
from harness.run.suites.selftests import why_not
from harness.shortage import Shortage
from tests.faults.catalogue import Blame, fault
from tests.unit.fakeapt import FakeApt
from tests.unit.tinyelf import REL, TinyElf
from tests.unit.tinykernel import CONFIG, RELEASE, build_deb, build_rpm, image, kernel_files
from tests.unit.toytree import Recorder, pack, write_script

RELEASE_72 = "7.2.1+deb13-arm64"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    return FakeApt.in_place(tmp_path, monkeypatch)


def debians(fake: FakeApt, *, source: str = "7.2.1-1") -> None:
    """A kernel in the packages that Debian has cut since 6.19: the one that is named has nothing in it."""
    parts = ("image", "binary", "base", "modules", "headers")
    names = ["linux-image-arm64", *(f"linux-{part}-{RELEASE_72}" for part in parts)]
    names += ["linux-headers-7.2.1+deb13-common", "linux-kbuild-7.2.1+deb13", "bash"]
    depends = {
        "linux-image-arm64": f"linux-image-{RELEASE_72} (= 7.2.1-1)",
        f"linux-image-{RELEASE_72}": f"bash, linux-binary-{RELEASE_72} (= 7.2.1-1), linux-modules-{RELEASE_72}",
        f"linux-modules-{RELEASE_72}": f"kmod, linux-base-{RELEASE_72} (= 7.2.1-1)",
        f"linux-headers-{RELEASE_72}": f"linux-image-{RELEASE_72}, linux-headers-7.2.1+deb13-common, "
        "linux-kbuild-7.2.1+deb13",
    }
    fake.packages({**dict.fromkeys(names, "7.2.1-1"), "linux-source-7.2": source}, depends=depends)


def resolved(text: str = "debian-image:linux-image-arm64@trixie-backports") -> Prebuilt:
    spec = parse_prebuilt_spec(text)
    assert spec is not None
    return resolve_prebuilt(spec, progress=Recorder())


def test_the_parts_of_debians_kernel_are_found_by_their_dependencies(fake: FakeApt) -> None:
    debians(fake)
    found = resolved()
    assert found.version == "7.2.1-1"
    assert found.headers is not None
    assert not fake.calls("download"), "what is in the cache already needs no package"
    names = [path.name.partition("_")[0] for path in found.fetch(Recorder(), None)]
    assert sorted(names) == sorted(f"linux-{part}-{RELEASE_72}" for part in ("image", "binary", "modules", "base"))
    headers = [path.name.partition("_")[0] for path in found.headers.fetch(Recorder(), None)]
    assert headers == [f"linux-headers-{RELEASE_72}", "linux-headers-7.2.1+deb13-common", "linux-kbuild-7.2.1+deb13"]


@fault("another harness removes the packages of a kernel that shares some with ours", where="two users",
       blame=Blame.NOBODY, survives="the packages that are being unpacked")  # fmt: skip
def test_packages_stay_until_they_are_unpacked(fake: FakeApt, tmp_path: Path) -> None:
    debians(fake)
    found = resolved()
    assert found.headers is not None
    (tmp_path / "ours").mkdir()
    packages = [*found.fetch(Recorder(), tmp_path / "ours"), *found.headers.fetch(Recorder(), tmp_path / "ours")]
    found.forget()
    assert [path.read_bytes() for path in packages] == [b"deb"] * 7
    assert not list((tmp_path / "cache").rglob("*.deb"))


def test_selftests_come_from_the_source_of_the_very_version(fake: FakeApt) -> None:
    debians(fake)
    found = resolved()
    assert found.source is not None
    assert found.source[0] == "debian:linux-source-7.2@trixie-backports"
    debians(fake, source="7.2.2-1")
    assert resolved().source is None


def test_a_kernel_without_a_headers_package_has_none(fake: FakeApt) -> None:
    fake.packages({f"linux-image-{RELEASE_72}": "7.2.1-1"})
    found = resolved(f"debian-image:linux-image-{RELEASE_72}@trixie")
    assert found.headers is None
    assert found.source is None


def test_a_package_without_a_kernel_is_refused(fake: FakeApt) -> None:
    fake.packages({"linux-image-arm64": "1"})
    with pytest.raises(UserError, match=r"found that linux-image-arm64 needs none"):
        resolved()


def test_fetch_downloads_the_packages_of_a_kernel(fake: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    debians(fake)
    monkeypatch.setattr(host, "ensure_host", lambda **_: None)
    done = CliRunner().invoke(cli, ["fetch", "--kernel", "debian-image:linux-image-arm64@trixie-backports"])
    assert done.exit_code == 0, done.output
    first, *paths = done.stdout.splitlines()
    assert re.fullmatch(r"7\.2\.1-1 sha256:[0-9a-f]{64}", first)
    assert len(paths) == 4
    assert all(Path(path).is_file() for path in paths)


def test_a_source_without_selftests_costs_only_them(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_is_of_selftests", lambda _name: False)
    build = from_debian(fake, tmp_path, monkeypatch, compiler=OLDER)
    assert build.unbuilt["selftests/ftrace"] == f"debian:linux-source-7.3@{SUITE} has none"
    assert (build.directory / "testmodules/watch.ko").is_file()


@pytest.mark.parametrize(
    ("modpost", "executable"), [('echo "GLIBC_2.99 not found" >&2; exit 1', True), ("exit 0", False)]
)
@fault("the programs of a headers package can't run on this host, and no suite has what they need",
       where="hostile input", blame=Blame.NOBODY, survives="the kernel, without test modules")  # fmt: skip
def test_headers_whose_programs_do_not_run_cost_the_modules(
    modpost: str, executable: bool, fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "debs"
    directory.mkdir()
    package = debian_kernel(tmp_path, modpost, executable=executable)
    for name in ("image", "headers"):
        (directory / f"linux-{name}-{RELEASE}_1_arm64.deb").write_bytes(package)
    build = assembled(f"prebuilt:{directory}", tmp_path, monkeypatch, compiler=OLDER)
    program = "usr/lib/linux-kbuild-7.3/scripts/mod/modpost"
    why = (
        "needs a newer C library than this host has" if executable else "expected a program, found a file that is none"
    )
    assert build.left_out["watch"].endswith(f"{program}: {why}")
    assert build.broken == {}


@fault("the disk is full while a headers package is adapted", where="disk", blame=Blame.INFRA,
       survives="nothing that says that the modules can't be built")  # fmt: skip
def test_a_full_disk_is_no_fault_of_the_headers(fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(headers_of, "_adapt", full)
    with pytest.raises(Shortage, match="no space left on device"):
        from_debian(fake, tmp_path, monkeypatch)
    assert not list((tmp_path / "cache/arm64-ftrace-harness/builds").glob("[0-9a-f]*"))


# in the sandbox


def test_what_reads_packages_and_modules_runs_in_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(guesttools, "compile_tools", lambda *_args, **_more: None)
    if not shutil.which("depmod", path=command.SYSTEM_PATH):
        pytest.skip("depmod is not installed (package kmod)")
    try:
        sandbox.find_sandbox()
    except InfraError as error:
        pytest.skip(error.message)
    confined: list[str] = []
    confine = Sandbox.confine

    def noted(self: Sandbox, view: View) -> Confinement:
        confined.append(view.root.name)
        return confine(self, view)

    monkeypatch.setattr(Sandbox, "confine", noted)
    module = TinyElf(REL)
    module.section(".modinfo", b"license=GPL\0")
    base = f"lib/modules/{RELEASE}"
    files = {f"{base}/vmlinuz": image(), f"{base}/config": CONFIG.encode(), f"{base}/kernel/a.ko": module.bytes()}
    package = build_rpm(tmp_path / "kernel-core.rpm", files)
    build = assembled(str(package), tmp_path, monkeypatch, compiler="exit 0", is_sandboxed=True)
    modules = build.directory / "modules" / RELEASE
    assert (modules / "modules.dep").read_text() == "kernel/a.ko:\n"
    assert "payload" in confined, "depmod"
    assert len(set(confined) - {"payload", "sandbox-trial", "workspace"}) == 1, "bsdtar"


# from the packages to a build

HEADERS = f"usr/src/linux-headers-{RELEASE}"
SUITE = "trixie-backports"
LOADER = LOADERS[platform.machine()]
RULES = """\
install:
\ttest -d $(O) && mkdir -p $(INSTALL_PATH)/$(TARGETS) && cp -r $(TARGETS)/. $(INSTALL_PATH)/$(TARGETS)
"""


def debian_kernel(
    tmp_path: Path,
    modpost: str,
    headers: str = HEADERS,
    without: str = "",
    *,
    executable: bool = True,
    config_of_kernel: str = CONFIG,
) -> bytes:
    """A package that is all of a kernel's packages at once: kernel, headers, tools, and the source."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed (package dpkg)")
    selftests = tmp_path / "linux-source-7.3/tools/testing/selftests"
    (selftests / "ftrace/test.d").mkdir(parents=True)
    (selftests / "Makefile").write_text(RULES)
    (selftests / "livepatch/test_modules").mkdir(parents=True)
    (selftests / "livepatch/Makefile").touch()
    (selftests / "livepatch/test-a.sh").touch()
    (selftests / "ftrace/Makefile").touch()
    (selftests / "ftrace/ftracetest").write_text("#!/bin/sh\n")
    (selftests / "ftrace/test.d/a.tc").write_text("# description: a\n")
    (tmp_path / "linux-source-7.3/drivers").mkdir()
    (tmp_path / "linux-source-7.3/drivers/huge.c").write_text("int huge;\n")
    (tmp_path / "linux-source-7.3/Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\n")
    source = pack(tmp_path / "linux-source-7.3", tmp_path / "linux-source-7.3.tar.xz").read_bytes()
    module = TinyElf(REL)
    module.section(".modinfo", b"license=GPL\0")
    kbuild = "usr/lib/linux-kbuild-7.3/scripts/mod"
    makefile = "\n\t".join(
        (
            "modules:",
            f"! grep MIN_FUNCTION_ALIGNMENT /{headers}/include/config/auto.conf",
            f"grep FUNCTION_TRACER /{headers}/include/generated/autoconf.h",
            f"! grep SANE_FUNCTION_ALIGNMENT /{headers}/include/generated/autoconf.h",
            f"! test -e /{headers}/vmlinux",
            f"for f in $(M)/*.c; do cp /{headers}/module.ko $${{f%.c}}.ko; done",
            f"/{kbuild}/modpost",
        )
    )
    config = "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=y\nCONFIG_FUNCTION_TRACER=y\n"
    files = {
        **kernel_files(modules={"a.ko.xz": b"a"}, config=config_of_kernel),
        "usr/src/linux-source-7.3.tar.xz": source,
        f"{headers}/Makefile": f"{makefile}\n".encode(),
        f"{headers}/module.ko": module.bytes(),
        f"{headers}/vmlinux": b"BTF",
        f"{headers}/include/config/auto.conf": config.encode(),
        f"{headers}/include/generated/autoconf.h": (
            b"#define CONFIG_FUNCTION_TRACER 1\n#define CONFIG_CC_HAS_SANE_FUNCTION_ALIGNMENT 1\n"
        ),
        f"{kbuild}/modpost": f"#!/bin/sh\n{modpost}\n".encode(),
        LOADER: b"#!/bin/sh\nexec env LOADED=1 sh $3\n",
    }
    files.pop(f"{headers}/{without}", None)
    return build_deb(
        tmp_path / "all.deb", files, executable=[f"{kbuild}/modpost", LOADER][not executable :]
    ).read_bytes()


def from_debian(
    fake: FakeApt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    compiler: str = "exit 0",
    modpost: str = "exit 0",
    headers: str = HEADERS,
    without: str = "",
    config: str = CONFIG,
) -> Build:
    """The build of a toy kernel in packages of Debian's, with one testcase's module."""
    names = [f"linux-image-{RELEASE}", f"linux-headers-{RELEASE}", "linux-kbuild-7.3", "linux-source-7.3", "libc6"]
    depends = {f"linux-headers-{RELEASE}": "linux-kbuild-7.3"}
    deb = debian_kernel(tmp_path, modpost, headers, without, config_of_kernel=config)
    fake.packages(dict.fromkeys(names, "7.3.4-1"), deb=deb, depends=depends)
    return assembled(f"debian-image:linux-image-{RELEASE}@{SUITE}", tmp_path, monkeypatch, compiler=compiler)


def assembled(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, compiler: str, is_sandboxed: bool = False
) -> Build:
    """The build of the kernel that `text` means, with one testcase's module. Outside of the sandbox there is no
    depmod."""
    if not is_sandboxed:
        monkeypatch.setattr(assembling, "index_modules", lambda *_args, **_more: None)
    monkeypatch.setattr(guesttools, "compile_tools", lambda *_args, **_more: None)
    (tmp_path / "testcases").mkdir()
    (tmp_path / "testcases/watch.c").write_text("/* harness: needs CONFIG_FUNCTION_TRACER */\n")
    command = str(write_script(tmp_path / "tools/cc", compiler + "\n"))
    wish = Wish(
        prebuilt=resolved(text),
        toolchain=Toolchain(name="gcc", command=command, version="12", make_args=(), patchable=True),
        testcases=tmp_path / "testcases",
        reproduce="harness build",
        is_sandboxed=is_sandboxed,
    )
    return assemble(wish, progress=Recorder())


OLDER = 'case "$*" in *min-function-alignment*) exit 1 ;; esac'


def test_modules_and_selftests_are_built_from_debians_packages(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = from_debian(fake, tmp_path, monkeypatch, compiler=OLDER)
    assert (build.left_out, build.unbuilt) == ({}, {})
    assert (build.directory / "testmodules/watch.ko").is_file()
    assert (build.selftests / "ftrace/test.d/a.tc").is_file()
    assert load_record(build.directory).kernel.source.version == "7.3.4-1"
    assert not list((tmp_path / "cache").rglob("*.deb")), "the build has all of them"


def test_livepatch_selftests_are_skipped_where_their_modules_are_not_built(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = from_debian(fake, tmp_path, monkeypatch, compiler=OLDER, config=CONFIG + "CONFIG_LIVEPATCH=y\n")
    why = "its modules are built with a kernel's own tree, and this kernel came without one"
    assert build.unbuilt == {"selftests/livepatch": why}
    assert (build.selftests / "livepatch/test-a.sh").is_file(), "which names the tests to skip"
    assert why in why_not(LIVEPATCH, build)


def test_what_the_compiler_knows_stays_in_the_headers(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy's Makefile refuses the option."""
    build = from_debian(fake, tmp_path, monkeypatch)
    assert list(build.unbuilt) == ["watch"]
    assert (build.selftests / "ftrace/ftracetest").is_file()


def test_tools_for_hosts_with_a_newer_c_library_get_that_one(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = '[ "$LOADED" ] || { echo "libc.so.6: version \\`GLIBC_2.99\' not found" >&2; exit 1; }'
    build = from_debian(fake, tmp_path, monkeypatch, compiler=OLDER, modpost=refuses)
    assert build.unbuilt == {}
    assert (build.directory / "testmodules/watch.ko").is_file()
    assert [line for line in fake.calls("download") if "/trixie/" in line], "the C library is not in the backports"


def test_tools_that_can_not_run_cost_the_modules_and_not_the_kernel(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = from_debian(fake, tmp_path, monkeypatch, compiler=OLDER, modpost="exec /missing")
    assert list(build.unbuilt) == ["watch"]
    assert "can't be built with the headers of 7.3.4-tiny: " in build.left_out["watch"]
    assert build.broken == {}
    assert (build.selftests / "ftrace/ftracetest").is_file()


def test_headers_of_another_kernel_cost_the_modules(
    tmp_path: Path, fake: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = from_debian(fake, tmp_path, monkeypatch, headers="usr/src/linux-headers-other")
    assert f"expected usr/src/linux-headers-{RELEASE} in it, found none" in build.left_out["watch"]


def test_headers_without_a_configuration_cost_the_modules(
    tmp_path: Path, fake: FakeApt, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = from_debian(fake, tmp_path, monkeypatch, without="include/generated/autoconf.h")
    told = f"expected a file {HEADERS}/include/generated/autoconf.h, found: No such file or directory"
    assert told in build.left_out["watch"]


def test_the_packages_that_make_leaves_are_a_kernel_with_its_headers(
    fake: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "debs"
    directory.mkdir()
    package = debian_kernel(tmp_path, "exit 0")
    for name in ("image", "headers"):
        (directory / f"linux-{name}-{RELEASE}_1_arm64.deb").write_bytes(package)
    build = assembled(f"prebuilt:{directory}", tmp_path, monkeypatch, compiler=OLDER)
    assert (build.directory / "testmodules/watch.ko").is_file()
    assert list(directory.iterdir()), "they are the user's"
    assert fake.calls("update") == []
