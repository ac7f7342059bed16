"""What the tests of faults recorded, as the table of docs/operations.md.

`make faults` runs them and then this: `python tests/faults/table.py`.
"""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "benchmarks" / "results" / "faults.jsonl"
DOCS = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- faults -->\n", "<!-- /faults -->\n"


def newest(lines):
    """A row a fault, the last one that was recorded, in the order of the first."""
    found = {}
    for line in lines:
        row = json.loads(line)
        found[row["fault"]] = row
    return list(found.values())


def table(rows):
    """Markdown, a line a fault."""
    text = "| fault | what happens | what is kept | seconds |\n|---|---|---|---|\n"
    for row in rows:
        cells = (row["fault"], row["what_happens"], row["what_is_kept"])
        text += f"| {' | '.join(cells)} | {row['seconds']:.0f} |\n"
    return text


def placed(text, inside):
    """The page with `inside` between its two marks."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + inside + END + after


def main():
    rows = newest(ROWS.read_text("utf-8").splitlines())
    ROWS.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    DOCS.write_text(placed(DOCS.read_text("utf-8"), table(rows)), "utf-8")


if __name__ == "__main__":
    main()
