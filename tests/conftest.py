"""Fixtures that several folders of tests use. Nothing is fetched: the tiny models are made here."""

import csv
import os
import random
import signal
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["WEITIAO_CACHE"] = "off"  # a test that wants a cache names a folder
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: two threads each on two busy cores wait
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts its background jobs; some tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with tied embeddings and Qwen2's own template, which adds a system prompt."""
    from tiny import write_model

    return write_model(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="session")
def tiny_untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an output matrix of its own and a plain ChatML template."""
    from tiny import write_model

    return write_model(tmp_path_factory.mktemp("untied"), tied=False, template="chatml")


@pytest.fixture(scope="session")
def small_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 short texts of three labels, told apart by one word each; one row has no text and one no label."""
    draw = random.Random(0)
    words = {"体育": ["球赛", "球队", "进球"], "天气": ["下雨", "晴天", "台风"], "财经": ["股票", "利率", "银行"]}
    path = tmp_path_factory.mktemp("data") / "news.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(60):
            label = list(words)[i % 3]
            when, padding = draw.choice(["今天", "昨天", "本周"]), "很长" * draw.randrange(5)
            writer.writerow([f"第{i}条：{draw.choice(words[label])}，{when}的消息{padding}", label])
        writer.writerow(["", "体育"])
        writer.writerow(["没有标签的一行", ""])
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps everything, however small; its folder."""
    monkeypatch.setenv("WEITIAO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("weitiao.data.cache.SMALLEST_BYTES", 0)
    return tmp_path / "cache"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measured", action="store_true", help="print the largest deviation met against each tolerance")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.getoption("--measured"):
        from tiny import MEASURED

        for what, value in MEASURED.items():
            terminalreporter.write_line(f"{what}: at most {value:.3g}")
