"""`harness inspect`: kernels and modules in every form that people have them in, down to a distribution's package.

Nothing is unpacked to the disk, and nothing of a file is run. What is in packed files, raw Images and packages is read
into memory, up to the limits in `harness.limits`, one after the other. What can't be a kernel or module by its first
bytes is not unpacked further."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.build.command import started
from harness.build.unpack import HEAD_BYTES, packed_by, unpacked
from harness.errors import UserError
from harness.limits import INSPECT_BYTES, INSPECT_FILES, INSPECT_SECONDS, SOURCE_BYTES, Deadline, Limit, open_regular
from harness.model.inspection import Comparison, Inspected, Inspection
from harness.model.progress import Progress
from harness.parse import rawimage
from harness.parse.comparison import compare
from harness.parse.elf import Elf
from harness.parse.inspection import Facts, check_machine, inspect_elf
from harness.parse.kconfig import parse_dotconfig
from harness.parse.kernel_strings import banner_in, compiler_in, config_in, module_strings, version_of
from harness.parse.module_summary import ModuleSum
from harness.parse.zboot import is_zboot, zboot_payload

_DEB = b"!<arch>\n"
_ELF = b"\x7fELF"
_LAYERS = 4
_MODULE = ".gnu.linkonce.this_module"
_INTERPRETER = ".interp"  # of programs and some libraries: ld.so
_MODULE_NAMES = (".ko", ".ko.xz", ".ko.gz", ".ko.zst", ".ko.bz2")
_KERNEL = re.compile(r"(vmlinu[xz]|Image)(-.*)?(\.(gz|xz|zst|bz2|efi|unstripped))*")
_FORMS = "a vmlinux, a module (.ko), an Image, a vmlinuz, a package (.deb) or a directory with them, also packed"


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """What lies beside a kernel: the texts of its configuration and of its System.map, and where the former is from."""

    config: str = ""
    config_from: str = ""
    system_map: str = ""


def inspect_all(paths: Sequence[Path], *, modules: bool, progress: Progress) -> list[Inspected]:
    """Inspect several files, packages or directories; one that can't be read is told as `unread`. Raises UserError if
    that is so for all of them."""
    found = []
    for path in paths:
        try:
            found.append(inspect(path, modules=modules, progress=progress))
        except UserError as error:
            if len(paths) == 1:
                raise
            found.append(Inspected(name=str(path), files=(), unread=(error.message,)))
    if all(each.unread and not each.files and not each.modules for each in found):
        raise UserError(found[0].unread[0])
    return found


def inspect(path: Path, *, modules: bool, progress: Progress) -> Inspected:
    """Inspect a file, a package or a directory. `modules`: also those in a package or directory. Raises UserError for
    what can't be read, or is not one of these."""
    deadline = Deadline.start(INSPECT_SECONDS)
    try:
        if path.is_dir():
            return _several(path, _in_directory(path), modules=modules, deadline=deadline, progress=progress)
        with open_regular(path) as file:
            if file.read(len(_DEB)) == _DEB:
                return _package(path, modules=modules, deadline=deadline, progress=progress)
            file.seek(0)
            return Inspected(
                name=str(path), files=(_file(file, name=str(path), beside=_beside(path), deadline=deadline),)
            )
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> Exception:
    """What is raised for an error in reading PATH, or what is below it: the file's fault if the error names it."""
    if not isinstance(error.filename, str) or not Path(error.filename).is_relative_to(path):
        return error  # what the host lacks
    return UserError(f"{path}: expected {_FORMS}, found that it can't be read: {error.strerror}")


def _file(file: BinaryIO, *, name: str, beside: _Beside, deadline: Deadline) -> Inspection:
    head = file.read(HEAD_BYTES)
    _expect(head, name=name)
    file.seek(0)
    if head.startswith(_ELF):
        return _elf(file, name=name, beside=beside, deadline=deadline)
    return _data(INSPECT_BYTES.read_from(file, place=name), name=name, beside=beside, deadline=deadline)


def _expect(head: bytes, *, name: str) -> None:
    """Raise UserError if a file with these first bytes can't be a kernel or module."""
    if head.startswith(_ELF):
        check_machine(head, name=name)
    elif not (packed_by(head) or is_zboot(head) or rawimage.is_image(head)):
        raise UserError(
            f"{name}: expected {_FORMS}, found something else (it begins with {head[:8].hex(' ') or 'nothing'})"
        )


def _data(data: bytes, *, name: str, beside: _Beside, deadline: Deadline) -> Inspection:
    """A kernel or module in memory, packed or not."""
    packers: list[str] = []
    for _ in range(_LAYERS):
        deadline.check(place=name)
        if payload := zboot_payload(data, name=name):
            packers.append("EFI zboot")
            data = payload
        elif packer := packed_by(data):
            packers.append(packer)
            data = unpacked(data, name=name, limit=INSPECT_BYTES, expect=partial(_expect, name=name))
        else:
            break
    if packed_by(data):
        raise UserError(f"{name}: expected {_FORMS}, found a file that is packed more than {_LAYERS} times")
    packed = f", packed by {' and '.join(packers)}" if packers else ""
    _expect(data[:HEAD_BYTES], name=name)
    if data.startswith(_ELF):
        return _elf(io.BytesIO(data), name=name, packed=packed, beside=beside, deadline=deadline)
    return _image(data, name=name, form=f"raw arm64 Image{packed}", beside=beside, deadline=deadline)


