"""`configure` against a toy kernel tree with a real Makefile."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.build.era import Ask
from harness.build.kconfig import Configured, configure
from harness.errors import BuildError, InfraError, Unavailable, UserError
from harness.model.kernel import Toolchain
from tests.faults.catalogue import Blame, fault

TREE = Path(__file__).parents[1] / "data" / "kconfig" / "tree"
GCC = Toolchain(
    name="gcc",
    command="aarch64-linux-gnu-gcc",
    version="12.2.0",
    make_args=("CROSS_COMPILE=aarch64-linux-gnu-", "CC=ccache gcc"),
    patchable=True,
)
GCC_7 = Toolchain(name="gcc", command="old-gcc", version="7.5.0", make_args=(), patchable=False)
CAPABLE = "CONFIG_HAVE_FUNCTION_TRACER=y\nCONFIG_HAVE_DYNAMIC_FTRACE_WITH_REGS=y\nCONFIG_DYNAMIC_FTRACE_WITH_REGS=y\n"


@dataclass
class Toy:
    """A copy of the toy tree, and what its make was called with."""

    tree: Path
    objdir: Path

    def fragment(self, name: str, text: str) -> Path:
        path = self.tree.parent / name
        path.write_bytes(text.encode())
        return path

    def refuse(self, *symbols: str) -> None:
        (self.tree / "refused").write_text("".join(f"CONFIG_{symbol}\n" for symbol in symbols))

    def also(self, file: str, line: str) -> None:
        (self.tree / file).write_text(f"{line}\n")

    def force(self, text: str) -> None:
        (self.tree / "forced").write_text("CONFIG_ARM64=y\n" + text)

    def configure(
        self,
        text: str,
        *,
        user: str | None = None,
        toolchain: Toolchain = GCC,
        selftest_configs: bool = False,
        allow_plain_ftrace: bool = False,
        fixes: Sequence[Ask] = (),
    ) -> Configured:
        return configure(
            tree=self.tree,
            objdir=self.objdir,
            fragments=[self.fragment("ours.config", text)],
            user_fragments=[] if user is None else [self.fragment("user.config", user)],
            fixes=fixes,
            selftest_configs=selftest_configs,
            toolchain=toolchain,
            allow_plain_ftrace=allow_plain_ftrace,
        )

    def calls(self) -> list[str]:
        return (self.objdir / "calls").read_text().splitlines()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    shutil.copytree(TREE, tmp_path / "tree")
    monkeypatch.chdir(tmp_path)
    return Toy(tree=tmp_path / "tree", objdir=tmp_path / "o")


def test_what_is_asked_of_older_kernels_only(toy: Toy) -> None:
    (toy.tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 4\n" + (toy.tree / "Makefile").read_text())
    fragment = "CONFIG_DEBUG_FS=y  # until 6.4: why\nCONFIG_MODULES=y  # until 6.3: why\n"
    assert toy.configure(fragment).config == {"ARM64": "y", "DEBUG_FS": "y"}


def test_what_is_asked_for_is_in_the_final_config(toy: Toy) -> None:
    done = toy.configure('CONFIG_DEBUG_FS=y\nCONFIG_MODULES=n\nCONFIG_LOCALVERSION=""\n')
    assert done.config == {"ARM64": "y", "DEBUG_FS": "y", "LOCALVERSION": ""}
    assert (done.without, done.changed) == ({}, True)
    assert "# CONFIG_MODULES is not set\n" in (toy.objdir / ".config").read_text()


def test_make_is_told_architecture_and_compiler_and_nothing_leaks_in(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLVM", "ARCH", "KBUILD_OUTPUT"):
        monkeypatch.setenv(name, "stray")
    monkeypatch.setenv("MAKEFLAGS", "n")
    toy.configure("CONFIG_DEBUG_FS=y\n")
    assert toy.calls() == [
        "allnoconfig ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CC=ccache gcc LLVM= KBUILD_OUTPUT=",
        "olddefconfig",
    ]


def test_later_fragments_win_and_the_users_come_last(toy: Toy) -> None:
    done = toy.configure("CONFIG_MODULES=n\n", user="CONFIG_FUNCTION_TRACER=n\n", selftest_configs=True)
    assert done.config["MODULES"] == "y", "the selftests ask for it"
    assert "FUNCTION_TRACER" not in done.config, "the selftests ask for it, the user does not want it"


def test_what_an_old_kernel_needs_is_asked_for_unless_the_user_decides_otherwise(toy: Toy) -> None:
    fix = Ask(
        name="x", why="it is old", until=(5, 0), file="Kconfig", symptom=re.compile("."), asks="CONFIG_DEBUG_FS=y"
    )
    done = toy.configure("CONFIG_DEBUG_FS=n\n", fixes=[fix])
    assert (done.config.get("DEBUG_FS"), done.era_fixes) == ("y", {"x": "it is old"})
    done = toy.configure("", user="CONFIG_DEBUG_FS=n\n", fixes=[fix])
    assert (done.config.get("DEBUG_FS"), done.era_fixes) == (None, {})
    done = toy.configure("", fixes=[replace(fix, symptom=re.compile("no such thing in it"))])
    assert (done.config.get("DEBUG_FS"), done.era_fixes) == (None, {})


def test_what_an_old_kernel_needs_and_can_not_have_is_refused_in_its_name(toy: Toy) -> None:
    toy.refuse("NO_SUCH")
    fix = Ask(name="x", why="it is old", until=(5, 0), file="Kconfig", symptom=re.compile("."), asks="CONFIG_NO_SUCH=y")
    with pytest.raises(UserError) as error:
        toy.configure("", fixes=[fix])
    assert any("era fix x:1" in line for line in error.value.details)


def test_without_the_selftests_only_the_fragments_count(toy: Toy) -> None:
    assert "FUNCTION_TRACER" not in toy.configure("CONFIG_MODULES=y\n").config


def test_what_olddefconfig_settles_is_in_the_result(toy: Toy) -> None:
    (toy.tree / "settled").write_text("CONFIG_SETTLED=y\n")
    assert toy.configure("CONFIG_DEBUG_FS=y\n").config["SETTLED"] == "y"


def test_an_unchanged_request_leaves_the_file_alone_and_is_cheap(toy: Toy) -> None:
    toy.configure("CONFIG_DEBUG_FS=y\n")
    before = (toy.objdir / ".config").stat()
    done = toy.configure("CONFIG_DEBUG_FS=y\n")
    after = (toy.objdir / ".config").stat()
    assert not done.changed
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert [call.split()[0] for call in toy.calls()] == ["allnoconfig", "olddefconfig", "allnoconfig"]


def test_an_unchanged_result_that_needed_settling_leaves_the_file_alone(toy: Toy) -> None:
    (toy.tree / "settled").write_text("CONFIG_SETTLED=y\n")
    toy.configure("CONFIG_DEBUG_FS=y\n")
    before = (toy.objdir / ".config").stat().st_mtime_ns
    assert not toy.configure("CONFIG_DEBUG_FS=y\n").changed
    assert (toy.objdir / ".config").stat().st_mtime_ns == before


def test_a_new_config_is_younger_than_what_allnoconfig_left(toy: Toy) -> None:
    toy.configure("CONFIG_DEBUG_FS=y\n")
    assert toy.configure("CONFIG_DEBUG_FS=y\nCONFIG_MODULES=y\n").changed
    left = toy.objdir / "include/config/auto.conf"
    assert (toy.objdir / ".config").stat().st_mtime_ns > left.stat().st_mtime_ns


def test_a_missing_symbol_is_named_with_place_and_reason(toy: Toy) -> None:
    toy.refuse("FUNCTION_TRACER", "SAMPLE_TRACE")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure("CONFIG_MODULES=y\n\nCONFIG_FUNCTION_TRACER=y\nCONFIG_SAMPLE_TRACE=m\n")
    error = caught.value
    assert error.exit_code == 2
    assert error.message == (
        "kernel configuration: 2 requested symbols are not in the final .config: FUNCTION_TRACER, SAMPLE_TRACE"
    )
    assert error.details == (
        "ours.config:3: CONFIG_FUNCTION_TRACER: expected y, found not set: needs DEBUG_FS",
        "ours.config:4: CONFIG_SAMPLE_TRACE: expected m, found not set: needs DEBUG_FS; needs FUNCTION_TRACER",
    )
    assert not (toy.objdir / ".config").exists()
    assert sorted(path.name for path in toy.objdir.iterdir()) == ["calls", "include"]


def test_a_refused_request_leaves_the_last_good_config(toy: Toy) -> None:
    toy.configure("CONFIG_DEBUG_FS=y\n")
    good = (toy.objdir / ".config").read_text()
    toy.refuse("MODULES")
    with pytest.raises(UserError, match="MODULES"):
        toy.configure("CONFIG_MODULES=y\n")
    assert (toy.objdir / ".config").read_text() == good


@pytest.mark.parametrize(
    ("fragment", "kind"),
    [
        ("CONFIG_LIVEPATCH=y\n", Unavailable),
        ("CONFIG_NONESUCH=y\n", UserError),  # it may be misspelled
        ("CONFIG_LIVEPATCH=y\nCONFIG_NONESUCH=y\n", UserError),
        ("CONFIG_LIVEPATCH=y\nCONFIG_SAMPLE_TRACE=m\n", UserError),  # it needs another symbol, which was not asked for
    ],
)
def test_what_a_kernel_can_not_have_is_told_from_mistakes(fragment: str, kind: type[UserError], toy: Toy) -> None:
    toy.refuse("LIVEPATCH", "NONESUCH", "SAMPLE_TRACE")
    with pytest.raises(UserError) as caught:
        toy.configure(fragment)
    assert type(caught.value) is kind


def test_many_missing_symbols_are_counted_in_the_message_and_listed_below(toy: Toy) -> None:
    names = [f"S{number}" for number in range(9)]
    toy.refuse(*names)
    with pytest.raises(UserError, match=r"9 requested symbols .* S0, S1, .* S5 and 3 more$") as caught:
        toy.configure("".join(f"CONFIG_{name}=y\n" for name in names))
    assert len(caught.value.details) == 9


def test_a_value_that_came_out_otherwise_is_told(toy: Toy) -> None:
    toy.refuse("MODULES")
    toy.force("CONFIG_MODULES=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure("# CONFIG_MODULES is not set\n")
    assert caught.value.details[0].startswith("ours.config:1: CONFIG_MODULES: expected n, found y: ")


def test_a_wish_for_what_the_kernel_does_not_know_is_noted(toy: Toy) -> None:
    toy.refuse("NONESUCH")
    done = toy.configure("CONFIG_NONESUCH=y  # if-available: from 9.9 on\n")
    assert done.without == {"NONESUCH": "arm64 of this kernel has no such symbol"}


@fault("a Kconfig file of the tree, and a selftest's, lead to files of this host", where="hostile input",
       blame=Blame.USER, survives="what is in those files: no message shows it")  # fmt: skip
def test_no_file_outside_the_tree_is_read(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('config NONESUCH\n\tbool "x"\n\tdepends on SWORDFISH\n')
    toy.also("kernel/Kconfig", f'source "{tmp_path}/secret"\nsource "../secret"\nsource "kernel/link"')
    (toy.tree / "kernel/link").symlink_to(tmp_path / "secret")
    config = toy.tree / "tools/testing/selftests/ftrace/config"
    config.unlink()
    (tmp_path / "config").write_text("CONFIG_TUNA=y\n")
    config.symlink_to(tmp_path / "config")
    toy.refuse("NONESUCH")
    with pytest.raises(UserError, match=r"1 requested symbol is not in the final \.config: NONESUCH") as caught:
        toy.configure("CONFIG_NONESUCH=y\n", selftest_configs=True)
    assert "SWORDFISH" not in f"{caught.value.message}{caught.value.details}"
    assert not any("TUNA" in text for text in (*caught.value.details, caught.value.message))


def test_a_demand_for_what_the_kernel_does_not_know_is_refused(toy: Toy) -> None:
    toy.refuse("NONESUCH")
    with pytest.raises(UserError, match=r"1 requested symbol is not in the final \.config: NONESUCH"):
        toy.configure("CONFIG_NONESUCH=y\n")


def test_a_wish_no_configuration_can_fulfil_is_noted(toy: Toy) -> None:
    toy.refuse("LIVEPATCH")
    toy.force(CAPABLE)
    done = toy.configure(
        "CONFIG_LIVEPATCH=y # if-available: some day\nCONFIG_DEBUG_FS=y\nCONFIG_MODULES=y\nCONFIG_FUNCTION_TRACER=y\n"
    )
    assert done.without == {
        "LIVEPATCH": "needs HAVE_LIVEPATCH, which no arm64 configuration of this kernel can have",
    }


def test_a_wish_that_another_request_could_fulfil_is_refused(toy: Toy) -> None:
    toy.refuse("FUNCTION_TRACER")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure("CONFIG_FUNCTION_TRACER=y  # if-available: why\n")
    assert caught.value.details[0].endswith("needs DEBUG_FS")


TRACING = "CONFIG_DEBUG_FS=y\nCONFIG_MODULES=y\nCONFIG_SAMPLE_TRACE=m  # if-available: why\n"


def test_a_wish_that_a_demand_rules_out_is_given_up(toy: Toy) -> None:
    toy.refuse("SAMPLE_TRACE")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    done = toy.configure(f"{TRACING}CONFIG_FUNCTION_TRACER=y\n", user="\nCONFIG_FUNCTION_TRACER=n\n")
    assert done.without == {"SAMPLE_TRACE": "needs FUNCTION_TRACER; user.config:2 asks for CONFIG_FUNCTION_TRACER=n"}
    assert done.given_up == ("SAMPLE_TRACE",)


PROBES = "CONFIG_PROBES=y  # if-available: why\nCONFIG_PROBE_EVENTS=y  # if-available: why\n"


def test_a_wish_that_would_undo_a_demand_is_given_up_and_what_needs_it_too(toy: Toy) -> None:
    toy.also("selects", "PROBES RETHOOK")
    toy.also("needs", "PROBE_EVENTS PROBES")
    assert toy.configure(PROBES).config == {"ARM64": "y", "PROBES": "y", "PROBE_EVENTS": "y", "RETHOOK": "y"}
    done = toy.configure(f"{PROBES}CONFIG_RETHOOK=y\n", user="CONFIG_RETHOOK=n\n")
    assert done.config == {"ARM64": "y"}
    assert done.without == {
        "PROBES": "it would set CONFIG_RETHOOK; user.config:1 asks for CONFIG_RETHOOK=n",
        "PROBE_EVENTS": "needs PROBES; user.config:1 asks for CONFIG_RETHOOK=n",
    }
    assert done.given_up == ("PROBES", "PROBE_EVENTS")


def test_a_demand_that_would_undo_a_demand_is_refused_with_both_places(toy: Toy) -> None:
    toy.also("selects", "PROBES RETHOOK")
    with pytest.raises(UserError) as caught:
        toy.configure("CONFIG_PROBES=y\n", user="CONFIG_RETHOOK=n\n")
    assert caught.value.details == (
        "user.config:1: CONFIG_RETHOOK: expected n, found y: selected by PROBES"
        "; ours.config:1 asks for CONFIG_PROBES=y",
    )


HUB = "CONFIG_HUB_TRACER=y\nCONFIG_SAMPLE_HUB=y"


TAKEN = "needs EVENT_HUB; user.config:1 asks for CONFIG_HUB_TRACER=n"


@pytest.fixture
def hub(toy: Toy) -> Toy:
    """The sample is there with the tracer; by the Kconfig files, a driver that nobody asks for would do as well."""
    toy.also("selects", "HUB_TRACER EVENT_HUB")
    toy.also("needs", "SAMPLE_HUB HUB_TRACER")
    return toy


def test_a_wish_that_the_users_line_takes_away_is_given_up_though_other_symbols_could_help(hub: Toy) -> None:
    done = hub.configure(f"{HUB}  # if-available: why\n", user="CONFIG_HUB_TRACER=n\n")
    assert done.without == {"SAMPLE_HUB": TAKEN}
    assert done.given_up == ("SAMPLE_HUB",)


def test_a_demand_that_the_users_line_takes_away_is_refused_with_that_line(hub: Toy) -> None:
    with pytest.raises(UserError) as caught:
        hub.configure(f"{HUB}\n", user="CONFIG_HUB_TRACER=n\n")
    assert caught.value.details == (f"ours.config:2: CONFIG_SAMPLE_HUB: expected y, found not set: {TAKEN}",)


def test_a_line_of_the_users_that_changes_nothing_is_not_named(toy: Toy) -> None:
    toy.refuse("SAMPLE_HUB")
    with pytest.raises(UserError) as caught:
        toy.configure(f"{HUB}  # if-available: why\n", user="CONFIG_HUB_TRACER=n\n")
    assert caught.value.details[0].endswith(": needs EVENT_HUB")


def test_a_wish_that_only_a_wish_rules_out_is_refused_with_both_places(toy: Toy) -> None:
    toy.refuse("SAMPLE_TRACE")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure(f"{TRACING}CONFIG_FUNCTION_TRACER=n  # if-available: why\n")
    assert caught.value.details == (
        "ours.config:3: CONFIG_SAMPLE_TRACE: expected m, found not set: needs FUNCTION_TRACER"
        "; ours.config:4 asks for CONFIG_FUNCTION_TRACER=n",
    )


def test_a_demand_that_a_demand_rules_out_is_refused_with_both_places(toy: Toy) -> None:
    toy.refuse("FUNCTION_TRACER", "SAMPLE_TRACE")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure("CONFIG_FUNCTION_TRACER=y\nCONFIG_SAMPLE_TRACE=m\n", user="CONFIG_DEBUG_FS=n\n")
    assert [detail.rpartition("; ")[2] for detail in caught.value.details] == [
        "user.config:1 asks for CONFIG_DEBUG_FS=n",
        "user.config:1 asks for CONFIG_DEBUG_FS=n",
    ]


def test_a_demand_that_is_not_met_itself_rules_out_nothing(toy: Toy) -> None:
    toy.refuse("SAMPLE_TRACE", "DEBUG_FS")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError, match="2 requested symbols"):
        toy.configure(TRACING, user="CONFIG_FUNCTION_TRACER=y\n")


HIDDEN = "CONFIG_PROBES=y\nCONFIG_HUB_TRACER=y\nCONFIG_PROBE_EVENTS=y"


@pytest.fixture
def hidden(toy: Toy) -> Toy:
    """The probes' events hang on the tracer in a way that the Kconfig files, as we read them, do not show."""
    toy.also("needs", "PROBE_EVENTS HUB_TRACER")
    return toy


