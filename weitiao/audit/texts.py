"""The texts themselves: empty, all alike, damaged, in another language."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from weitiao.audit.findings import MOST_ROWS, AuditInput, Finding, Item, Words, graded, noun, place, places, share, verb
from weitiao.data.similar import hashed_grams, strip_common

SAME_CHARACTERS, SAME_SHARE, SAME_ROWS = 20, 0.1, 20
"""Boilerplate: so many characters that stand alike in such a share of the different texts, and in so many of them."""
DIVERSE_TEXTS, DIVERSE_SHARE = 200, 0.25
"""Measured: single topics of the built-in data 0.60 to 0.77, all of them 0.79, templates with slots 0.13 to 0.19."""
_PLACEHOLDERS = frozenset(
    "null|none|nan|n/a|na|undefined|nil|todo|tbd|xxx|#n/a|#ref!|#value!|#name?|#div/0!|无|空|暂无|略|待补充|无内容".split("|")  # noqa: SIM905
)
_CONTROL = re.compile(r"<\|[A-Za-z_][A-Za-z0-9_]{1,30}\|>|\[/?INST\]|<<SYS>>|<(?:start|end)_of_turn>")
_CONTINUED = "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
"""What the second and later bytes of UTF-8 become in Latin-1 or Windows-1252."""
_DAMAGE = re.compile(
    f"\ufffd|锟斤拷|烫烫烫|屯屯屯|[\x00-\x08\x0e-\x1f\x7f]|ï»¿|[ÃÂ][\u0080-\u00bf]|â€{_CONTINUED}|(?:[ä-é]{_CONTINUED}{{2}}){{2}}"
)
"""Replacement characters, the traces of uninitialised memory, control characters, and UTF-8 that was read as Latin-1 or Windows-1252."""
_DAMAGE_SIGN = re.compile("[\ufffd锟烫屯\x00-\x08\x0e-\x1f\x7fïÃÂâä-é]")
"""What every damage begins with: a quick look spares the patterns nearly all texts."""
_GBK_SIGN = re.compile("[锛銆鐨殑鍦浜鏄浠鎴浣鎮瑕濡杩鏈笉涓鍙]")
_GBK_RUN = re.compile("[\u3400-\u9fff\ue000-\uf8ff€]*[锛銆鐨殑鍦浜鏄浠鎴浣鎮瑕濡杩鏈笉涓鍙][\u3400-\u9fff\ue000-\uf8ff€]*")
"""Runs with a character that UTF-8 read as GBK is full of and Chinese seldom has."""
_CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
_SCRIPTS = {
    "zh": re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]+"),
    "latin": re.compile("[A-Za-z\u00c0-\u024f]+"),
    "other": re.compile("[\u0370-\u1fff\u3040-\u30ff\uac00-\ud7af\ua000-\uabff\uf900-\ufdff\ufe70-\ufeff]+"),
}
_SCRIPT_NAMES = {"zh": Words("中文", "Chinese"), "latin": Words("拉丁字母", "Latin script"), "other": Words("其他文字", "another script")}


def empty_texts(data: AuditInput) -> Finding | None:
    """Texts of nothing but punctuation, or of a placeholder such as N/A; answers of nothing but punctuation."""
    found = [item for item in data.items if _says_nothing(item.text) or (item.is_chat and _is_blank(item.label))]
    if not found:
        return None
    n = len(found)
    return Finding(
        "warning",
        n,
        Words(
            f"{n} 行的正文只有标点或占位符（如 N/A、无）",
            f"{n} {noun(n, 'row')} {verb(n, 'have')} a text of punctuation or a placeholder (such as N/A) only",
        ),
        Words("去掉这些行，或补上正文", "remove these rows or supply the text"),
        places(found),
    )


def _says_nothing(text: str) -> bool:
    return text.strip().lower() in _PLACEHOLDERS or _is_blank(text)


def _is_blank(text: str) -> bool:
    return not any(unicodedata.category(character)[0] in "LNSM" for character in text)


def boilerplate(data: AuditInput) -> Finding | None:
    """The same beginning, end or line in many different texts; not of chats, whose instructions may well be the same."""
    texts = {item.key: item for item in data.train if not item.is_chat}
    least = max(SAME_ROWS, SAME_SHARE * len(texts))
    found: list[tuple[int, str, list[Item]]] = []
    for pick in (_beginning, _end, _lines):
        held: dict[str, list[Item]] = {}
        for item in texts.values():
            for part in pick(item.text):
                held.setdefault(part, []).append(item)
        found += [(len(items), part, items) for part, items in held.items() if len(items) >= least]
    if not found:
        return None
    n, _, items = max(found, key=lambda entry: (entry[0], entry[1]))
    return Finding(
        "notice",
        n,
        Words(
            f"{n} 行的正文有同样的开头、结尾或整行（{share(n, len(texts))}）",
            f"{n} texts ({share(n, len(texts))}) share a beginning, an end or a whole line",
        ),
        Words(
            "它们占词元，却分不出类别；可以从正文里删去，写进 task.template 一次就够",
            "it costs tokens and tells nothing apart; delete it from the texts, or write it once into task.template",
        ),
        places(items),
    )


def _beginning(text: str) -> Iterable[str]:
    text = text.strip()
    return (text[:SAME_CHARACTERS],) if len(text) >= SAME_CHARACTERS else ()


def _end(text: str) -> Iterable[str]:
    text = text.strip()
    return (text[-SAME_CHARACTERS:],) if len(text) >= SAME_CHARACTERS else ()


def _lines(text: str) -> Iterable[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) >= SAME_CHARACTERS} if "\n" in text else ()


def control_tokens(data: AuditInput) -> Finding | None:
    """Texts that spell a control token of this tokenizer or of a usual chat template."""
    own = re.compile("|".join(re.escape(token) for token in data.control_tokens if len(token) > 2) or r"(?!)")
    signs = {"<", "[", *(token[0] for token in data.control_tokens if token)}
    written = ((item, item.written) for item in data.items)
    found = [item for item, text in written if any(sign in text for sign in signs) and (_CONTROL.search(text) or own.search(text))]
    if not found:
        return None
    n = len(found)
    return Finding(
        graded(n, len(data.items), 0.01),
        n,
        Words(
            f"{n} 行的正文里写着控制符（如 <|im_end|>）；它们按普通文字编码，不会生效",
            f"{n} {noun(n, 'text')} {verb(n, 'spell')} a control token (such as <|im_end|>); it is encoded as ordinary text, to no effect",
        ),
        Words(
            "多半是已经套过对话模板的数据：去掉模板，只留正文",
            "the data may have been through a chat template already: keep the text only, without it",
        ),
        places(found),
    )


def encoding_damage(data: AuditInput) -> Finding | None:
    """Texts that were decoded wrongly before they came here."""
    found = [item for item in data.items if _is_damaged(item.written)]
    if not found:
        return None
    n = len(found)
    return Finding(
        "warning",
        n,
        Words(
            f"{n} 行的文字有编码损坏（�、锟斤拷、Ã©、锛 或控制字符）",
            f"{n} {noun(n, 'text')} {verb(n, 'are')} damaged (�, mojibake such as Ã© or â€™, or control characters)",
        ),
        Words(
            "从原始文件用正确的编码重新导出；损坏的字找不回来",
            "export them again from the source with the right encoding; what is damaged cannot be restored",
        ),
        places(found),
    )


def _is_damaged(text: str) -> bool:
    if _DAMAGE_SIGN.search(text) and _DAMAGE.search(text):
        return True
    if not _GBK_SIGN.search(text):
        return False
    for run in _GBK_RUN.finditer(text):
        data = run[0].encode("gb18030", "ignore")
        restored = _CHINESE.findall(data.decode("utf-8", "ignore"))
        if len(restored) >= 2 and 3 * len(restored) >= 0.4 * len(data):
            return True
    return False


def languages(data: AuditInput) -> Finding | None:
    """Rows in another script than nearly all others."""
    scripts = [script_of(item.text) for item in data.items]
    counts = Counter(script for script in scripts if script)
    if not counts:
        return None
    (bulk, most), *others = counts.most_common()
    total = sum(counts.values())
    if not others or most < 0.8 * total:
        return None
    found = [item for item, script in zip(data.items, scripts, strict=True) if script not in (bulk, "")]
    name = _SCRIPT_NAMES[bulk]
    return Finding(
        "notice",
        len(found),
        Words(
            f"{most} 行是{name.zh}，另有 {len(found)} 行不是",
            f"{most} {noun(most, 'row')} {verb(most, 'are')} in {name.en}, {len(found)} {verb(len(found), 'are')} not",
        ),
        Words("如果不是有意的，检查是不是混进了别的数据", "where that is not meant, check whether other data got in"),
        places(found),
    )


def script_of(text: str) -> str:
    """The script of a text: zh where a fifth of its letters is Chinese (a Latin word has many more letters), latin, other, or "" (none)."""
    counts = {name: sum(map(len, pattern.findall(text[:2000]))) for name, pattern in _SCRIPTS.items()}
    total = sum(counts.values())
    if not total:
        return ""
    if counts["zh"] >= 0.2 * total and counts["other"] < counts["zh"]:
        return "zh"
    return "latin" if counts["latin"] >= counts["other"] else "other"


def low_diversity(data: AuditInput) -> Finding | None:
    """Different texts that are built of very few different n-grams: a handful of templates."""
    measured = distinct_grams(data.train)
    if measured is None or measured >= DIVERSE_SHARE:
        return None
    shown = list(islice(data.train, MOST_ROWS))
    return Finding(
        "warning",
        len(data.train),
        Words(
            f"训练文本很单调：所有 4 字片段里只有 {share(round(1000 * measured), 1000)} 是不同的（像是几个模板拼出来的）",
            f"the training texts are monotonous: only {share(round(1000 * measured), 1000)} of all 4-character pieces are different "
            "(as if a few templates had made them)",
        ),
        Words(
            "模型会学会模板而不是任务；加进真实的、写法不同的文本",
            "the model will learn the templates, not the task; add real texts, worded differently",
        ),
        tuple(place(item) for item in shown),
    )


def distinct_grams(items: list[Item]) -> float | None:
    """Different 4-grams as a share of all, over the first thousand different texts; None for too few texts to say."""
    texts = sorted({item.asked for item in items})
    if any(item.is_chat for item in items):  # one instruction before every document is usual there
        texts = strip_common(texts)
    if len(texts) < DIVERSE_TEXTS:
        return None
    step = max(1, len(texts) // 1000)
    grams, _ = hashed_grams([text[:200] for text in texts[::step]], 4)
    return len(set(grams.tolist())) / len(grams) if len(grams) else None
