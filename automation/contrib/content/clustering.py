"""Groups search queries that ask for the same thing: the same keywords give the same groups on any number of cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from automation.contrib.content.language import stem, words_of

EXACT_UP_TO = 2_000
FIT_ON = 20_000
PREDICT_BATCH = 5_000
MOST_FEATURES = 8_192
MOST_CLUSTERS = 1_000


def group(
    keywords: Sequence[str], keywords_per_cluster: int, between_batches: Callable[[], None] = lambda: None
) -> list[list[int]]:
    """Indexes into ``keywords``, grouped; groups in order of their first member, members in order.

    Up to 2,000 keywords are merged pairwise (average linkage on cosine distance), and a group of more than twice
    ``keywords_per_cluster`` is divided again; more keywords go to k-means fitted on at most 20,000 evenly spaced ones,
    so that time and memory stay bounded. ``between_batches`` is called now and then, and may raise to stop it all.
    """
    if not keywords:
        return []
    with threadpool_limits(limits=1):
        if len(keywords) > EXACT_UP_TO:
            groups = _split_by_kmeans(keywords, keywords_per_cluster, between_batches)
        else:
            groups = _split_exactly(keywords, list(range(len(keywords))), keywords_per_cluster)
    return sorted(groups, key=lambda members: members[0])


def features_of(keyword: str) -> list[str]:
    """What counts as alike: strong words and pairs of them. Places and weak words count where nothing else is said."""
    words = [word for word in words_of(keyword) if not word.is_stop]
    strong = [word.text for word in words if not word.is_weak]
    strong = strong or [word.text for word in words if not word.is_place] or [word.text for word in words] or [keyword]
    single = [stem(word) for word in strong]
    return single + [f"{left} {right}" for left, right in pairwise(single)]


def _vectorizer() -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=features_of, sublinear_tf=True, max_features=MOST_FEATURES)


def _split_exactly(keywords: Sequence[str], members: list[int], per_cluster: int) -> list[list[int]]:
    wanted = round(len(members) / per_cluster)
    if wanted < 2:
        return [members]
    matrix = _vectorizer().fit_transform([keywords[index] for index in members])
    distance = np.round(np.clip(1.0 - (matrix @ matrix.T).toarray(), 0.0, 1.0), 9)
    model = AgglomerativeClustering(n_clusters=wanted, metric="precomputed", linkage="average")
    parts = _by_label(members, model.fit_predict(distance))
    return [
        smaller
        for part in parts
        for smaller in (
            _split_exactly(keywords, part, per_cluster) if 2 * per_cluster < len(part) < len(members) else [part]
        )
    ]


def _split_by_kmeans(keywords: Sequence[str], per_cluster: int, between_batches: Callable[[], None]) -> list[list[int]]:
    wanted = min(MOST_CLUSTERS, round(len(keywords) / per_cluster))
    if wanted < 2:
        return [list(range(len(keywords)))]
    vectorizer = _vectorizer()
    step = -(-len(keywords) // FIT_ON)
    model = MiniBatchKMeans(n_clusters=wanted, random_state=7, n_init=1, batch_size=2_048, max_iter=30)
    model.fit(vectorizer.fit_transform(keywords[::step]))
    labels = []
    for at in range(0, len(keywords), PREDICT_BATCH):
        between_batches()
        labels.append(model.predict(vectorizer.transform(keywords[at : at + PREDICT_BATCH])))
    return _by_label(list(range(len(keywords))), np.concatenate(labels))


def _by_label(members: Sequence[int], labels: NDArray[Any]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, label in zip(members, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(index)
    return list(groups.values())