def test_a_wish_that_is_there_without_the_users_fragments_only_is_given_up(hidden: Toy) -> None:
    done = hidden.configure(f"{HIDDEN}  # if-available: why\n", user="CONFIG_HUB_TRACER=n\n")
    assert done.given_up == ("PROBE_EVENTS",)
    assert done.without == {
        "PROBE_EVENTS": "its dependencies look met; see the kernel's Kconfig files; it would be set without user.config"
    }


@pytest.mark.parametrize(
    ("ours", "user"),
    [
        (HIDDEN, "CONFIG_HUB_TRACER=n\n"),
        (f"{HIDDEN}  # if-available: why\n", "CONFIG_HUB_TRACER=n\nCONFIG_PROBE_EVENTS=y\n"),
    ],
    ids=["a demand of ours", "a demand of the user's"],
)
def test_a_demand_that_the_users_fragments_take_away_is_refused(hidden: Toy, ours: str, user: str) -> None:
    with pytest.raises(UserError, match=r"1 requested symbol is .*: PROBE_EVENTS$"):
        hidden.configure(ours, user=user)


def test_a_wish_that_a_wish_of_the_users_rules_out_is_given_up(toy: Toy) -> None:
    toy.also("needs", "SAMPLE_TRACE FUNCTION_TRACER")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    done = toy.configure(f"{TRACING}CONFIG_FUNCTION_TRACER=y\n", user="CONFIG_FUNCTION_TRACER=n  # if-available: why\n")
    assert done.without == {"SAMPLE_TRACE": "needs FUNCTION_TRACER; user.config:1 asks for CONFIG_FUNCTION_TRACER=n"}
    assert done.given_up == ("SAMPLE_TRACE",)


