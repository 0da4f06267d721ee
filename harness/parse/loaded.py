"""What of a kernel or a module is loaded, as a digest: equal for files that behave alike.

Debug information has line numbers, and the build ID is a hash of that, too. So a patch that moves code by a comment
makes another file of the same kernel. Line numbers that are loaded (those of BUG and WARN) count."""

from __future__ import annotations

import hashlib

from harness.parse.elf import SHF_ALLOC, SHF_EXECINSTR, Elf, Section

_IDS = (".notes", ".note.gnu.build-id")
_DEBUG = (".debug", ".rela.debug", ".gnu_debuglink", ".shstrtab", ".comment")


def loaded_digest(elf: Elf) -> str:
    """Return a hash of what is loaded. Of a relocatable file (a module) that is everything but debug information and
    build ID: its relocations and symbols decide what it becomes. Raises UserError if the file is malformed."""
    digest = hashlib.sha256()
    for section in elf.sections:
        if _counts(section, relocatable=elf.relocatable):
            address = 0 if elf.relocatable else section.address
            head = f"{section.name}\0{section.kind}\0{section.flags}\0{address}\0{section.size}\0"
            digest.update(head.encode("utf-8", "surrogateescape"))
            digest.update(elf.content(section))
    return digest.hexdigest()


def _counts(section: Section, *, relocatable: bool) -> bool:
    if section.name in _IDS or section.name.startswith(_DEBUG):
        return False
    return relocatable or bool(section.flags & SHF_ALLOC)


def code_size(elf: Elf) -> tuple[int, int]:
    """Return how many bytes of code there are, and how many of everything that is loaded but BTF: pahole makes that
    with several threads, and its size differs by a kilobyte between two builds of the same."""
    loaded = [section for section in elf.sections if section.flags & SHF_ALLOC and section.name != ".BTF"]
    return sum(each.size for each in loaded if each.flags & SHF_EXECINSTR), sum(each.size for each in loaded)
