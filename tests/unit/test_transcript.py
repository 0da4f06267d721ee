"""What a test printed is kept within bounds."""

from collections.abc import Iterable

from harness.run.transcript import Transcript


def _text(lines: Iterable[str], half: int) -> str:
    transcript = Transcript(half)
    for line in lines:
        transcript.add(line)
    return transcript.text()


def test_little_is_kept_whole() -> None:
    assert _text(["a", "", "b"], 1000) == "a\n\nb"


def test_of_much_the_beginning_and_the_end_are_kept() -> None:
    text = _text((f"line {number}" for number in range(10_000)), 100)
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 9998\nline 9999")
    assert "lines are left out here]" in text
    assert len(text) < 400
