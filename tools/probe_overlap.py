"""Check that the probe texts stand in no training corpus: print every stretch that they share with it, and fail if there is one.

python tools/probe_overlap.py weitiao/builtin/topic.jsonl build/builtin/corpus/*.jsonl
"""

import json
import sys
from pathlib import Path

LENGTHS = {"zh": 20, "en": 40}
"""Characters in a row, spaces left out, that count as shared."""
PROBE = Path(__file__).parent.parent / "weitiao" / "builtin" / "probe.jsonl"


def squeezed(text: str) -> str:
    return "".join(text.split())


def main() -> None:
    stretches: dict[int, set[str]] = {length: set() for length in LENGTHS.values()}
    for line in PROBE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text, length = squeezed(row["text"]), LENGTHS[row["language"]]
        stretches[length] |= {text[i : i + length] for i in range(len(text) - length + 1)}
    characters, found = 0, set()
    for path in sys.argv[1:]:
        with Path(path).open(encoding="utf-8") as file:
            for line in file:
                text = squeezed(json.loads(line).get("text", ""))
                characters += len(text)
                for length, wanted in stretches.items():
                    found |= {text[i : i + length] for i in range(len(text) - length + 1) if text[i : i + length] in wanted}
    print(f"{characters:,} characters in {len(sys.argv) - 1} files, {len(found)} shared stretches", *sorted(found), sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