def test_of_a_choice_the_member_that_the_user_asks_for_is_taken(toy: Toy) -> None:
    toy.refuse("PAGES_4K")
    done = toy.configure("CONFIG_PAGES_4K=y\n", user="CONFIG_PAGES_64K=y\n")
    assert done.without == {
        "PAGES_4K": "PAGES_64K is chosen instead of it; user.config:1 asks for CONFIG_PAGES_64K=y",
    }
    assert done.given_up == ("PAGES_4K",)


@pytest.mark.parametrize(
    ("ours", "user"),
    [("", "CONFIG_PAGES_4K=y\nCONFIG_PAGES_64K=y\n"), ("CONFIG_PAGES_4K=y\nCONFIG_PAGES_64K=y\n", "")],
    ids=["both the user's", "both ours"],
)
def test_two_members_of_a_choice_that_one_side_asks_for_are_refused(toy: Toy, ours: str, user: str) -> None:
    toy.refuse("PAGES_4K")
    with pytest.raises(UserError, match=r"1 requested symbol is .*: PAGES_4K$"):
        toy.configure(ours, user=user)


SELFTESTED = "CONFIG_DEBUG_FS=y\nCONFIG_MODULES=y\n"


def test_what_the_selftests_ask_in_vain_is_noted(toy: Toy) -> None:
    toy.refuse("LIVEPATCH")
    toy.force(CAPABLE)
    assert list(toy.configure(SELFTESTED, selftest_configs=True).without) == ["LIVEPATCH"]


