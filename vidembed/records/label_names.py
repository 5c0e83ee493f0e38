"""Names of the label numbers, for people to read."""

import csv
import io

from etils import epath


def read_vocabulary(path: epath.PathLike) -> dict[int, str]:
    """Label number → name, from YouTube-8M's vocabulary.csv or another with Index and Name.

    A label without a name goes by its KnowledgeGraphId, where there is such a column. Raises what
    `vocabulary_lines` raises.
    """
    return {
        label: line["Name"] or line.get("KnowledgeGraphId") or f"label {label}"
        for label, line in vocabulary_lines(path, "Name").items()
    }


def read_label_kinds(path: epath.PathLike) -> dict[str, dict[int, str]]:
    """What labels are sorted by → label number → name: `label`, its own name, and `vertical`, what
    YouTube-8M's column Vertical1 says, where there is such a column."""
    verticals = {
        label: line["Vertical1"]
        for label, line in vocabulary_lines(path, "Name").items()
        if line.get("Vertical1")
    }
    return {"label": read_vocabulary(path)} | ({"vertical": verticals} if verticals else {})


def vocabulary_lines(path: epath.PathLike, column: str) -> dict[int, dict[str, str]]:
    """Label number → its line of a vocabulary that has a certain column, too: column → value.

    Raises ValueError for another kind of file, and for a number that is none or comes twice, with
    the line where it stands.
    """
    text = epath.Path(path).read_bytes().decode("utf-8-sig")
    lines = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in ("Index", column) if name not in (lines.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{path} has the columns {', '.join(lines.fieldnames or ['none'])}; a vocabulary needs "
            f"{', '.join(missing)}, too: give YouTube-8M's vocabulary.csv"
        )
    found: dict[int, dict[str, str]] = {}
    for line in lines:
        index = line["Index"] or ""
        if not index.isdecimal() or int(index) in found:
            fault = "comes twice" if index.isdecimal() else "is not a number"
            raise ValueError(f"{path}, line {lines.line_num}: the label number {index!r} {fault}")
        found[int(index)] = line
    return found
