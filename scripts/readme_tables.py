"""The README's tables, each made from the files under results/ that the comment above it names.

    python scripts/readme_tables.py             # exit code 1 if a table differs from its files
    python scripts/readme_tables.py --write     # rewrite the tables

Cost: a second. A table follows a line `<!-- results/A.json[, results/B.json]: NAME -->`, where NAME is a key
of `embodied.readme_tables.TABLES`.
"""

import json
import re
import sys
from pathlib import Path

from embodied.readme_tables import TABLES, markdown

ROOT = Path(__file__).parents[1]
TABLE = re.compile(
    r"(?P<comment><!-- (?P<files>results/[^ ,:]+(?:, results/[^ ,:]+)*): (?P<name>\w+) -->\n)(?:\|.*\n)*"
)


def render(text: str, root: Path = ROOT) -> str:
    """`text` with every marked table made anew from the files below `root`."""

    def replace(match: re.Match) -> str:
        results = [json.loads((root / name).read_text()) for name in match["files"].split(", ")]
        return match["comment"] + markdown(TABLES[match["name"]](results))

    return TABLE.sub(replace, text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    old = readme.read_text()
    new = render(old)
    if "--write" in sys.argv[1:]:
        readme.write_text(new)
    else:
        sys.exit(int(old != new))