def test_the_user_can_make_a_demand_of_what_the_selftests_wish(toy: Toy) -> None:
    toy.refuse("LIVEPATCH")
    toy.force(CAPABLE)
    with pytest.raises(UserError) as caught:
        toy.configure(SELFTESTED, selftest_configs=True, user="CONFIG_LIVEPATCH=y\n")
    assert caught.value.details[0].startswith("user.config:1: CONFIG_LIVEPATCH: expected y, found not set: ")


def test_selftest_requests_are_placed_in_the_tree(toy: Toy) -> None:
    toy.refuse("FUNCTION_TRACER", "LIVEPATCH")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError) as caught:
        toy.configure("", selftest_configs=True)
    assert caught.value.details[0].startswith("tools/testing/selftests/ftrace/config:1: CONFIG_FUNCTION_TRACER: ")


def test_a_tree_without_selftests_is_no_error(toy: Toy) -> None:
    shutil.rmtree(toy.tree / "tools")
    assert toy.configure("CONFIG_DEBUG_FS=y\n", selftest_configs=True).config["DEBUG_FS"] == "y"


def test_a_compiler_without_the_option_is_refused_before_make_runs(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"old-gcc.*7\.5\.0"):
        toy.configure("CONFIG_DEBUG_FS=y\n", toolchain=GCC_7)
    assert not toy.objdir.exists()


