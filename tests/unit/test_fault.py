"""Faults and their signatures: what is the same bug, and the text that says so."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from harness.model.fault import Fault, FaultKind, FaultSignature, fault_title
from harness.parse import document

WHOLE = FaultSignature(
    kind=FaultKind.OOPS,
    title="Unable to handle kernel paging request",
    function="wake_up_process",
    file="kernel/sched/core.c",
)
TEXTS = [
    (WHOLE, "Unable to handle kernel paging request in wake_up_process (kernel/sched/core.c) [oops]"),
    (FaultSignature(kind=FaultKind.PANIC, title="panic: x", is_whole=False), "panic: x [panic, cut short]"),
    (
        FaultSignature(kind=FaultKind.KASAN, title="KCSAN: data-race", function="read_it / write_it"),
        "KCSAN: data-race in read_it / write_it [KASAN]",
    ),
    (
        FaultSignature(kind=FaultKind.LOCKDEP, title="lockdep: suspicious RCU usage", file="kernel/a.c"),
        "lockdep: suspicious RCU usage (kernel/a.c) [lockdep]",
    ),
    (
        FaultSignature(kind=FaultKind.BUG, title="Rust panicked: x", function="my_ring::Ring::push", file="ring.rs"),
        "Rust panicked: x in my_ring::Ring::push (ring.rs) [BUG]",
    ),
    (
        FaultSignature(kind=FaultKind.PANIC, title="panic: no root on unknown-block(0,0)"),
        "panic: no root on unknown-block(0,0) [panic]",
    ),
    (FaultSignature(kind=FaultKind.BUG, title="a in b [oops]"), "a in b [oops] [BUG]"),
]


@pytest.mark.parametrize(("signature", "text"), TEXTS)
def test_text_form_both_ways(signature: FaultSignature, text: str) -> None:
    assert str(signature) == text
    assert FaultSignature.parse(text) == signature


@pytest.mark.parametrize(("signature", "text"), TEXTS)
def test_text_form_in_yaml(signature: FaultSignature, text: str) -> None:
    """Quoted, because most have a colon: what an expectations file holds."""
    for quoted in (json.dumps(text), f"'{text}'"):
        loaded = document.load(f"fault: {quoted}\n", place="x.yaml")
        assert isinstance(loaded, dict)
        assert FaultSignature.parse(loaded["fault"]) == signature


@pytest.mark.parametrize(
    "text",
    ["", "oops", "Oops in f", "Oops in f [unheard of]", "Oops\nin f [oops]", " Oops [oops]", "Oops in f [oops] ",
     "[oops]", "Oops\u2028x [oops]"],
)  # fmt: skip
def test_other_texts_are_no_signatures(text: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        FaultSignature.parse(text)


@pytest.mark.parametrize("title", ["", " ", "x ", "two\nlines", "Oops in f", "x (kernel/a.c)", "bell\x07", "\udc80"])
def test_a_title_without_a_text_form_is_refused(title: str) -> None:
    with pytest.raises(ValueError, match="signature"):
        FaultSignature(kind=FaultKind.OOPS, title=title)


def test_a_faults_signature_has_no_line_number() -> None:
    """Which shifts with every patch to the file."""
    signatures = {
        Fault(kind=FaultKind.WARNING, title=f"WARNING in f (kernel/a.c:{line})").signature for line in (7, 1200)
    }
    assert signatures == {
        FaultSignature(kind=FaultKind.WARNING, title="WARNING", function="f", file="kernel/a.c"),
    }


def test_what_the_harness_reports_itself_has_signatures() -> None:
    hang = Fault(kind=FaultKind.SILENCE, title="hang: the kernel answers no more", lines=("last words",))
    assert str(hang.signature) == "hang: the kernel answers no more [silence]"
    reset = Fault(kind=FaultKind.PANIC, title="reset: the machine reset or powered off by itself")
    assert str(reset.signature) == "reset: the machine reset or powered off by itself [panic]"


def test_title_and_signature_are_made_of_the_same_parts() -> None:
    title = fault_title("WARNING", function="f", file="kernel/a.c:7")
    assert title == "WARNING in f (kernel/a.c:7)"
    signature = Fault(kind=FaultKind.WARNING, title=title).signature
    assert (signature.title, signature.function, signature.file) == ("WARNING", "f", "kernel/a.c")


def test_every_fault_has_a_signature_in_one_line() -> None:
    """Whatever the target wrote; also what older harnesses have recorded without a title."""
    source = random.Random(4711)
    parts = [" in ", "f", " (", ")", "a.c", ":7", "[oops]", ", cut short", " / ", "\n", "\x1b[1m", "\udc80", "\u2028",
             "é", "panic: ", "KASAN", " ", "0", "::", "'", '"', "\\"]  # fmt: skip
    for _ in range(3000):
        title = "".join(source.choices(parts, k=source.randrange(12)))
        fault = Fault(kind=source.choice([*FaultKind]), title=title, is_whole=source.random() < 0.5)
        text = str(fault.signature)
        assert FaultSignature.parse(text) == fault.signature
        assert text.isprintable()
        assert (fault.signature.kind, fault.signature.is_whole) == (fault.kind, fault.is_whole)


def _cut(signature: FaultSignature, **changed: object) -> FaultSignature:
    values = {"kind": signature.kind, "title": signature.title, "function": signature.function, "file": signature.file}
    return FaultSignature(**{**values, "is_whole": False, **changed})  # type: ignore[arg-type]


def test_whole_reports_match_where_they_are_equal() -> None:
    others = [
        FaultSignature(kind=FaultKind.BUG, title=WHOLE.title, function=WHOLE.function, file=WHOLE.file),
        FaultSignature(kind=FaultKind.OOPS, title="Oops", function=WHOLE.function, file=WHOLE.file),
        FaultSignature(kind=FaultKind.OOPS, title=WHOLE.title, function="f", file=WHOLE.file),
        FaultSignature(kind=FaultKind.OOPS, title=WHOLE.title, function=WHOLE.function),
        FaultSignature(kind=FaultKind.OOPS, title=WHOLE.title),
    ]
    assert WHOLE.matches(WHOLE)
    assert not any(WHOLE.matches(other) or other.matches(WHOLE) for other in others)


def test_a_cut_report_is_another_key_and_still_matches() -> None:
    cut = _cut(WHOLE)
    assert cut != WHOLE
    assert str(cut) != str(WHOLE)
    assert cut.matches(WHOLE)
    assert WHOLE.matches(cut)
    assert cut.matches(cut)


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({"file": None}, True),  # the function says where
        ({"function": None}, True),  # so does the file
        ({"function": None, "file": None}, False),  # nothing does: any paging request begins so
        ({"function": "f"}, False),
        ({"file": "kernel/b.c"}, False),
        ({"title": "Unable to handle kernel NULL pointer dereference"}, False),
        ({"title": "Unable to handle ker"}, False),
        ({"kind": FaultKind.BUG}, False),
    ],
)
def test_what_is_left_of_a_cut_report_must_agree(changed: dict[str, object], is_same: bool) -> None:
    cut = _cut(WHOLE, **changed)
    assert cut.matches(WHOLE) is is_same
    assert WHOLE.matches(cut) is is_same


def test_a_cut_report_without_place_matches_a_whole_one_without() -> None:
    whole = FaultSignature(kind=FaultKind.PANIC, title="panic: no root")
    assert _cut(whole).matches(whole)


def test_what_only_a_whole_report_lacks_is_a_contradiction() -> None:
    whole = FaultSignature(kind=FaultKind.OOPS, title=WHOLE.title, function=WHOLE.function)
    assert not whole.matches(_cut(WHOLE))


def test_the_panic_that_an_oops_ends_in_may_have_been_cut_off() -> None:
    panic = FaultSignature(
        kind=FaultKind.PANIC, title=f"panic: {WHOLE.title}", function=WHOLE.function, file=WHOLE.file
    )
    assert _cut(WHOLE).matches(panic)
    assert panic.matches(_cut(WHOLE))
    assert not WHOLE.matches(panic), "a whole report says that no panic came"
    assert not _cut(panic).matches(WHOLE)


def test_matching_is_symmetric() -> None:
    kinds, titles = (FaultKind.OOPS, FaultKind.PANIC), ("x", "panic: x")
    functions, files, wholes = (None, "f", "g"), (None, "a.c"), (True, False)
    every = [
        FaultSignature(kind=kind, title=title, function=function, file=file, is_whole=whole)
        for kind, title, function, file, whole in itertools.product(kinds, titles, functions, files, wholes)
    ]
    for one, other in itertools.product(every, every):
        assert one.matches(other) is other.matches(one), f"{one} and {other}"
        assert one.matches(other) or one != other
