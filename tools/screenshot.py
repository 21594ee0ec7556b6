"""Headless screenshots of a local HTML page, to look at what a reader sees.

    python tools/screenshot.py runs/NAME/report.html /tmp/shots            # 1200 and 390 pixels wide, light and dark

Needs Chromium (Debian: apt-get install -y chromium fonts-noto-cjk). A narrow page is shown in a frame of that width, because a
headless window cannot be narrower than about 500 pixels; the theme is set by the attribute ``data-theme`` in a copy of the page.
"""

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def screenshot(page: Path, target: Path, width: int, height: int, theme: str, top: int = 0) -> Path:
    """Write a PNG of ``page``, ``width`` × ``height`` pixels from ``top`` down, in the theme light or dark; return ``target``."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium not found; Debian: apt-get install -y chromium fonts-noto-cjk")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(page.read_text(encoding="utf-8").replace("<html ", f'<html data-theme="{theme}" ', 1), encoding="utf-8")
        shown = Path(folder) / "frame.html"
        style = f"border:0;display:block;width:{width}px;height:{top + height}px;margin-top:{-top}px"
        frame = f'<iframe src="page.html" style="{style}"></iframe>'
        shown.write_text(f'<!DOCTYPE html><body style="margin:0;overflow:hidden">{frame}', encoding="utf-8")
        window = f"--window-size={max(width, 500)},{height}"
        command = [
            browser,
            *FLAGS,
            f"--user-data-dir={folder}/profile",
            window,
            f"--screenshot={target.resolve()}",
            shown.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, action="append", help="default: 1200 and 390")
    parser.add_argument("--height", type=int, default=9000)
    parser.add_argument("--top", type=int, default=0, help="leave out this many pixels at the top")
    parser.add_argument("--theme", choices=("light", "dark"), action="append", help="default: both")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for width in options.width or (1200, 390):
        for theme in options.theme or ("light", "dark"):
            target = options.folder / f"{options.page.stem}-{width}-{theme}-{options.top}.png"
            print(screenshot(options.page.resolve(), target, width, options.height, theme, options.top))


if __name__ == "__main__":
    main()