PLAIN = "CONFIG_DEBUG_FS=y\nCONFIG_MODULES=y\nCONFIG_FUNCTION_TRACER=y\nCONFIG_DYNAMIC_FTRACE_WITH_REGS=y\n"


def test_plain_ftrace_forgives_what_hangs_on_the_option(toy: Toy) -> None:
    toy.refuse("DYNAMIC_FTRACE_WITH_REGS")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    done = toy.configure(PLAIN, toolchain=GCC_7, allow_plain_ftrace=True)
    (reason,) = done.without.values()
    assert list(done.without) == ["DYNAMIC_FTRACE_WITH_REGS"]
    assert reason.endswith("; old-gcc 7.5.0 has no -fpatchable-function-entry")


def test_plain_ftrace_forgives_nothing_else(toy: Toy) -> None:
    toy.refuse("DYNAMIC_FTRACE_WITH_REGS", "SAMPLE_TRACE")
    toy.force("CONFIG_HAVE_FUNCTION_TRACER=y\n")
    with pytest.raises(UserError, match=r"1 requested symbol .*: SAMPLE_TRACE$"):
        toy.configure(PLAIN + "CONFIG_SAMPLE_TRACE=m\n", toolchain=GCC_7, allow_plain_ftrace=True)


def test_plain_ftrace_does_not_blame_the_compiler_for_what_the_kernel_lacks(toy: Toy) -> None:
    toy.refuse("DYNAMIC_FTRACE_WITH_ARGS")
    with pytest.raises(UserError) as caught:
        toy.configure("CONFIG_DYNAMIC_FTRACE_WITH_ARGS=y\n", toolchain=GCC_7, allow_plain_ftrace=True)
    assert caught.value.details[0].endswith(": arm64 of this kernel has no such symbol")


