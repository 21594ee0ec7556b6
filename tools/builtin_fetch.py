"""Download the packages that the built-in model's text comes from: Debian packages with apt-get, npm packages with npm, nothing installed.

python tools/builtin_fetch.py OUT_DIR        # run `apt-get update` once before; needs Debian 12
"""

import subprocess
import sys
from pathlib import Path

from builtin_sources import SOURCES

NPM = {"chinese-poetry": "2.0.1"}
ALSO = ("gimp-help-common",)  # holds gimp-help's licence


def main(out: Path) -> None:
    """Fetch every package of SOURCES into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    packages = dict.fromkeys([source.package for source in SOURCES] + list(ALSO))
    debian = [name for name in packages if name not in NPM]
    subprocess.run(["apt-get", "download", "-q", *debian], cwd=out, check=True)
    for name, version in NPM.items():
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=out, check=True)
    print(f"{len(debian)} + {len(NPM)} packages in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
