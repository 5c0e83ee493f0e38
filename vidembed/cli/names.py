"""Replace field names in messages by the options that users type."""

import re
from collections.abc import Collection, Sequence
from typing import Any


def as_typed(place: str, words: str, arguments: Sequence[str], known: Collection[str]) -> str:
    """Prefix a message with the options under `place` that it mentions, else with `place` itself.

    Field names in the message become options, too, if they have an underscore or a value.
    """
    names = [name for name in place.split(".") if name[:1].islower() and name != "recipe"]
    part = "".join(f"{name}." for name in names).replace("_", "-")
    typed = dict.fromkeys(word.partition("=")[0] for word in arguments if word.startswith("--"))
    below = [option for option in typed if option.replace("_", "-").startswith(f"--{part}")]
    mentioned = [option for option in below if re.search(rf"(?<!-)\b{_field(option)}\b", words)]
    subject = ", ".join(mentioned) or (f"--{part[:-1]}" if part else "")

    def option(match: re.Match[str]) -> str:
        name = f"--{part}{match[1].replace('_', '-')}"
        is_field = "_" in match[1] or "." in match[1] or match[2]
        return f"{name}{match[2]}" if name in known and is_field else match[0]

    words = re.sub(r"(?<![\w.'\"-])([a-z]\w*(?:\.[a-z]\w*)*)\b((?: |=)-?\d)?", option, words)
    # If the message already names every option, add no prefix.
    named = all(re.search(rf"{re.escape(each)}\b(?!-)", words) for each in subject.split(", "))
    return words if named else f"{subject}: {words}"


def with_options(command: Any, words: str) -> str:
    """A message with the command's field names as options: --min-weight for min_weight. Plain
    words are unchanged."""
    from vidembed.cli.options import Options

    known = Options(command).by_name

    def option(match: re.Match[str]) -> str:
        name = f"--{match[0].replace('_', '-')}"
        return name if name in known else match[0]

    return re.sub(r"(?<![\w./'\"-])[a-z]+(?:[_.][a-z]+)*_[a-z]+(?![\w./'\"-])", option, words)


def of_box(shown: str) -> str:
    """The reason in one of tyro's messages, without the frame and the help after it."""
    lines = [line.strip("│ ") for line in shown.splitlines()]
    reason = []
    for line in lines[1:]:
        if line[:1] in "─╰":
            break
        reason.append(line)
    return " ".join(reason).removeprefix("Error parsing ") or shown.strip()


def _field(option: str) -> str:
    return re.escape(option.lstrip("-").rpartition(".")[2].replace("-", "_"))