def test_allowing_plain_ftrace_changes_nothing_for_a_capable_compiler(toy: Toy) -> None:
    toy.refuse("DYNAMIC_FTRACE_WITH_REGS")
    with pytest.raises(UserError, match="DYNAMIC_FTRACE_WITH_REGS"):
        toy.configure(PLAIN, allow_plain_ftrace=True)


def test_broken_kconfig_files_are_the_kernels_fault(toy: Toy) -> None:
    (toy.tree / "broken").write_text("arch/arm64/Kconfig:3: syntax error\n")
    with pytest.raises(BuildError, match="make allnoconfig: expected a configuration") as caught:
        toy.configure("CONFIG_DEBUG_FS=y\n")
    assert "arch/arm64/Kconfig:3: syntax error" in caught.value.details


def test_a_compiler_that_the_kernel_refuses_is_the_users_choice(toy: Toy) -> None:
    said = "***\n*** C compiler is too old.\n***   Minimum Clang version: 17.0.1\n***\n"
    (toy.tree / "broken").write_text(said + "scripts/Kconfig.include:45: Sorry, this C compiler is not supported.\n")
    with pytest.raises(UserError, match=r"aarch64-linux-gnu-gcc 12\.2\.0: .*--toolchain") as caught:
        toy.configure("CONFIG_DEBUG_FS=y\n")
    assert "***   Minimum Clang version: 17.0.1" in caught.value.details


def test_missing_host_tools_are_the_hosts_fault(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    (toy.tree / "broken").write_text("/bin/sh: 1: flex: not found\n")
    (toy.tree.parent / "bin").mkdir()
    for tool in ("make", "sh", "cat", "bison"):
        (toy.tree.parent / "bin" / tool).symlink_to(shutil.which(tool) or "/bin/true")
    monkeypatch.setenv("PATH", str(toy.tree.parent / "bin"))
    with pytest.raises(InfraError, match="needs flex; install Debian's package flex"):
        toy.configure("CONFIG_DEBUG_FS=y\n")


def test_a_string_with_a_carriage_return_comes_back_whole(toy: Toy) -> None:
    assert toy.configure('CONFIG_LOCALVERSION="a\rb"\n').config["LOCALVERSION"] == "a\rb"
    assert not toy.configure('CONFIG_LOCALVERSION="a\rb"\n').changed


def test_an_unreadable_fragment_is_named(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"gone\.config: expected a kconfig fragment, found: No such file"):
        configure(tree=toy.tree, objdir=toy.objdir, fragments=[Path("gone.config")], toolchain=GCC)
