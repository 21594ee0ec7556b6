"""The page as a person uses it, in a real browser: start a run from the form, watch it, stop it, resume it, compare, try a sentence; in
both languages, by keyboard, at the width of a phone. The runs are real trainings of a tiny model."""

import json
import os
import shutil
import signal
import threading
import time

import pytest
import uvicorn
from commands import command
from runs_made import make_run, step

from weitiao.language import use
from weitiao.run import process_of, this_process
from weitiao.watch.app import make_watch
from weitiao.watch.serve import bind

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")]
PATIENCE_MS = 150_000
"""A training on a busy machine."""


def until(page, condition, timeout_ms=20_000):
    """Wait for a condition in JavaScript (playwright's own waiting needs `eval`, which the page's policy forbids)."""
    end = time.monotonic() + timeout_ms / 1000
    while not page.evaluate(f"() => !!({condition})"):
        assert time.monotonic() < end, (condition, page.inner_text("#notice"), page.inner_text("#detail")[:500])
        page.wait_for_timeout(100)


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def served(tmp_path, tiny_model, small_csv):
    """A running server over a folder with two runs; its address."""
    use("en")
    root, data = tmp_path / "runs", tmp_path / "data"
    root.mkdir()
    data.mkdir()
    shutil.copytree(tiny_model, data / "model")
    shutil.copy(small_csv, data / "news.csv")
    make_run(root, "one", method="<img src=x onerror=document.title='hacked'>")
    make_run(root, "two", steps=30, created="2026-01-02T00:00:00+00:00")
    listening = bind("127.0.0.1", 0)
    watch = make_watch(root, data, "secret-token", "127.0.0.1", listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(watch.app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield watch.url
    server.should_exit = True
    thread.join(10)
    watch.playground.close()
    listening.close()
    for record in root.glob("*/run.json"):  # a test that failed on its way has left a training behind
        process = process_of(json.loads(record.read_text(encoding="utf-8")))
        if process and process != os.getpid():  # which stands for a training in some tests
            os.kill(process, signal.SIGKILL)
    use(None)


@pytest.fixture
def page(browser, served):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.set_default_timeout(20_000)
    page.goto(served)
    page.wait_for_selector("#runs li")
    yield page
    assert page.title() == "weitiao watch"  # nothing out of a run folder was run
    context.close()
    assert not [fault for fault in faults if "409" not in fault and "404" not in fault], faults


def test_start_watch_stop_resume_and_try(page):
    page.click("#new")
    page.fill("#f-name", "mine")
    page.fill("#f-model\\.path", "model")
    page.fill("#f-data\\.train", "news.csv")
    page.fill("#f-train\\.epochs", "0")
    until(page, "document.querySelector('#form-problem').textContent.includes('train.epochs')")
    assert page.locator("#start").is_disabled()
    page.fill("#f-train\\.epochs", "4000")
    page.check("#all")
    page.fill("#f-data\\.max_tokens", "128")
    page.fill("#f-train\\.batch_rows", "8")
    page.select_option("#f-evaluate\\.baselines", "false")
    until(page, "document.querySelector('#yaml').textContent.includes('max_tokens: 128')")
    assert "train" in page.inner_text("#command")
    page.click("#start")
    until(page, "document.querySelector('#name').textContent === 'mine'", timeout_ms=PATIENCE_MS)
    page.wait_for_selector("#stop:visible")
    until(page, "/^[1-9]\\d* \\/ \\d+/.test(document.querySelector('#tiles dd').textContent)", timeout_ms=PATIENCE_MS)
    page.wait_for_selector("figure svg path")
    page.click("#tab-log")
    page.wait_for_selector("#log-text")
    assert "data:" in page.inner_text("#log-text")
    page.click("#stop")
    until(page, "document.querySelector('#state').textContent === 'interrupted'", timeout_ms=PATIENCE_MS)
    stopped = page.inner_text("#tiles dd >> nth=0").split(" / ")[0]
    page.click("#resume")
    until(page, "document.querySelector('#state').textContent === 'running'", timeout_ms=PATIENCE_MS)
    until(page, f"parseInt(document.querySelector('#tiles dd').textContent) > {stopped}", timeout_ms=PATIENCE_MS)
    page.click("#stop")
    until(page, "document.querySelector('#state').textContent === 'interrupted'", timeout_ms=PATIENCE_MS)


def test_a_finished_run_answers_a_sentence_with_base_and_tuned_model(page):
    page.click("#new")
    page.check("#all")
    for key, value in {
        "name": "small",
        "model.path": "model",
        "data.train": "news.csv",
        "data.max_tokens": "128",
        "train.max_steps": "2",
    }.items():
        page.fill(f"#f-{key}".replace(".", "\\."), value)
    page.select_option("#f-evaluate\\.baselines", "false")
    until(page, "document.querySelector('#yaml').textContent.includes('max_steps: 2')")
    page.click("#start")
    until(page, "document.querySelector('#name').textContent === 'small'", timeout_ms=PATIENCE_MS)
    until(page, "document.querySelector('#state').textContent === 'finished'", timeout_ms=PATIENCE_MS)
    page.click("#tab-play")
    page.fill("#sentence", "今天的球赛")
    page.click("#ask")
    page.wait_for_selector("#answers table", timeout=PATIENCE_MS)
    assert {"体育", "天气", "财经"} <= set(page.inner_text("#answers").split())
    assert page.locator("#answers .bar").count() == 6
    page.click("#tab-data")
    until(page, "document.querySelector('#panel').textContent.includes('news.csv')")  # the tab before has a table too


def test_a_question_gets_the_answers_of_both_models_beside_each_other(page, tmp_path):
    data, root = tmp_path / "data" / "qa.jsonl", tmp_path / "runs"
    rows = [{"context": f"第{i}次会在北京开。", "question": "在哪里开？", "answers": ["北京"]} for i in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qa.yaml").write_text("task: qa\nevaluate: {before: false, decoding: {max_new_tokens: 4}}\ntrain: {max_steps: 1}\n")
    told = command(
        "train", tmp_path / "qa.yaml", "name=asked", f"runs={root}", f"data.train={data}", f"model={tmp_path / 'data' / 'model'}"
    )
    assert told.code == 0, told.err
    page.click("text=asked")
    page.click("#tab-play")
    page.fill("#sentence", "在哪里开？")
    page.fill("#context", "会在上海开。")
    page.click("#ask")
    page.wait_for_selector("#answers table", timeout=PATIENCE_MS)
    assert page.locator("#answers th").all_inner_texts() == ["base model", "tuned"]
    assert page.locator("#answers tbody td").count() == 2
    page.click("#tab-settings")
    until(page, "document.querySelector('#panel').textContent.includes('max_new_tokens')")


def test_a_run_at_work_shows_its_total_and_the_time_left(browser, served, tmp_path):
    """50 of 100 steps of a second each; a record without a plan, as older versions wrote it, shows what was done."""
    make_run(tmp_path / "runs", "now", state="running", created="2026-02-01T00:00:00+00:00", process=this_process())
    make_run(tmp_path / "runs", "old", planned_steps=None, training={"steps": 50}, created="2025-01-01T00:00:00+00:00")
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(served)
    page.wait_for_selector("figure")
    tiles = "[...document.querySelectorAll('#tiles dd')].map((one) => one.textContent)"
    until(page, f"{tiles}[0] === '50 / 100' && {tiles}[5] === '50 s'")
    assert "最近验证 准确率" in page.inner_text("#tiles")
    assert "分类 LoRA" in page.inner_text("#runs li >> nth=0")
    page.click("#runs li >> nth=3 >> button")
    until(page, f"document.querySelector('#name').textContent === 'old' && {tiles}[0] === '50 / 50'")
    context.close()


def test_compare_two_runs(page):
    for box in page.locator("#runs input").all():
        box.check()
    until(page, "document.querySelectorAll('.legend li').length === 2")
    assert page.locator("figure >> nth=0 >> path.line").count() == 4  # training and validation of each
    page.select_option("#minus", label="two")
    until(page, "document.querySelectorAll('figure')[0].querySelectorAll('path.line').length === 2")
    page.click("#tab-settings")
    page.wait_for_selector("tr.differs")
    page.get_by_label("differences only").check()
    until(page, "document.querySelectorAll('#panel tbody tr').length === 1")
    assert "name" in page.inner_text("#panel tbody")


def test_all_runs_are_overlaid_at_once_by_box_and_key(page):
    page.check("#every")
    until(page, "document.querySelectorAll('.legend li').length === 2 && document.querySelectorAll('#runs input:checked').length === 2")
    page.locator("#runs input >> nth=0").uncheck()
    until(page, "!document.querySelector('#every').checked")
    page.keyboard.press("a")
    until(page, "document.querySelectorAll('#runs input:checked').length === 2")
    page.keyboard.press("a")
    until(page, "document.querySelectorAll('.legend li').length === 1 && !document.querySelector('#every').checked")


def test_many_curves_have_fewer_points_and_few_have_more_again(page, tmp_path):
    for i in range(51):
        make_run(tmp_path / "runs", f"short-{i}", steps=1, created="2025-01-01T00:00:00+00:00")
    make_run(tmp_path / "runs", "long", steps=3000, created="2026-02-01T00:00:00+00:00")
    until(page, "document.querySelectorAll('#runs li').length === 54")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("k")
    until(page, "document.querySelector('#name').textContent === 'long'")
    points = "state.curves.get(state.chosen)?.series['train/loss'].length"
    until(page, f"{points} > 300 && {points} <= 600")
    whole = page.evaluate(f"() => {points}")
    page.evaluate("() => state.curves.clear()")  # as on a page just opened
    page.check("#every")
    until(page, f"{points} > 60 && {points} <= 120 && document.querySelectorAll('figure:first-child path.line:not(.second)').length === 54")
    page.uncheck("#every")
    until(page, f"{points} === {whole}")


def test_of_two_questions_at_once_nothing_is_added_twice(page, tmp_path):
    page.wait_for_selector("figure")
    with (tmp_path / "runs" / "two" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(step(31)) + "\n")
    page.evaluate("() => Promise.all([poll(), poll(), poll()]).then(() => null)")
    steps = page.evaluate("() => state.curves.get(state.chosen).series['train/loss'].map((point) => point[0])")
    assert steps == [float(i) for i in range(1, 32)]


def test_what_is_on_its_way_is_not_asked_for_again(page):
    page.wait_for_selector("figure")
    page.evaluate("() => { state.curves.clear(); }")
    asked = []
    page.on("request", lambda request: asked.extend(json.loads(request.post_data)["curves"]))
    page.evaluate("() => { overlayAll(true); return Promise.all([poll(), poll()]).then(() => null); }")
    until(page, "state.curves.size === 2")
    assert sorted(curve["id"] for curve in asked if not curve["cursor"]) == sorted(page.evaluate("() => state.runs.map((run) => run.id)"))


def test_a_page_that_nobody_sees_does_not_ask_until_it_is_seen(page):
    asked = []
    page.wait_for_selector("figure")
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.wait_for_timeout(500)  # a question on its way
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3500)
    assert asked == []
    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(300)
    assert [url for url in asked if url.endswith("/api/poll")]


def test_results_and_predictions(page):
    page.click("#tab-results")
    page.wait_for_selector(".matrix")
    assert "0.75 [0.5, 0.9]" in page.inner_text("#panel")
    page.click("#tab-predictions")
    page.wait_for_selector("td.wrong")
    assert page.locator("#panel tbody tr").count() == 2
    page.get_by_label("wrong ones only").uncheck()
    until(page, "document.querySelectorAll('#panel tbody tr').length === 8")


def test_the_report_opens_by_itself(page):
    with page.context.expect_page() as opened:
        page.click("#report")
    opened.value.wait_for_load_state()
    assert "the report" in opened.value.inner_text("body")


def test_by_keyboard_alone_and_in_both_languages(page):
    page.keyboard.press("j")
    until(page, "document.querySelector('#name').textContent === 'one'")
    page.keyboard.press("k")
    until(page, "document.querySelector('#name').textContent === 'two'")
    page.keyboard.press("o")
    until(page, "document.querySelectorAll('#runs input:checked').length === 1")
    assert page.inner_text("#new") == "New run"
    page.keyboard.press("l")
    assert page.inner_text("#new") == "新的运行"
    assert page.get_attribute("html", "lang") == "zh"
    page.keyboard.press("t")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.focus("#tab-curves")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".matrix")
    assert page.get_attribute("#tab-results", "aria-selected") == "true"
    page.keyboard.press("n")
    page.wait_for_selector("#form[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#form[open]", state="detached")


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, served):
    context = browser.new_context(viewport={"width": 360, "height": 740}, locale="zh-CN", color_scheme="dark")
    page = context.new_page()
    page.goto(served)
    page.wait_for_selector("figure")
    for tab in ("curves", "results", "predictions", "data", "settings", "log", "play"):
        page.click(f"#tab-{tab}")
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab
    page.click("#new")
    page.wait_for_selector("#f-name")
    assert page.evaluate("document.querySelector('#form').scrollWidth <= document.querySelector('#form').clientWidth")
    context.close()


def test_without_the_token_there_is_no_page(browser, served):
    page = browser.new_context().new_page()
    assert page.goto(served.partition("?")[0]).status == 401
    page.goto(served)
    page.wait_for_selector("#runs li")
    assert "token" not in page.url  # the address bar no longer shows it
