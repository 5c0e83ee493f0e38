"""Read the names of label numbers."""

import csv
import io

from etils import epath


def read_vocabulary(path: epath.PathLike) -> dict[int, str]:
    """Label number → name, from YouTube-8M's vocabulary.csv or another file with Index and Name.

    A label without a name uses its KnowledgeGraphId, if there is such a column. Raises the errors
    of `vocabulary_lines`.
    """
    return {
        label: line["Name"] or line.get("KnowledgeGraphId") or f"label {label}"
        for label, line in vocabulary_lines(path, "Name").items()
    }


def read_label_kinds(path: epath.PathLike) -> dict[str, dict[int, str]]:
    """Kind → label number → name: `label`, the label's own name, and `vertical`, its entry in
    YouTube-8M's column Vertical1, if there is such a column."""
    verticals = {
        label: line["Vertical1"]
        for label, line in vocabulary_lines(path, "Name").items()
        if line.get("Vertical1")
    }
    return {"label": read_vocabulary(path)} | ({"vertical": verticals} if verticals else {})


def vocabulary_lines(path: epath.PathLike, column: str) -> dict[int, dict[str, str]]:
    """Label number → its line (column → value) of a vocabulary with Index and the given column.

    Raises ValueError for another kind of file, and, with its line, for an invalid or repeated label
    number.
    """
    text = epath.Path(path).read_bytes().decode("utf-8-sig")
    lines = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in ("Index", column) if name not in (lines.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{path} has the columns {', '.join(lines.fieldnames or ['none'])}; a vocabulary needs "
            f"{', '.join(missing)}, too: give YouTube-8M's vocabulary.csv"
        )
    by_label: dict[int, dict[str, str]] = {}
    for line in lines:
        index = line["Index"] or ""
        if not index.isdecimal() or int(index) in by_label:
            fault = "comes twice" if index.isdecimal() else "is not a number"
            raise ValueError(f"{path}, line {lines.line_num}: the label number {index!r} {fault}")
        by_label[int(index)] = line
    return by_label
