"""The six stages over real keywords: what they make, that it can be read, and that it is the same every time."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from automation.contrib import content
from automation.contrib.content.keywords import Keywords
from automation.contrib.content.language import words_of
from automation.contrib.content.pipelines import ContentPipeline
from automation.contrib.content.quality import fingerprint, on_topic, own_shares, quality
from automation.errors import InvalidInput, InvalidParams
from automation.pipeline import Payload
from tests.support.stage_runs import RUN_ID, digest, files_of, run_pipeline

# One process makes the outputs that most of these look at.
pytestmark = pytest.mark.xdist_group("content")

ROOT = Path(__file__).parents[3]
SLIPS = re.compile(r"[{}]|  |\.\.|\b[Aa] [aeio]\w|\b[Aa]n [bcdfgjklmpqrstvwxz]\w")
SAMPLE = Path(content.__file__).parent / "sample" / "keywords-400.csv"


def sample(count: int) -> list[Payload]:
    with SAMPLE.open("rb") as file:
        return list(Keywords().read(file, SAMPLE.name).items())[:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def outputs(folder) -> dict[str, list[Payload]]:
    return run_pipeline(ContentPipeline, sample(60), folder, ideas_per_cluster=2, images_per_article=2)


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_the_sample_in_the_project_is_read_whole():
    assert len(sample(1_000)) == 394


@pytest.mark.slow
def test_each_stage_makes_what_its_title_says(outputs):
    clusters, ideas, tasks = outputs["clusters"], outputs["ideas"], outputs["tasks"]

    assert sorted(word for cluster in clusters for word in cluster["keywords"]) == sorted(
        item["keyword"] for item in sample(60)
    )
    assert len(ideas) == len(tasks) == len(outputs["content"]) == 2 * len(clusters)
    assert len(outputs["prompts"]) == len(outputs["images"]) == 2 * len(ideas)


def test_nothing_has_the_same_name_twice(outputs):
    for stage, field in (("clusters", "name"), ("clusters", "slug"), ("ideas", "slug"), ("images", "file")):
        values = [output[field] for output in outputs[stage]]
        assert len(set(values)) == len(values), (stage, field)


@pytest.mark.slow
def test_a_brief_starts_with_the_keyword_that_its_title_is_about(outputs):
    for brief in outputs["tasks"]:
        named = set(brief["title"].lower().split())
        best = max(len(named & set(keyword.split())) / len(keyword.split()) for keyword in brief["keywords"])
        if best == 1:
            assert set(brief["primary_keyword"].split()) <= named
        assert brief["keywords"][0] == brief["primary_keyword"]
    assert any(set(brief["primary_keyword"].split()) & {"tax", "taxes"} for brief in outputs["tasks"])


def test_articles_have_parts_and_say_that_they_are_a_demo(outputs, folder):
    for article in outputs["content"]:
        markdown = (folder / "runs" / str(RUN_ID) / article["markdown"]).read_text()
        page = (folder / "runs" / str(RUN_ID) / article["html"]).read_text()
        assert markdown == article["text"]
        assert markdown.startswith(f"# {article['title']}\n\n> **Demo text, ")
        assert "## In Short\n" in markdown
        assert 40 <= article["words"] <= 400
        assert '<meta name="robots" content="noindex, nofollow">' in page
        assert "<blockquote>" in page
        assert "Not for publication." in page


def sentences_of(markdown: str) -> list[str]:
    """Those of an article, without headings and the note that it is a demo."""
    lines = [line.lstrip("- ").strip("*") for line in markdown.splitlines() if not line.startswith(("#", ">"))]
    return [part for line in lines for part in re.split(r"(?<=[.!?])\s+", line) if part]


@pytest.mark.slow
@pytest.mark.parametrize("size", [150, 1_000])
def test_what_is_written_is_its_own_and_about_its_keywords(size, tmp_path):
    """Over the sample: at least half of each article's sentences stand in no other, and each quotes or names."""
    outputs = run_pipeline(ContentPipeline, sample(size), tmp_path)
    articles = [(article, sentences_of(article["text"])) for article in outputs["content"]]
    texts = Counter(sentence for _, sentences in articles for sentence in set(sentences))
    briefs = {brief["slug"]: brief for brief in outputs["tasks"]}

    for article, sentences in articles:
        own = sum(texts[sentence] == 1 for sentence in sentences) / len(sentences)
        assert own >= 0.5, article["text"]
        # All that is quoted, and every name, is in the searches of the cluster or was counted from them.
        given = " ".join(briefs[article["slug"]]["keywords"])
        for quote in re.findall("“(.+?)”", article["text"]):
            assert quote in given or all(word in words_in(given) for word in words_in(quote)), quote
    assert len(articles) == 3 * len(outputs["clusters"])
    whole = " ".join(article["text"].lower() for article, _ in articles)
    for claim in ("doctor", "study", "studies", "expert", "research shows", "wish people knew", "famil", "per cent"):
        assert claim not in re.sub("“.+?”", "", whole) or claim in " ".join(item["keyword"] for item in sample(size))