def _elf(file: BinaryIO, *, name: str, beside: _Beside, deadline: Deadline, packed: str = "") -> Inspection:
    elf = Elf(file, name=name)
    if elf.named(_MODULE):
        release, built = module_strings(elf)
        return inspect_elf(elf, Facts(form=f"module{packed}", release=release, built=built))
    if elf.relocatable:
        return inspect_elf(elf, Facts(form=f"object file{packed}", built=compiler_in(elf)))
    words = b"".join(elf.content(section) for section in elf.sections if section.name.startswith(".rodata"))
    release, built = banner_in(words)
    if not elf.addresses_of("__start_mcount_loc"):
        image = rawimage.flattened(elf)
        if elf.named(_INTERPRETER) or not any(version_of(release or banner_in(image)[0])):
            raise UserError(
                f"{name}: expected a kernel or module, found another ELF file for arm64 (a program or library): "
                "without a table of function entries, and without the line 'Linux version …'"
            )
        if image:
            form = f"vmlinux without symbols{packed}"
            return _image(image, name=name, form=form, beside=beside, deadline=deadline)
    config, config_from = _configuration(words, release, beside)
    return inspect_elf(
        elf,
        Facts(form=f"vmlinux{packed}", release=release, built=built, config=config, config_from=config_from),
    )


def _image(data: bytes, *, name: str, form: str, beside: _Beside, deadline: Deadline) -> Inspection:
    made = rawimage.elf_of(data, name=name, deadline=deadline, system_map=beside.system_map)
    deadline.check(place=name)
    release, built = banner_in(data)
    config, config_from = _configuration(data, release, beside)
    notes = [
        f"symbols from {made.symbols_from}, without sizes: labels in assembler files look like functions, so the share "
        "is a little too small, and where a function ends can't be known"
    ]
    if beside.system_map and made.symbols_from != "System.map":
        notes.append("the System.map beside it is not this kernel's (Debian's only says where the real one is)")
    return inspect_elf(
        Elf(io.BytesIO(made.elf), name=name),
        Facts(
            form=f"{form}, symbols from {made.symbols_from}",
            release=release,
            built=built,
            config=config,
            config_from=config_from,
            unsized=True,
            notes=tuple(notes),
        ),
    )


def _configuration(data: bytes, release: str, beside: _Beside) -> tuple[dict[str, str], str]:
    """The kernel's configuration: its own (CONFIG_IKCONFIG), or the file beside it if that is of the same version."""
    if config := config_in(data):
        return config, "the configuration in the kernel"
    major, minor = version_of(release)
    # Not the whole version: Debian's release is 6.1.0-50, its configuration's 6.1.176.
    if major and f" {major}.{minor}." in beside.config[:HEAD_BYTES]:
        return parse_dotconfig(beside.config), beside.config_from
    return {}, ""


def _beside(path: Path, *, follow: bool = True) -> _Beside:
    """What lies beside the file PATH as builds and distributions put it there: config-VERSION beside vmlinuz-VERSION,
    .config and System.map beside vmlinux, and above arch/arm64/boot/Image."""
    _, dash, version = path.name.partition("-")
    places = [path.parent, *([path.parents[3]] if path.parent.parts[-3:] == ("arch", "arm64", "boot") else [])]
    configs = [place / name for place in places for name in (f"config{dash}{version}", ".config", "config")]
    maps = [place / name for place in places for name in (f"System.map{dash}{version}", "System.map")]
    config, config_from = _first(configs, SOURCE_BYTES, follow=follow)
    return _Beside(config=config, config_from=config_from, system_map=_first(maps, INSPECT_BYTES, follow=follow)[0])


def _first(paths: list[Path], limit: Limit, *, follow: bool) -> tuple[str, str]:
    for path in paths:
        try:
            return limit.read(path, follow=follow).decode(errors="replace"), str(path)
        except (OSError, UserError):
            continue
    return "", ""


