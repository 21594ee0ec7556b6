"""Topics of texts that have no words in common."""

from weitiao.audit.clusters import LEAST_TEXTS, Topics, find_topics


def test_texts_of_which_no_two_share_a_word_have_no_topics() -> None:
    """Names and keys: every word is rare. scikit-learn refuses a matrix without columns."""
    texts = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}qz" for i in range(LEAST_TEXTS)]
    assert find_topics(texts, []) == Topics()


def test_texts_that_all_say_the_same_have_no_topics() -> None:
    """Every word is in most of the texts."""
    assert find_topics(["the same words"] * LEAST_TEXTS, []) == Topics()