def words_in(text: str) -> set[str]:
    return {word.text for word in words_of(text)}


def test_no_article_of_one_theme_tells_of_another(tmp_path):
    items = [{"keyword": "foreign trade zone long beach california"}, {"keyword": "property taxes"}]
    outputs = run_pipeline(ContentPipeline, items, tmp_path, keywords_per_cluster=1, ideas_per_cluster=20)

    for article in outputs["content"]:
        text = article["text"].lower()
        assert not re.search(r"\b(trip|travel|children|housing|flat|apartment|résumé)", text), text


def test_volumes_of_the_input_are_told(tmp_path):
    items = [{"keyword": "tax forms", "Volume": "1,200"}, {"keyword": "tax form online", "Volume": "300"}]
    outputs = run_pipeline(ContentPipeline, items, tmp_path)

    assert any(
        "a volume of 1,500 in all, and “tax forms” the most of it: 1,200." in article["text"]
        for article in outputs["content"]
    )


def test_articles_read_well(outputs):
    for article in outputs["content"]:
        text = article["text"]
        assert not SLIPS.search(text), article["slug"]
        sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s", text) if len(part.split()) > 6]
        assert len(sentences) == len(set(sentences)), article["slug"]


def test_articles_of_one_cluster_differ(outputs):
    by_cluster: dict[str, set[str]] = {}
    for article in outputs["content"]:
        by_cluster.setdefault(article["cluster"], set()).add(article["text"].split("\n", 3)[3])

    assert all(len(texts) == 2 for texts in by_cluster.values())


def test_pictures_are_what_their_payload_says(outputs, folder):
    for picture in outputs["images"][::7]:
        file = folder / "runs" / str(RUN_ID) / picture["file"]
        assert file.stat().st_size == picture["bytes"]
        with Image.open(file) as image:
            assert (image.format, image.size) == ("PNG", (picture["width"], picture["height"]))


def test_every_link_of_the_gallery_leads_to_a_file(outputs, folder):
    page = folder / "runs" / str(RUN_ID) / "images" / "index.html"
    links = Links()
    links.feed(page.read_text())

    targets = {(page.parent / unquote(link)).resolve() for link in links.found}

    assert all(target.is_file() for target in targets)
    assert {target for target in targets if target.suffix == ".png"} == set(page.parent.resolve().glob("*.png"))
    assert len([target for target in targets if target.suffix == ".html"]) == len(outputs["content"])