# -- packages and directories -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A file in a package or directory: `source` is its place on the disk, or what it can be read from once, before the
    next member is taken."""

    path: PurePosixPath
    size: int
    source: Path | BinaryIO

    def read(self) -> bytes:
        if isinstance(self.source, Path):
            try:
                return INSPECT_BYTES.read(self.source, follow=False)
            except OSError as error:
                raise _unreadable(self.source, error) from error
        INSPECT_BYTES.check(self.size, place=str(self.path))
        return INSPECT_BYTES.read_from(self.source, place=str(self.path))

    def kept(self) -> Path | bytes:
        """The place or the content, for later."""
        return self.source if isinstance(self.source, Path) else self.read()


def _in_directory(top: Path) -> Iterator[_Member]:
    found: list[Path] = []
    for count, path in enumerate(top.rglob("*")):
        INSPECT_FILES.check(count, place=str(top))
        if _role(PurePosixPath(path.name)) and not path.is_symlink() and path.is_file():
            found.append(path)
    for path in sorted(found):
        yield _Member(path=PurePosixPath(path.relative_to(top)), size=path.stat().st_size, source=path)


def _package(path: Path, *, modules: bool, deadline: Deadline, progress: Progress) -> Inspected:
    with started(["dpkg-deb", "--fsys-tarfile", str(path.absolute())]) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                members = _in_archive(archive, str(path))
                return _several(path, members, modules=modules, deadline=deadline, progress=progress)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{path}: expected a whole Debian package, found a damaged one: {error}") from error


def _in_archive(archive: tarfile.TarFile, name: str) -> Iterator[_Member]:
    for count, member in enumerate(archive):
        INSPECT_FILES.check(count, place=name)
        place = PurePosixPath(member.name)
        if member.isfile() and _role(place):
            file = archive.extractfile(member)
            assert file is not None
            yield _Member(path=place, size=member.size, source=file)  # type: ignore[arg-type]


def _role(path: PurePosixPath) -> str:
    name = path.name
    if name.endswith(_MODULE_NAMES):
        return "module"
    if name.startswith("System.map"):
        return "map"
    if name == ".config" or name == "config" or name.startswith("config-"):
        return "config"
    return "kernel" if _KERNEL.fullmatch(name) else ""


def _several(
    top: Path, members: Iterator[_Member], *, modules: bool, deadline: Deadline, progress: Progress
) -> Inspected:
    """The kernel and the modules of a package or directory."""
    kernels: dict[str, Path | bytes] = {}
    texts = {"map": "", "config": ""}
    config_from, total = "", ModuleSum()
    unread: list[str] = []
    for member in members:
        deadline.check(place=str(top))
        role = _role(member.path)
        if role == "kernel":
            kernels[str(member.path)] = member.kept()
            INSPECT_BYTES.check(_in_memory(kernels), place=f"{top}: its kernels")
        elif role == "module" and modules:
            try:
                total.add(member.path.name.partition(".")[0], _module(member, f"{top}: {member.path}", deadline))
            except UserError as error:
                unread.append(error.message)
            progress.advance("modules", total.count, None)
        elif role == "module":
            total.skip()
        elif role in texts and member.size <= INSPECT_BYTES.value:
            texts[role] = member.read().decode(errors="replace")
            config_from = str(member.path) if role == "config" else config_from
    if not kernels and not total.count and not unread:
        found = (
            f"{total.skipped} modules and no kernel: add --modules" if total.skipped else "neither kernel nor module"
        )
        raise UserError(f"{top}: expected {_FORMS}, found {found}")
    beside = _Beside(config=texts["config"], config_from=config_from, system_map=texts["map"])
    files = []
    for name in _chosen(kernels):
        deadline.check(place=str(top))
        try:
            # Each is let go before the next one is read.
            files.append(_kernel(kernels.pop(name), name=f"{top}: {name}", beside=beside, deadline=deadline))
        except UserError as error:
            unread.append(error.message)
    if unread and not files and not total.count:
        raise UserError(unread[0])
    return Inspected(name=str(top), files=tuple(files), modules=total.modules(), unread=tuple(unread))


def _in_memory(kernels: Mapping[str, Path | bytes]) -> int:
    return sum(len(kernel) for kernel in kernels.values() if isinstance(kernel, bytes))


def _module(member: _Member, name: str, deadline: Deadline) -> Inspection:
    return _data(member.read(), name=name, beside=_Beside(), deadline=deadline)


def _kernel(kernel: Path | bytes, *, name: str, beside: _Beside, deadline: Deadline) -> Inspection:
    """`beside`: for what does not lie directly beside it."""
    if isinstance(kernel, bytes):
        return _data(kernel, name=name, beside=beside, deadline=deadline)
    own = _beside(kernel, follow=False)
    config, config_from = (own.config, own.config_from) if own.config else (beside.config, beside.config_from)
    own = _Beside(config=config, config_from=config_from, system_map=own.system_map or beside.system_map)
    try:
        with open_regular(kernel, follow=False) as file:
            return _file(file, name=name, beside=own, deadline=deadline)
    except OSError as error:
        raise _unreadable(kernel, error) from error


def _chosen(kernels: Mapping[str, Path | bytes]) -> list[str]:
    """Of several forms of one kernel the one that tells most: vmlinux."""
    best = [name for name in kernels if PurePosixPath(name).name.startswith("vmlinux")]
    return sorted(best or kernels)


def compared(first: Inspected, second: Inspected) -> Comparison:
    """Compare two files. Raises UserError if one is a package or directory with several kernels, or with none."""
    return compare(_only(first), _only(second))


def _only(found: Inspected) -> Inspection:
    if len(found.files) != 1:
        raise UserError(f"{found.name}: expected one kernel or module to compare, found {len(found.files)}")
    return found.files[0]
