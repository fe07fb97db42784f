"""The texts of the benchmark: for verifying, for calibrating peers' quantizers, and the ragged sets that are timed."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.paths import DATA

SHORT_QUERY = "how much protein should a female eat"

BUILTIN_TEXTS: tuple[str, ...] = (
    "A",
    "why is the sky blue?",
    "The quick brown fox jumps over the lazy dog near the old stone bridge.",
    "As a general guideline, the average requirement of protein for women aged 19 to 70 is 46 grams per day.",
    "한국의 수도는 서울이며, 한강이 도시를 가로질러 흐릅니다.",
    "오늘 저녁에는 비가 오고 기온이 크게 떨어질 것으로 보입니다.",
    "東京は日本の首都であり、世界最大級の都市圏の中心である。",
    "彼女は毎朝六時に起きて、川沿いを走ってから仕事に行く。",
    "北京是中华人民共和国的首都,有三千多年的建城史。",
    "这家餐厅的面条很好吃,但是等位的时间太长了。",
    "القاهرة هي عاصمة مصر وأكبر مدنها من حيث عدد السكان.",
    "กรุงเทพมหานครเป็นเมืองหลวงและเมืองที่มีประชากรมากที่สุดของประเทศไทย",
    "दिल्ली भारत की राजधानी है और यमुना नदी के किनारे बसी हुई है।",
    "Москва является столицей России и крупнейшим по численности населения городом страны.",
    "Der Bundestag hat am Donnerstag nach langer Debatte ein neues Gesetz zum Klimaschutz beschlossen.",
    "La Révolution française a profondément transformé les institutions politiques du pays.",
    "El río Amazonas es el más caudaloso del mundo y atraviesa varios países de América del Sur.",
    "Il treno per Milano parte dal binario quattro con venti minuti di ritardo.",
    "Hà Nội là thủ đô của Việt Nam và là trung tâm văn hóa lâu đời.",
    "İstanbul, iki kıtaya yayılan ve boğazı ile ünlü bir şehirdir.",
    "Η Αθήνα είναι η πρωτεύουσα της Ελλάδας και μία από τις παλαιότερες πόλεις του κόσμου.",
    "Pociąg do Krakowa odjeżdża o siódmej rano z peronu trzeciego.",
    "I love this 😍🔥 so much!!! 10/10 would buy again 🛒",
    "def mean(xs):\n    return sum(xs) / len(xs)  # raises ZeroDivisionError when xs is empty",
    "Vektoren von Sätzen 文の埋め込み and предложений in one line, 100 % mixed.",
    "The treaty was signed in 1648 and ended thirty years of war in central Europe; historians still argue about how "
    "many people died of hunger and disease, and about how far the balance between the crowns really changed. "
    "Large parts of the countryside stayed empty for a generation.",
)
_LONG = " ".join(text for text in BUILTIN_TEXTS if len(text) > 40)
VERIFY_TEXTS: tuple[str, ...] = (*BUILTIN_TEXTS[:23], _LONG)  # 24, the last near or over every model's limit

# Token lengths of XQuAD (all languages, XLM-R's tokenizer): minimum, then these percentiles, then maximum.
_PERCENTILES = (0.0, 0.10, 0.50, 0.90, 0.99, 1.0)
_XQUAD_LENGTHS = {"paragraphs": (45, 130, 189, 320, 565, 750), "questions": (6, 12, 17, 26, 37, 55)}
_XQUAD_COUNTS = {"paragraphs": 64, "questions": 256}


@dataclass(frozen=True)
class RaggedSet:
    """Texts in arrival order, and the tokens the model takes of each: special ones counted, cut at its limit."""

    name: str
    source: str
    texts: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Real tokens of the whole set; padding is never counted."""
        return sum(self.lengths)


def ragged_sets(
    count_tokens: Callable[[Sequence[str]], list[int]],
    max_tokens: int,
    *,
    english: bool,
    share: float = 1.0,
    prefix: str = "",
) -> list[RaggedSet]:
    """XQuAD's paragraphs (64) and questions (256) in a seeded arrival order over all languages.

    Args:
        count_tokens: lengths of texts in tokens, special tokens included, uncut.
        max_tokens: the model's limit.
        english: English only, for a model that knows no other language.
        share: of the texts taken; below 1 for a quick run.
        prefix: before each text.

    Without the data: texts put together from built-in ones with the same quantiles of length, named "synthetic".
    """
    sets = []
    for kind, full in _XQUAD_COUNTS.items():
        count = max(8, round(full * share))
        texts = _xquad(kind, count, english)
        source = f"XQuAD {kind}, {'English' if english else '12 languages'}, seeded order"
        if not texts:
            texts = _synthetic(kind, count, count_tokens)
            source = f"synthetic: built-in sentences joined to the length quantiles of XQuAD's {kind}"
        texts = [prefix + text for text in texts]
        lengths = tuple(min(n, max_tokens) for n in count_tokens(texts))
        sets.append(RaggedSet(f"xquad-{kind}", source, tuple(texts), lengths))
    return sets


def calibration_texts(count: int, *, english: bool) -> list[str]:
    """At most `count` sentences for a peer's static quantizer, disjoint from what is timed or verified.

    STS-B dev where the data is there (10 languages, or English only), else the built-in texts.
    """
    folder = DATA / "stsb_multi_mt"
    paths = sorted(folder.glob("stsb-en-dev.csv" if english else "stsb-*-dev.csv"))
    rows: list[str] = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as stream:
            rows += [cell for row in csv.reader(stream) for cell in row[:2]]
    if not rows:
        return list(BUILTIN_TEXTS)[:count]
    random.Random(0).shuffle(rows)
    return rows[:count]


def _xquad(kind: str, count: int, english: bool) -> list[str]:
    paths = sorted((DATA / "xquad").glob("xquad.en.json" if english else "xquad.*.json"))
    found: list[str] = []
    for path in paths:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        paragraphs = [p for article in articles for p in article["paragraphs"]]
        found += _texts_of(kind, paragraphs)
    random.Random(7).shuffle(found)
    return found[:count]


def _texts_of(kind: str, paragraphs: Iterable[dict[str, object]]) -> list[str]:
    if kind == "paragraphs":
        return [str(p["context"]) for p in paragraphs]
    return [str(qa["question"]) for p in paragraphs for qa in p["qas"]]  # type: ignore[attr-defined]


def _synthetic(kind: str, count: int, count_tokens: Callable[[Sequence[str]], list[int]]) -> list[str]:
    words = [word for text in BUILTIN_TEXTS for word in text.split()]
    sizes = [max(1, n - 2) for n in count_tokens(words)]  # without the two special tokens
    rng = random.Random(11)
    texts = []
    for rank in range(count):
        wanted, chosen, total = _quantile(_XQUAD_LENGTHS[kind], (rank + 0.5) / count), [], 2
        while total < wanted:
            i = rng.randrange(len(words))
            chosen.append(words[i])
            total += sizes[i]
        texts.append(" ".join(chosen))
    rng.shuffle(texts)
    return texts


def _quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between the known percentiles."""
    for i in range(len(_PERCENTILES) - 1):
        low, high = _PERCENTILES[i], _PERCENTILES[i + 1]
        if q <= high:
            return values[i] + (values[i + 1] - values[i]) * (q - low) / (high - low)
    return values[-1]