def test_the_table_has_a_row_for_each_picture(outputs, folder):
    table = folder / "runs" / str(RUN_ID) / "images" / "results.csv"
    rows = list(csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"))))

    assert [row["sha256"] for row in rows] == [picture["sha256"] for picture in outputs["images"]]
    for row in rows:
        own, topic, words = float(row["own_sentences"]), float(row["on_topic"]), int(row["words"])
        assert float(row["quality"]) == round(min(own, topic, words / 60, 1), 2)
    assert all(float(row["quality"]) >= 0.5 for row in rows)


def test_a_text_that_others_have_or_that_is_off_its_topic_is_told_by_the_quality():
    ours, theirs = "All of tax.\n\nOnly here of tax.", "All of tax.\n\nOf dogs, cats and whatever else."
    shares = own_shares([fingerprint(ours), fingerprint(theirs)])

    assert shares == [0.5, 0.5]
    assert (on_topic(ours, ["tax forms"]), on_topic(theirs, ["tax forms"])) == (1.0, 0.5)
    assert quality(0.5, 1.0, 300) == 0.5
    assert quality(1.0, 1.0, 30) == 0.5


def test_the_page_of_the_results_says_that_they_are_a_demo(outputs, folder):
    page = (folder / "runs" / str(RUN_ID) / "images" / "index.html").read_text()

    assert '<meta name="robots" content="noindex, nofollow">' in page
    assert '<p class="demo"><strong>Demo texts' in page


def test_keywords_cannot_smuggle_in_markup_or_formulas(tmp_path):
    items = [{"keyword": "<script>alert(1)</script>"}, {"keyword": "=HYPERLINK(1)"}, {"keyword": "[x](javascript:y)"}]

    run_pipeline(ContentPipeline, items, tmp_path, keywords_per_cluster=1)

    pages = [path.read_text() for path in files_of(tmp_path) if path.suffix == ".html"]
    assert pages
    assert not any("<script" in page or 'href="javascript' in page for page in pages)
    table = next(path for path in files_of(tmp_path) if path.suffix == ".csv").read_text("utf-8-sig")
    assert not any(cell.startswith("=") for row in csv.reader(io.StringIO(table)) for cell in row)


@pytest.mark.parametrize("keywords", [["taxes"], ["taxes", "dogs"], ["日本 旅行", "???"]])
def test_the_smallest_inputs_work(keywords, tmp_path):
    outputs = run_pipeline(ContentPipeline, [{"keyword": keyword} for keyword in keywords], tmp_path)

    assert sum(len(cluster["keywords"]) for cluster in outputs["clusters"]) == len(keywords)
    assert len(outputs["images"]) == 3 * len(outputs["clusters"])


@pytest.mark.slow
def test_slices_make_no_difference(outputs, folder, tmp_path):
    sliced = run_pipeline(ContentPipeline, sample(60), tmp_path, 7, ideas_per_cluster=2, images_per_article=2)

    assert digest(sliced, tmp_path) == digest(outputs, folder)


@pytest.mark.slow
def test_processes_hash_seeds_and_threads_make_no_difference(tmp_path):
    """Two processes as unlike as they come leave the same outputs and the same files, byte for byte."""
    source = tmp_path / "words.csv"
    source.write_text("keyword\n" + "".join(f"{item['keyword']}\n" for item in sample(120)))
    digests = []
    for seed, threads, slice_size in (("1", "1", "1000"), ("4711", "4", "5")):
        folder = tmp_path / seed
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-m", "tests.support.stage_runs", str(folder), slice_size, str(source)]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout.strip())

    assert digests[0] == digests[1]
    assert len(digests[0]) == 64


@pytest.mark.parametrize("item", [{}, {"keyword": 3}, {"keyword": " "}, {"keyword": "x" * 501}])
def test_an_item_without_a_keyword_is_refused(item):
    with pytest.raises(InvalidInput):
        ContentPipeline.clean_item(item)


def test_an_endpoint_is_needed_to_ask_one(settings):
    settings.TEXT_PROVIDER_BASE_URL = ""
    with pytest.raises(InvalidParams, match=r"expected parameter base_url or setting TEXT_PROVIDER_BASE_URL"):
        ContentPipeline.clean_params({"provider": "openai"})

    settings.TEXT_PROVIDER_BASE_URL = "http://localhost:1/v1"
    assert ContentPipeline.clean_params({"provider": "openai"})["base_url"] == ""


@pytest.mark.parametrize("url", ["https://llm.internal/v1", "http://other:8089/v1", "https://given.example/v1/"])
def test_a_run_may_name_the_endpoints_that_the_settings_allow(settings, url):
    settings.TEXT_PROVIDER_BASE_URL = "https://given.example/v1"
    settings.TEXT_PROVIDER_HOSTS = ["LLM.internal", "other:8089"]

    assert ContentPipeline.clean_params({"provider": "openai", "base_url": url})["base_url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://other:8090/v1",
        "http://other/v1",
        "http://llm.internal@elsewhere/v1",
        "https://llm.internal.elsewhere/v1",
        "https://given.example/admin",
    ],
)
def test_a_run_cannot_have_the_workers_call_any_host(settings, url):
    settings.TEXT_PROVIDER_BASE_URL = "https://given.example/v1"
    settings.TEXT_PROVIDER_HOSTS = ["llm.internal", "other:8089"]

    for asked in ({"provider": "openai"}, {"image_provider": "openai"}):
        with pytest.raises(InvalidParams, match=r"TEXT_PROVIDER_HOSTS \(llm\.internal, other:8089\)"):
            ContentPipeline.clean_params({**asked, "base_url": url})


@pytest.mark.parametrize("url", ["ftp://llm.internal/v1", "llm.internal", "http://", "http://[::1/v1", "http://a:x/v1"])
def test_what_is_no_address_is_refused(settings, url):
    settings.TEXT_PROVIDER_HOSTS = ["llm.internal", "a"]

    with pytest.raises(InvalidParams, match="to be an http"):
        ContentPipeline.clean_params({"provider": "openai", "base_url": url})
