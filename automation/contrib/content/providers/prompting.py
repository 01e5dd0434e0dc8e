"""What the ``openai`` provider asks: as instructions for chat models, as examples to continue for base models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automation.contrib.content.language import in_sentence, listed
from automation.contrib.content.providers.base import Brief

EDITOR = (
    "You are an experienced editor who writes for the general public: plain words, short sentences, no hype, no facts"
    " that you are not sure of. Answer with the text asked for and nothing else."
)


@dataclass(frozen=True)
class Prompt:
    """``instruction`` for a chat model; ``example`` for a base model to continue, until ``stop``."""

    instruction: str
    example: str
    stop: Sequence[str]
    most_tokens: int


def ideas(topic: str, keywords: Sequence[str], count: int) -> Prompt:
    searches = ", ".join(keywords[:12])
    return Prompt(
        instruction=(
            f"People search for: {searches}.\nPropose {count} different article titles about {topic} that would help"
            " them. One per line, numbered, each followed by ' - ' and one sentence that says what the article covers."
        ),
        example=(
            "A magazine plans its articles.\n\n"
            "Topic: House Plants\nSearches: low light plants, how often to water a fern, repotting\nArticles:\n"
            "1. Plants That Thrive in a Dark Room - Eight plants that grow well far from a window.\n"
            "2. How Often to Water a Fern - What the soil and the leaves tell you about watering.\n"
            "3. Repotting Step by Step - When a plant needs a bigger pot, and how to move it safely.\n\n"
            "Topic: Night Trains\nSearches: sleeper train to vienna, train with bed, overnight rail pass\nArticles:\n"
            "1. What to Expect on a Sleeper Train - Cabins, beds, breakfast and noise, described by regulars.\n"
            "2. Choosing a Rail Pass for Night Travel - Which passes include a bed and which cost extra.\n"
            "3. Packing for a Night on the Rails - A short list for a good sleep on a moving train.\n\n"
            f"Topic: {topic}\nSearches: {searches}\nArticles:\n1."
        ),
        stop=("\n\n", "Topic:"),
        most_tokens=60 * count + 40,
    )


def outline(brief: Brief) -> Prompt:
    return Prompt(
        instruction=(
            f"Write the {brief.sections} section headings of an article called {brief.title!r}. It covers:"
            f" {brief.summary} Readers search for {listed(brief.keywords[:6])}. One heading a line, numbered, at most"
            " eight words each; no introduction, no conclusion, no questions and answers."
        ),
        example=(
            "Articles and their section headings.\n\n"
            "Article: Repotting Step by Step\nHeadings:\n1. Signs That the Pot Is Too Small\n2. Choosing Pot and Soil\n"
            "3. Moving the Plant Without Harm\n4. Care in the First Weeks\n\n"
            "Article: What to Expect on a Sleeper Train\nHeadings:\n1. Seats, Couchettes and Cabins\n"
            "2. What a Ticket Includes\n3. Sleeping on a Moving Train\n4. Arriving in the Morning\n\n"
            f"Article: {brief.title}\nHeadings:\n1."
        ),
        stop=("\n\n", "Article:"),
        most_tokens=24 * brief.sections + 30,
    )


def passage(brief: Brief, heading: str, words: int) -> Prompt:
    """A section, or the introduction or conclusion when that is the heading."""
    return Prompt(
        instruction=(
            f"Write the section {heading!r} of the article {brief.title!r}, about {words} words in Markdown paragraphs"
            f" and, where it helps, a list. No heading. Readers search for {listed(brief.keywords[:6])}."
        ),
        example=(
            "Article: Repotting Step by Step\nSection: Signs That the Pot Is Too Small\n"
            "Text: Roots that grow out of the bottom are the clearest sign. Water that runs straight through is another"
            ": there is little soil left to hold it. A plant that has stopped growing in spring may need room too. Lift"
            " it out gently and look. If you see more roots than soil, it is time for a bigger pot.\n\n"
            "Article: What to Expect on a Sleeper Train\nSection: What a Ticket Includes\n"
            "Text: Every ticket includes a place to sit or lie. Bed linen and water come with a couchette, and a cabin"
            " adds a basin and breakfast. Bicycles and large dogs need a ticket of their own. Read the booking page"
            " with care, because the cheapest fare often cannot be changed.\n\n"
            f"Article: {brief.title}\nSection: {heading}\nText:"
        ),
        stop=("\n\n", "\nArticle:", "\nSection:"),
        most_tokens=words * 2,
    )


def question_list(brief: Brief) -> Prompt:
    return Prompt(
        instruction=(
            f"Readers of the article {brief.title!r} search for {listed(brief.keywords[:8])}. Write the"
            f" {brief.questions} questions they most likely still have, one per line, numbered."
        ),
        example=(
            "Searches become questions.\n\n"
            "Searches: low light plants, how often to water a fern, repotting\nQuestions:\n"
            "1. Which plants need the least light?\n2. How often should I water a fern?\n"
            "3. When is the best time to repot?\n\n"
            f"Searches: {', '.join(brief.keywords[:8])}\nQuestions:\n1."
        ),
        stop=("\n\n", "Searches:"),
        most_tokens=24 * brief.questions + 20,
    )


def answer(brief: Brief, question: str) -> Prompt:
    return Prompt(
        instruction=f"In an article about {in_sentence(brief.topic)}: answer in two or three sentences: {question}",
        example=(
            "Question: Which plants need the least light?\n"
            "Answer: Cast-iron plants and snake plants do well far from a window. They grow slowly there, so water them"
            " less.\n\n"
            "Question: Can I take a dog on a night train?\n"
            "Answer: Small dogs in a carrier usually travel free. Larger ones need a ticket and, on some lines, a cabin"
            " of your own.\n\n"
            f"Question: {question}\nAnswer:"
        ),
        stop=("\n\n", "\nQuestion:"),
        most_tokens=120,
    )


def picture(title: str, summary: str, number: int) -> Prompt:
    return Prompt(
        instruction=(
            f"Describe in at most 50 words a picture (number {number}) for the article {title!r}: {summary} Name"
            " subject, style and colours. No text in the picture."
        ),
        example=(
            "Article: Repotting Step by Step\n"
            "Picture: Flat illustration of hands lifting a fern from a small clay pot, warm green and sand colours.\n\n"
            "Article: What to Expect on a Sleeper Train\n"
            "Picture: Wide view of a night train crossing layered hills under stars, in navy, teal and amber.\n\n"
            f"Article: {title}\nPicture:"
        ),
        stop=("\n",),
        most_tokens=90,
    )
