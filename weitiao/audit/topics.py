"""What the data are about: one topic that pushes the others aside, and topics of the test that are never trained."""

from collections.abc import Sequence
from typing import Any

from weitiao.audit.clusters import Topic
from weitiao.audit.findings import AuditInput, Finding, Item, Words, excerpt, noun, places, share, verb

DOMINANT, ALL = 0.7, 0.97
"""From this share on a topic pushes the others aside; from the other one on it is what the data are about."""
UNTRAINED_ROWS, UNTRAINED_SHARE = 10, 0.03


def dominant_topic(data: AuditInput) -> Finding | None:
    """One topic in most of the training texts, and others beside it."""
    found = data.topics
    if not found.topics or not DOMINANT * found.num_train <= len(found.topics[0].train) < ALL * found.num_train:
        return None
    topic, total = found.topics[0], found.num_train
    n = len(topic.train)
    return Finding(
        "notice",
        n,
        Words(
            f"{total} 段训练文本里有 {n} 段（{share(n, total)}）讲同一个话题（{'、'.join(topic.words)}），别的话题很少",
            f"{n} of {total} training texts ({share(n, total)}) are about one topic{_named(topic)}, few about others",
        ),
        Words(
            "别的话题会学得差；要它们也好，补上它们的行，并分话题看测试结果",
            "the others will be learned badly; where they matter, add rows of them, and look at the test results by topic",
        ),
        places(data.train[i] for i in topic.train),
    )


def untrained_topics(data: AuditInput) -> Finding | None:
    """Topics of the test texts that no training text is about."""
    found, tests = data.topics, data.tests
    least = max(UNTRAINED_ROWS, UNTRAINED_SHARE * found.num_test)
    absent = [topic for topic in found.topics if not topic.train and len(topic.test) >= least]
    if not absent:
        return None
    n = sum(len(topic.test) for topic in absent)
    words = "；".join("、".join(topic.words) for topic in absent)
    topics = len(absent)
    return Finding(
        "warning",
        n,
        Words(
            f"{found.num_test} 行测试数据里有 {n} 行（{share(n, found.num_test)}）的话题训练数据里没有（{words}）",
            f"{n} of {found.num_test} test rows ({share(n, found.num_test)}) {verb(n, 'are')} about {topics} {noun(topics, 'topic')} that "
            f"no training text is about{'' if topics > 1 else _named(absent[0])}",
        ),
        Words(
            "成绩在这些行上量的是没有教过的东西；给训练数据补上这些话题，或确认测试集没有拿错",
            "on these rows the result measures what was never taught; add training rows of these topics, or see whether the test set is "
            "the right one",
        ),
        places(tests[i] for topic in absent for i in topic.test),
    )


def _named(topic: Topic) -> str:
    """The words of a topic, where an English sentence can hold them."""
    return f" ({', '.join(topic.words)})" if all(word.isascii() for word in topic.words) else ""


def describe_topics(data: AuditInput) -> dict[str, Any]:
    """The topics as ``data/audit.json`` holds them: words, share of each split's texts that were looked at, an example."""
    found, tests = data.topics, data.tests
    return {
        "n": {"train": found.num_train, "test": found.num_test},
        "topics": [
            {
                "words": list(topic.words),
                "train": len(topic.train) / found.num_train,
                "test": len(topic.test) / found.num_test if found.num_test else None,
                "example": _example(topic, data.train, tests),
            }
            for topic in found.topics
        ],
    }


def _example(topic: Topic, train: Sequence[Item], tests: Sequence[Item]) -> dict[str, Any]:
    item = train[topic.train[0]] if topic.train else tests[topic.test[0]]
    return {"file": item.example.file, "line": item.example.line, "split": item.split, "text": excerpt(item.text)}
