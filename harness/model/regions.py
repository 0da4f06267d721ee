"""The parts of the kernel's text that upstream keeps out of function tracing, from 5.10, 6.1, 6.12 and 7.3."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Region:
    """Text between two symbols of the linker script; `since`: the first version in which none of it is traced."""

    name: str
    begin: str
    end: str
    since: tuple[int, ...] = ()


REGIONS = (
    Region("noinstr", "__noinstr_text_start", "__noinstr_text_end"),
    Region("entry", "__entry_text_start", "__entry_text_end"),
    Region("idmap", "__idmap_text_start", "__idmap_text_end"),
    Region("hyp", "__hyp_text_start", "__hyp_text_end"),
    Region("hyp-idmap", "__hyp_idmap_text_start", "__hyp_idmap_text_end"),
    Region("exit", "__exittext_begin", "__exittext_end"),
    Region("cpuidle", "__cpuidle_text_start", "__cpuidle_text_end", (6, 3)),  # noinstr from then on
    Region("kprobes", "__kprobes_text_start", "__kprobes_text_end", (7, 3)),  # notrace from 7.x on
)
