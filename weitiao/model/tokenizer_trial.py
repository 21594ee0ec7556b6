"""A tokenizer.json from elsewhere can hold a pattern that searches for ever, rules that make a word grow to gigabytes, or a table that
ends the process that reads it. One whose rules are those of the usual families is taken as it is; any other is tried out in a process of
its own first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from weitiao.errors import ModelError
from weitiao.language import t
from weitiao.model.limits import LARGEST_TOKENIZER_BYTES, MOST_ADDED_TOKENS

_WORKER = Path(__file__).with_name("tokenizer_worker.py")
_MOST_PARTS = 2_000_000
"""Objects and lists in the file: a rule of merging is one, and the largest published vocabularies have half a million."""
_LONGEST_ADDED = 1000
_MOST_RULES = 100
_MOST_SECONDS = 60.0
"""By the clock, where the system cannot bound the computing."""
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_PLAIN = {
    "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer", "ByteLevel", "Whitespace", "WhitespaceSplit", "Digits",
    "BertPreTokenizer", "Punctuation", "Metaspace", "WordPiece", "BertProcessing", "RobertaProcessing", "ByteFallback", "Fuse",
}  # fmt: skip
"""Rules that take time and space in proportion to the text, whatever their settings."""
_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_KNOWN_PATTERNS = {_PATTERN.replace("DIGITS", digits) for digits in ("", "{1,3}")}
"""Those of Qwen2 and Llama 3."""


def require_harmless_tokenizer(path: Path) -> None:
    """Raise ModelError for a tokenizer.json that cannot be read, or whose reading or use goes over a limit of time or memory."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TOKENIZER_BYTES + 1)
        if len(content) > LARGEST_TOKENIZER_BYTES:
            raise _refused(path, t(f"超过 {LARGEST_TOKENIZER_BYTES:,} 字节", f"has more than {LARGEST_TOKENIZER_BYTES:,} bytes"))
        parts = content.count(b"{") + content.count(b"[")
        if parts > _MOST_PARTS:
            raise _refused(
                path, t(f"有 {parts:,} 个对象和列表，最多 {_MOST_PARTS:,}", f"has {parts:,} objects and lists; at most {_MOST_PARTS:,}")
            )
        tree = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise _refused(path, t(f"读不了：{error}", f"cannot be read: {error}")) from None
    if not isinstance(tree, dict):
        raise _refused(path, t("不是 JSON 对象", "not a JSON object"))
    added = tree.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MOST_ADDED_TOKENS or any(len(str(one)) > _LONGEST_ADDED for one in added):
        cause = t(
            f"附加词元太多或太长（最多 {MOST_ADDED_TOKENS:,} 个，每个最多 {_LONGEST_ADDED} 个字符）",
            f"too many or too long added tokens (at most {MOST_ADDED_TOKENS:,}, of {_LONGEST_ADDED} characters each)",
        )
        raise _refused(path, cause)
    rules = [tree.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    if not all(rule is None or _is_plain(rule) for rule in rules) and (fault := _trial(content)):
        raise _refused(path, t(f"试用时出错：{fault}", f"it failed when it was tried out: {fault}"))


def _is_plain(rule: Any) -> bool:
    """Whether a rule, with all those inside it, is a usual one."""
    waiting, seen = [rule], 0
    while waiting:
        one, seen = waiting.pop(), seen + 1
        if not isinstance(one, dict) or seen > _MOST_RULES:
            return False
        kind, pattern = one.get("type"), one.get("pattern")
        if kind == "Sequence":
            inside = [value for value in one.values() if isinstance(value, list)]
            waiting += [part for parts in inside for part in parts]
        elif kind == "Split":
            if not (isinstance(pattern, dict) and pattern.get("Regex") in _KNOWN_PATTERNS):
                return False
        elif kind not in _PLAIN:
            return False
    return True


def _trial(content: bytes) -> str:
    """What is wrong with a tokenizer, in words; empty: nothing."""
    places = json.dumps([place for place in sys.path if os.path.isabs(place)])
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_WORKER), places], env=environment, input=content, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=_MOST_SECONDS, check=True,
        )  # fmt: skip
        return str(json.loads(done.stdout))
    except (subprocess.SubprocessError, ValueError):
        return t("计算太久、用了太多内存或崩溃", "it computes for too long, takes too much memory or crashes")


def _refused(path: Path, cause: str) -> ModelError:
    return ModelError(
        str(path),
        cause,
        t("重新下载分词器文件；还这样就换一个模型", "fetch the tokenizer files again; if that does not help use another model"),
    )
