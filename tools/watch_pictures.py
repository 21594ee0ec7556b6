"""The pictures of `weitiao watch` in the docs, taken from real run folders in a headless Chromium.

    python tools/watch_pictures.py RUNS docs/images

Needs playwright and Chromium (Debian: apt-get install -y chromium fonts-noto-cjk).
"""

import argparse
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from weitiao.language import use
from weitiao.watch.app import make_watch
from weitiao.watch.serve import bind


@contextmanager
def served(runs: Path, data: Path) -> Iterator[str]:
    """The page's address, while the block runs."""
    listening = bind("127.0.0.1", 0)
    watch = make_watch(runs, data, "pictures", "127.0.0.1", listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(watch.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield watch.url
    finally:
        server.should_exit = True
        thread.join(10)
        watch.playground.close()
        listening.close()


def opened(browser: Browser, url: str, language: str, width: int, height: int, theme: str) -> Page:
    """The page with all runs overlaid."""
    locale = "zh-CN" if language == "zh" else "en-US"
    page = browser.new_context(viewport={"width": width, "height": height}, locale=locale, color_scheme=theme).new_page()  # type: ignore[arg-type]
    page.goto(url)
    page.wait_for_selector("figure")
    for box in page.locator("#runs input").all():
        box.check()
    page.wait_for_timeout(1500)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, served(options.runs.resolve(), Path(data)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for language in ("zh", "en"):
            use("zh" if language == "zh" else "en")
            page = opened(browser, url, language, 1280, 900, "light")
            page.screenshot(path=options.folder / f"watch-{language}.png")
            page.click("#new")
            page.fill("#f-data\\.train", "builtin")
            page.fill("#f-train\\.epochs", "2")
            page.wait_for_timeout(1500)
            page.evaluate("() => document.querySelectorAll('#form, #form *').forEach((one) => { one.scrollTop = 0; })")
            page.screenshot(path=options.folder / f"watch-{language}-form.png")
            page.context.close()
            page = opened(browser, url, language, 390, 844, "dark")
            page.screenshot(path=options.folder / f"watch-{language}-phone.png")
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main()
