"""Stop U-Boot's autoboot on a serial line, and learn U-Boot's prompt."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence

from harness.errors import InfraError
from harness.model.boot import FROM_POWER_ON, UbootBoot
from harness.target.line.console import Console
from harness.target.line.plaintext import PlainText
from harness.target.line.times import TIME

LOGIN = re.compile(r"\S{0,64} ?login: {0,8}$")  # the prompt of a system that waits for a login

_BANNER = r"U-Boot (?:SPL )?\d{4}\.\d\d"
_HANDED_OVER = r"Starting kernel"  # maybe to another U-Boot
_GONE = r"Booting Linux on|Linux version \d|EFI stub: "
_PROMPT = r"(?:^|[\r\n])[^\r\n]{0,40}[>#$%]"
_WINDOW = 4096  # characters in which something that matters may lie
_LONGEST_QUESTION = 300
_ASKING = re.compile(
    r"(?i)\b(?:hit|press|type|enter)\b.*\b(?:stop|abort|interrupt|enter|key)|\bautoboot|\bboot(?:ing)? in "
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+(?=.)")  # as in a countdown
_WORD = 4  # keys
_ECHO_LIMIT_S = 2.0
_TRIES = 5
_QUIET_S = 0.2  # after a prompt: more output means that it was none
_ECHOES = 20  # chunks of echoed keys behind a prompt
_STUCK_S = 1.0  # for the keys to have an effect, before something else is tried
_NEXT_STAGE_S = 3.0  # for another U-Boot to appear after `Starting kernel`


class NotStopped(InfraError):
    """U-Boot showed up but did not react to the keys: it went on to boot by itself, or receives nothing."""


def check_line(line: Console, place: str) -> None:
    """Raise InfraError if the line is lost."""
    if line.closed:
        raise InfraError(f"{place}: the serial line was lost; see its cable or console server", details=line.tail(8))


class Autoboot:
    """U-Boot between power-on and its prompt. `text`: the reader of `line`; `place`: the board's name in messages."""

    def __init__(self, line: Console, text: PlainText, spec: UbootBoot, *, place: str) -> None:
        self._line = line
        self._text = text
        self._spec = spec
        self._place = place
        self._seen = False  # U-Boot's banner, or what it says while it waits
        self._sent = 0  # how often the keys were sent
        self._due = float("inf")  # when to send them again (monotonic)
        self._rescue = float("inf")  # when to try something else
        self._rescues = 0
        self._gone = False  # a kernel has started
        self._pause = spec.stop_every_ms / 1000
        self._asks = rf"(?P<asks>{re.escape(spec.stop_text)})"
        typed = "".join(key for key in spec.stop_keys if key.isprintable()).strip()
        echoes = f"(?:{re.escape(typed)}| )" if typed else " "
        self._at_prompt = rf"(?P<prompt>(?={_PROMPT}{echoes}{{0,400}}$))"

    def stop(self, *, after: str = "") -> str:
        """Wait for U-Boot, stop it before it boots by itself, and return its prompt.

        `after`: where the keys are sent from power-on, the output (a regular expression) before which they are not.
        Raises InfraError if U-Boot never shows up, NotStopped if it does not react to the keys."""
        ends = deadline = time.monotonic() + self._spec.uboot_seconds
        if self._spec.stop_from == FROM_POWER_ON:
            if after and (found := self._text.expect(rf"{after}|(?P<banner>{_BANNER})", timeout=self._left(ends))):
                self._seen = bool(found["banner"])
            self._begin()
        while self._left(ends) and not self._line.closed:
            if time.monotonic() >= self._due:
                self._send()
            event = self._event(until=min(self._due, ends))
            self._gone = event == "gone"
            if self._gone or (event == "login" and self._sent):
                break
            if event == "over":
                ends = min(deadline, time.monotonic() + _NEXT_STAGE_S)
            elif event in ("banner", "asks"):
                if not self._seen:  # as long again, once
                    self._seen, deadline = True, time.monotonic() + self._spec.uboot_seconds
                ends = deadline
                if event == "asks":
                    self._begin()
            elif event == "prompt" and not (self._seen or self._sent):
                self._text.more(timeout=self._left(ends))  # not U-Boot's, or no prompt
            elif prompt := self._prompt(event):
                return prompt
        check_line(self._line, self._place)
        raise self._failure()

    @staticmethod
    def _left(deadline: float) -> float:
        return max(0.0, deadline - time.monotonic())

    def _event(self, *, until: float) -> str:
        """Wait for something that matters, and return its name; empty if there is nothing."""
        events = (
            rf"{self._asks}|(?P<banner>{_BANNER})|(?P<over>{_HANDED_OVER})|(?P<gone>{_GONE})|(?P<login>login: {{0,8}}$)"
        )
        found = self._text.expect(f"{events}|{self._at_prompt}", timeout=self._left(until), window=_WINDOW)
        return (found.lastgroup or "") if found else ""

    def _begin(self) -> None:
        """Send the keys from now on."""
        now = time.monotonic()
        if self._due > now + self._pause:  # else they are being sent; never faster than that
            self._due = now
            self._rescue = now + _STUCK_S

    def _send(self) -> None:
        self._line.send(self._spec.stop_keys.encode())
        self._sent += 1
        self._due = time.monotonic() + self._pause

    def _prompt(self, event: str) -> str:
        """Return U-Boot's prompt, if it is there."""
        prompt = ""
        if event == "prompt":
            prompt = self._learned(sure=self._seen) if self._stays_at_prompt() else ""
        elif self._seen and time.monotonic() > self._rescue:
            prompt = self._rescued()
        if prompt and not self._seen and self._is_shell(prompt):
            raise InfraError(
                f"{self._place}: expected U-Boot on the console, but a system's shell answers at {prompt.strip()!r}; "
                "see whether the board's firmware starts U-Boot",
                details=self._line.tail(8),
            )
        return prompt

    def _stays_at_prompt(self) -> bool:
        """Return whether nothing but the echo of our keys follows what looks like a prompt."""
        for _ in range(_ECHOES):
            if not self._text.more(timeout=_QUIET_S):
                return True
            if not self._text.expect(self._at_prompt, timeout=0.0):
                return False
        return False

    def _rescued(self) -> str:
        """Where U-Boot is silent, but not at a prompt that can be recognized: leave a boot menu with Ctrl-C; if that
        does not help, see whether commands are answered, and return the prompt."""
        self._rescue = time.monotonic() + _STUCK_S
        if self._text.more(timeout=_QUIET_S) and self._text.more(timeout=_QUIET_S):  # more than the echo of a key
            return ""
        self._rescues += 1
        if self._rescues % 2:
            self._line.send(b"\x03")
            return ""
        return self._learned(sure=False)

    def _learned(self, *, sure: bool) -> str:
        """Return the prompt: the text that appears both before an echoed command and after its output. Empty if this is
        no prompt after all. Where it is `sure` that U-Boot is there, try several times, and raise NotStopped if it does
        not answer."""
        answered = False
        for _ in range(_TRIES if sure else 1):
            token = secrets.token_hex(4)
            self._line.send(b"\x03\r")  # ends a line that the stop keys may have begun
            self._line.send(f"echo {token}\r".encode())
            # in two steps: a match comes as early as it can, before the second prompt is whole
            echoed = self._text.expect(
                rf"(?:^|[\r\n])(?P<prompt>[^\r\n]{{1,40}}?)(?:{TIME})?echo {token}\s+"
                rf"(?:{token}|Unknown command[^\n]*)\n|{self._asks}",
                timeout=_ECHO_LIMIT_S,
            )
            if echoed and echoed["asks"]:
                self._seen = True
                self._begin()
                return ""
            if echoed and self._text.expect(re.escape(echoed["prompt"]), timeout=_ECHO_LIMIT_S):
                return str(echoed["prompt"])
            check_line(self._line, self._place)
            if not self._text.expect(self._at_prompt, timeout=0.0):
                self._text.forget()
                return ""
            answered = answered or any(token in line for line in self._line.tail(8))
        self._text.forget()
        if not sure:
            return ""
        raise self._mute(answered=answered)

    def _is_shell(self, prompt: str) -> bool:
        """Ask for `version`, where no banner was seen: a shell of Linux has prompts that look alike."""
        for _ in range(_TRIES):
            self._line.send(b"version\r")
            told = self._text.expect(rf"(?s)version\s(?P<output>.*?)[\r\n]{re.escape(prompt)}", timeout=_ECHO_LIMIT_S)
            if told:
                return bool(re.search(r"not found|No such file", told["output"]))
            check_line(self._line, self._place)
            self._line.send(b"\x03")
        return False

    def _mute(self, *, answered: bool) -> NotStopped:
        if answered:
            return NotStopped(
                f"{self._place}: U-Boot answers at its prompt, but not in a form that the harness understands: "
                "expected the prompt, the echo of a command, and its output on the next line; the last lines follow. "
                "See whether something else uses the line, or adds to it (a console server's local echo)",
                details=self._line.tail(8),
            )
        return NotStopped(
            f"{self._place}: U-Boot does not answer at its prompt; see whether TX is connected, whether the line "
            "is noisy or the harness sends too fast (console.slow_send_ms)",
            details=self._line.tail(8),
        )

    def _failure(self) -> InfraError:
        """Explain why U-Boot is not stopped."""
        spec, tail = self._spec, self._line.tail(8)
        login = any(LOGIN.search(line) for line in tail)
        if self._sent and not login and (self._seen or tail):
            keys = repr(spec.stop_keys) if len(spec.stop_keys) < _WORD else "boot.stop_keys"  # may be a password
            told = f"after it said {spec.stop_text!r}" if spec.stop_from != FROM_POWER_ON else "from power-on"
            return NotStopped(
                f"{self._place}: U-Boot did not stop when it was sent {keys}, {self._sent} times {told}; "
                f"see what it waits for and set boot.stop_text and boot.stop_keys{_hint(tail)}",
                details=tail,
            )
        if self._seen:
            return NotStopped(
                f"{self._place}: U-Boot started, but neither said {spec.stop_text!r} nor showed a prompt; see what it "
                f"says when it waits, and set boot.stop_text{_hint(tail)}. For a U-Boot that says nothing there is "
                "boot.stop_from: power-on",
                details=tail,
            )
        if self._gone:
            return NotStopped(
                f"{self._place}: a kernel started, and nothing of U-Boot was seen before: neither its banner nor "
                f"{spec.stop_text!r}; see whether the board's firmware starts U-Boot, whether the serial line comes up "
                f"too late, and boot.stop_text{_hint(tail)}",
                details=tail,
            )
        seconds = f"{spec.uboot_seconds:.0f} s"
        if login:
            return InfraError(
                f"{self._place}: expected U-Boot on the console within {seconds}, found a system that waits for a "
                "login; see whether the board's firmware starts U-Boot",
                details=tail,
            )
        if tail:
            return InfraError(
                f"{self._place}: expected U-Boot on the console within {seconds}, it never showed: "
                f"neither its banner nor {spec.stop_text!r} came; the last lines follow. See console.baud, whether the "
                f"board's firmware finds U-Boot, and boot.stop_text{_hint(tail)}",
                details=tail,
            )
        quiet = "" if self._sent else "; for a U-Boot that says nothing there is boot.stop_from: power-on"
        return InfraError(
            f"{self._place}: expected U-Boot on the console within {seconds}, nothing came at all; see whether the "
            f"board has power, whether TX, RX and GND are connected the right way round, and console.baud{quiet}"
        )


def _hint(tail: Sequence[str]) -> str:
    """Point to the line that looks like what U-Boot says while it waits, if there is one."""
    lines = [line[:_LONGEST_QUESTION] for line in reversed(tail)]
    asking = next((_CONTROL.split(line)[0].strip() for line in lines if _ASKING.search(line)), "")
    return f" (it may be waiting where it says {asking[:80]!r})" if asking else ""
