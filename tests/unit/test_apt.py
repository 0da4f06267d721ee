"""`harness.build.apt`: a foreign suite from the machine's own mirror, with a scripted apt."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.build import apt
from harness.build.apt import PrivateApt, mirror_for, sources_for
from harness.build.cache import cache_dir
from harness.errors import InfraError, UserError
from harness.model.package import AptPackage
from tests.faults.catalogue import Blame, fault
from tests.unit.fakeapt import SECURITY_SITE, SITE, FakeApt
from tests.unit.loopback import Server, serving
from tests.unit.toytree import Recorder

SUITE = "trixie-backports"
APT_CONFIG = shutil.which("apt-config") or ""
OFFLINE = "Err:1 http://mirror.example InRelease\nE: Failed to fetch InRelease  Could not resolve 'mirror.example'\n"
NO_RELEASE = "E: The repository 'http://mirror.example/debian x Release' does not have a Release file.\n"
BAD_KEY = "W: GPG error: http://mirror.example x InRelease: NO_PUBKEY 6ED0E7B82643E131\nE: is not signed.\n"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_APT", str(tmp_path / "apt"))
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(apt, "KEYRING", keyring)
    return FakeApt(tmp_path / "apt", tmp_path / "bin")


def age_list(seconds: float, *, suite: str = SUITE) -> None:
    stamp = cache_dir("apt", suite) / "updated"
    then = stamp.stat().st_mtime - seconds
    os.utime(stamp, (then, then))


# mirrors


def test_ordinary_and_security_suites_come_from_their_own_sites(fake: FakeApt) -> None:
    assert mirror_for("trixie-backports") == SITE
    assert mirror_for("bullseye-security") == SECURITY_SITE


def test_a_suite_that_the_machine_uses_itself_comes_from_where_it_does(fake: FakeApt) -> None:
    fake.targets(f"{SITE}|bookworm|main|Debian", "http://near.example/debian|trixie-backports|main|Debian")
    assert mirror_for("trixie-backports") == "http://near.example/debian"


def test_without_package_lists_the_suites_names_tell_which_site_is_debians(fake: FakeApt) -> None:
    fake.forget_lists()
    assert mirror_for("trixie-backports") == SITE
    assert mirror_for("bullseye-security") == SECURITY_SITE


def test_a_cdrom_is_no_mirror(fake: FakeApt) -> None:
    fake.targets("cdrom://[Debian]|bookworm|main|Debian", f"{SITE}|bookworm|main|Debian")
    assert mirror_for("trixie-backports") == SITE


def test_a_machine_without_a_security_mirror_is_told_what_to_add(fake: FakeApt) -> None:
    fake.targets(f"{SITE}|bookworm|main|Debian")
    with pytest.raises(InfraError, match=r"bullseye-security: .*add a line `deb \S+ CODENAME-security main`"):
        mirror_for("bullseye-security")


def test_sources_name_the_keyring_that_has_to_have_signed_them(fake: FakeApt) -> None:
    assert sources_for(SUITE) == f"deb [signed-by={apt.KEYRING}] {SITE} {SUITE} main\n"


def test_a_missing_keyring_tells_which_package_to_install(fake: FakeApt) -> None:
    apt.KEYRING.unlink()
    with pytest.raises(InfraError, match="apt-get install debian-archive-keyring"):
        sources_for(SUITE)


@pytest.mark.parametrize("suite", ["../x", "", "a b", "x]", "Trixie\n", "-o"])
def test_a_suite_that_could_not_be_one_is_refused(fake: FakeApt, suite: str) -> None:
    with pytest.raises(UserError, match="expected the name of a Debian suite"):
        PrivateApt(suite)


# update


def test_the_list_is_fetched_once_an_hour(fake: FakeApt) -> None:
    PrivateApt(SUITE).update()
    PrivateApt(SUITE).update()
    assert len(fake.calls("update")) == 1
    age_list(3700)
    PrivateApt(SUITE).update()
    assert len(fake.calls("update")) == 2
    PrivateApt(SUITE).update(force=True)
    assert len(fake.calls("update")) == 3


def test_apt_speaks_english_to_us(fake: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    PrivateApt(SUITE).update()
    assert "LC_ALL=C " in fake.calls("update")[0]


@fault(
    "no network, and an older package list is here",
    where="network",
    blame=Blame.NOBODY,
    survives="the build, with that list",
)
def test_without_a_network_the_list_that_is_here_serves_and_the_network_is_left_alone(fake: FakeApt) -> None:
    PrivateApt(SUITE).update()
    age_list(3700)
    fake.fail("update", OFFLINE)
    progress = Recorder()
    PrivateApt(SUITE).update(progress=progress)
    assert "continuing with the package list in the cache" in progress.said[-1]
    PrivateApt(SUITE).update()
    assert len(fake.calls("update")) == 2
    age_list(700)
    fake.heal("update")
    PrivateApt(SUITE).update()
    assert len(fake.calls("update")) == 3


@fault("no network, and no package list", where="network", blame=Blame.INFRA, survives="apt's own words")
def test_without_a_network_and_without_a_list_it_is_an_infrastructure_error(fake: FakeApt) -> None:
    fake.fail("update", OFFLINE)
    with pytest.raises(InfraError, match=r"trixie-backports: .*check the network") as caught:
        PrivateApt(SUITE).update()
    assert "E: Failed to fetch InRelease  Could not resolve 'mirror.example'" in caught.value.details
    with pytest.raises(InfraError):
        PrivateApt(SUITE).update()


def test_a_list_from_another_mirror_does_not_count(fake: FakeApt) -> None:
    PrivateApt(SUITE).update()
    age_list(3700)
    fake.targets("http://new.example/debian|bookworm|main|Debian")
    fake.fail("update", OFFLINE)
    with pytest.raises(InfraError, match="check the network"):
        PrivateApt(SUITE).update()


def test_a_suite_that_is_not_debians_is_the_users_error(fake: FakeApt) -> None:
    fake.fail("update", NO_RELEASE)
    with pytest.raises(UserError, match="trixie-backprots: the mirror knows no such suite; usual ones: trixie-backp"):
        PrivateApt("trixie-backprots").update()


def test_a_suite_of_debian_that_the_mirror_lacks_is_an_infrastructure_error(fake: FakeApt) -> None:
    fake.fail("update", NO_RELEASE)
    with pytest.raises(InfraError, match="bullseye-backports: this machine's mirror does not carry"):
        PrivateApt("bullseye-backports").update()


@fault(
    "a package list with a bad signature",
    where="network",
    blame=Blame.INFRA,
    survives="the cache: nothing unsigned gets there",
)
def test_a_bad_signature_stops_also_where_a_list_is_here(fake: FakeApt) -> None:
    PrivateApt(SUITE).update()
    fake.fail("update", BAD_KEY)
    with pytest.raises(InfraError, match=r"signature .* is not good .*debian-archive-keyring"):
        PrivateApt(SUITE).update(force=True)


def test_signatures_are_never_switched_off(fake: FakeApt) -> None:
    PrivateApt(SUITE).update()
    directory = cache_dir("apt", SUITE)
    written = (directory / "apt.conf").read_text() + (directory / "sources.list").read_text()
    assert "signed-by=" in written
    assert not {word for word in ("trusted=", "allow-", "Allow", "Verify", "NoSign") if word in written}


@pytest.mark.skipif(not APT_CONFIG, reason="no apt on this machine")
def test_real_apt_takes_our_directories_and_keeps_the_rest(fake: FakeApt, tmp_path: Path) -> None:
    PrivateApt(SUITE).update()
    directory = cache_dir("apt", SUITE)
    machine = tmp_path / "machine.conf"
    machine.write_text(
        'APT::Update::Post-Invoke { "clean-the-machines-cache"; };\nAcquire::http::Proxy "http://proxy.example";\n'
    )

    dump = subprocess.run(
        [APT_CONFIG, "-c", directory / "apt.conf", "dump"],
        env={**os.environ, "APT_CONFIG": str(machine)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f'Dir::State "{directory}/state";' in dump
    assert f'Dir::Etc::sourcelist "{directory}/sources.list";' in dump
    assert 'APT::Sandbox::User "root";' in dump
    assert 'Acquire::http::Proxy "http://proxy.example";' in dump
    assert "clean-the-machines-cache" not in dump


# packages


def test_the_newest_is_chosen_by_debians_order_not_by_the_alphabet(fake: FakeApt) -> None:
    fake.packages(
        {
            "linux-source": "7.10.2-1~bpo13+1",
            "linux-source-7.9": "7.9.12-1~bpo13+1",
            "linux-source-7.10": "7.10.2-1~bpo13+1",
        }
    )
    suite = PrivateApt(SUITE)
    suite.update()
    found = suite.newest(r"linux-source-\d+\.\d+")
    assert found.version == "7.10.2-1~bpo13+1"
    assert found.size == 3


def test_a_package_that_is_not_there_is_answered_with_those_that_are(fake: FakeApt) -> None:
    fake.packages({"linux-source-7.2": "7.2.1-1", "linux-source-7.3": "7.3.4-1", "bash": "5"})
    suite = PrivateApt(SUITE)
    suite.update()
    with pytest.raises(UserError, match=r"'linux-source-9\.9'; there are: linux-source-7\.2, linux-source-7\.3$"):
        suite.newest(r"linux\-source\-9\.9")


@pytest.mark.parametrize("version", ["../../x", "-1", "7.3/../x"])
def test_a_version_that_leads_out_of_the_cache_is_refused(fake: FakeApt, version: str) -> None:
    fake.packages({"linux-source-7.3": version})
    with pytest.raises(InfraError, match="apt's package list: expected names, versions, sizes and SHA-256 sums, found"):
        PrivateApt("bookworm").newest("linux-source-7.3")


def test_an_empty_list_is_not_the_users_fault(fake: FakeApt) -> None:
    suite = PrivateApt(SUITE)
    suite.update()
    with pytest.raises(InfraError, match="harness fetch"):
        suite.newest("linux-source-.*")


@pytest.fixture
def package(fake: FakeApt) -> AptPackage:
    fake.packages({"linux-source-7.3": "1:7.3.4-1~bpo13+1"}, deb=b"content of the package")
    suite = PrivateApt(SUITE)
    suite.update()
    return suite.newest("linux-source-.*")


def test_a_package_is_downloaded_once(fake: FakeApt, package: AptPackage) -> None:
    first = PrivateApt(SUITE).download(package)
    assert first.read_bytes() == b"content of the package"
    assert first.name == "linux-source-7.3_1%3a7.3.4-1~bpo13+1.deb"
    fake.fail("download", OFFLINE)
    assert PrivateApt(SUITE).download(package) == first
    assert [call.split()[-1] for call in fake.calls("download")] == ["linux-source-7.3=1:7.3.4-1~bpo13+1"]


def test_the_progress_of_a_download_is_told_in_bytes(
    fake: FakeApt, package: AptPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_APT_SLOW", "0.4")
    progress = Recorder()
    PrivateApt(SUITE).download(package, progress=progress)
    assert ("linux-source-7.3", 10, 22) in progress.advanced
    assert ("linux-source-7.3", 22, 22) in progress.advanced


@fault(
    "a package is not what the signed list promises",
    where="network",
    blame=Blame.INFRA,
    survives="the cache, without that file",
)
def test_a_file_that_is_not_what_the_list_promised_is_removed(fake: FakeApt, package: AptPackage) -> None:
    (fake.directory / "package.deb").write_bytes(b"something else")
    with pytest.raises(InfraError, match=f"expected sha256 {package.sha256}, found [0-9a-f]{{64}}"):
        PrivateApt(SUITE).download(package)
    (fake.directory / "package.deb").write_bytes(b"content of the package")
    assert PrivateApt(SUITE).download(package).read_bytes() == b"content of the package"


def test_a_failed_download_tells_apts_words_and_leaves_nothing(fake: FakeApt, package: AptPackage) -> None:
    fake.fail("download", "Get:1 something\nE: Failed to fetch x  Connection reset by peer\n")
    with pytest.raises(InfraError, match="check the network and try again, it resumes") as caught:
        PrivateApt(SUITE).download(package)
    assert caught.value.details == ("E: Failed to fetch x  Connection reset by peer",)
    fake.heal("download")
    assert PrivateApt(SUITE).download(package).is_file()


@pytest.fixture
def broken_off(fake: FakeApt, package: AptPackage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror that a download broke off from after 10 of 22 bytes."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake.fail("download-breaks", "E: Connection reset by peer\n")
    with pytest.raises(InfraError, match="it resumes"):
        PrivateApt(SUITE).download(package)
    fake.heal("download-breaks")
    with serving() as server:
        (fake.directory / "uris").write_text(f"'{server.url}/x.deb' x.deb 22 SHA256:0\n")
        server.files["/x.deb"] = b"content of the package"
        yield server


def test_a_broken_download_is_continued(fake: FakeApt, package: AptPackage, broken_off: Server) -> None:
    assert PrivateApt(SUITE).download(package).read_bytes() == b"content of the package"
    assert broken_off.requests == [("/x.deb", "bytes=10-")]
    assert not list(cache_dir("apt", SUITE, "incoming").iterdir())


@pytest.mark.parametrize("reason", ["refused", "proxy", "changed"])
def test_what_cannot_be_continued_is_begun_again_by_apt(
    fake: FakeApt, package: AptPackage, broken_off: Server, reason: str
) -> None:
    if reason == "refused":
        broken_off.failures = [403]
    if reason == "proxy":
        (fake.directory / "settings").write_text("Acquire::http::Proxy\n")
    if reason == "changed":
        broken_off.files["/x.deb"] = b"something else altogether"
    assert PrivateApt(SUITE).download(package).read_bytes() == b"content of the package"
    assert bool(broken_off.requests) == (reason != "proxy")
    assert (fake.directory / "found").read_text() == "", "apt began with an empty directory"


def test_what_is_left_of_another_version_is_removed(fake: FakeApt, package: AptPackage) -> None:
    (cache_dir("apt", SUITE, "incoming", "older.deb") / "older.deb").touch()
    PrivateApt(SUITE).download(package)
    assert not list(cache_dir("apt", SUITE, "incoming").iterdir())


def test_what_apt_found_to_be_wrong_is_not_continued(fake: FakeApt, package: AptPackage) -> None:
    fake.fail("download-breaks", "E: Failed to fetch x  Hash Sum mismatch\n")
    with pytest.raises(InfraError):
        PrivateApt(SUITE).download(package)
    fake.heal("download-breaks")
    PrivateApt(SUITE).download(package)
    assert (fake.directory / "found").read_text() == ""


def test_a_machine_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfraError, match=r"apt-get: no such command on this host; `harness doctor`"):
        mirror_for(SUITE)


# packages of another architecture


def test_packages_of_another_architecture_have_lists_of_their_own(fake: FakeApt) -> None:
    fake.packages({"linux-image-arm64": "6.12-1"}, depends={"linux-image-arm64": "linux-image-6.12 (= 1) | other, b"})
    foreign = PrivateApt(SUITE, architecture="arm64")
    foreign.update()
    directory = cache_dir("apt", f"{SUITE}-arm64")
    assert 'APT::Architecture "arm64";' in (directory / "apt.conf").read_text()
    assert foreign.newest("linux-image-arm64").depends == ("linux-image-6.12", "b")
    assert not (cache_dir("apt", SUITE) / "apt.conf").exists()


def test_a_package_that_is_forgotten_is_downloaded_again(fake: FakeApt) -> None:
    fake.packages({"a": "1"})
    mine = PrivateApt(SUITE)
    mine.update()
    package = mine.newest("a")
    path = mine.download(package)
    mine.forget([package])
    assert not path.exists()
    assert mine.download(package) == path
    assert path.read_bytes() == b"deb"
