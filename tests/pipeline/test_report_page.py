"""``report.html``: complete, self-contained, inert whatever the names, usable without colour."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.report import report_page
from pipeline.report.names import visible
from pipeline.report.page import outline_path
from pipeline.report.render import number, percent
from pipeline.report.words import (
    FAILURE_MENDS,
    GEOMETRY_METHODS,
    IMAGE_REASONS,
    PATIENT_REASONS,
    failure_mend,
)
from pipeline.results import DISCLAIMER, Confidence, Geometry, ImageResult, PatientReport, Quality
from tests.pipeline.report_builder import failed_image, ok_image, report_on, series

REPOSITORY = Path(__file__).resolve().parents[2]

HOSTILE = "<script>alert(1)</script>\n\u202e\"'>&<img src=x onerror=alert(1)>\x00\udcff"

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page, with the check that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element with the tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        """The text of the page, spaces folded."""
        return " ".join("".join(self.text).split())


def png(colour: tuple[int, int, int] = (200, 150, 180)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
    return buffer.getvalue()


def every_picture(source: str, name: str) -> bytes | None:
    """A picture for whatever is asked."""
    return png()


def no_picture(source: str, name: str) -> bytes | None:
    """A store that lost its pictures."""
    return None


def parsed(report: PatientReport) -> Page:
    return Page(report_page(report, every_picture, None))


@pytest.fixture(scope="module")
def usual() -> PatientReport:
    return report_on([*series(3, "pre_b"), ok_image(label="pre_b", tiles=3), failed_image()])


# --- complete -----------------------------------------------------------------------------------


def test_the_page_says_what_the_report_says(usual: PatientReport) -> None:
    words = parsed(usual).words
    assert "Patient P-17" in words
    assert "Pre-B ALL" in words
    assert usual.statement in words
    assert DISCLAIMER in words
    assert usual.model.bundle_digest in words
    assert usual.model.tested in words
    assert "tensorflow 2.19.0" in words
    assert "lime_samples = 4000" in words
    for code in usual.reasons:
        assert PATIENT_REASONS[code] in words
    for image in usual.images:
        assert image.source in words


def test_an_image_shows_its_pictures_and_cells(usual: PatientReport) -> None:
    page = parsed(report_on([ok_image(white_cells=9)]))
    # The field, the explained tile once, and five layers over it.
    assert len(page.all("image")) == 7
    used = [use["href"] for use in page.all("use")]
    assert used == 5 * ["#tile-1", "#cells-1"]
    assert "9 white cells outlined" in page.words
    paths = [path["d"] or "" for path in page.all("path")]
    # A halo and a line for whole cells, the same for the one that is cut by the edge, and all of
    # them over the explanations.
    assert [path.count("Z") for path in paths] == [8, 8, 1, 1, 9]


def test_an_explained_image_is_shown_among_all_references_if_the_bundle_has_a_map() -> None:
    image = ok_image()
    assert image.explanations is not None
    pictures = [name for name in image.explanations.pictures if name != "latent_map"]
    explanations = image.explanations.model_copy(update={"pictures": pictures})
    older = image.model_copy(update={"explanations": explanations})
    unexplained = ok_image(explained=False)
    words = "Map of the references, with image 1 joined to the 5 most similar ones"
    assert [one["alt"] for one in parsed(report_on([image])).all("img")] == [words]
    assert not parsed(report_on([older])).all("img")
    assert not parsed(report_on([unexplained])).all("img")


def test_outlines_are_in_the_pixels_of_the_original() -> None:
    page = parsed(report_on([ok_image(width=2592, height=1944)]))
    assert any(svg.get("viewbox") == "0 0 2592 1944" for svg in page.all("svg"))
    cell = ok_image(white_cells=1).cells[0].model_copy(update={"outline": [(0, 0), (4, 0), (4, 3)]})
    assert outline_path([cell]) == "M0.5 0.5L4.5 0.5L4.5 3.5Z"


def test_the_explained_part_of_a_tiled_field_is_framed() -> None:
    tiled = parsed(report_on([ok_image(tiles=3)]))
    whole = parsed(report_on([ok_image(tiles=1)]))
    assert [rect for rect in tiled.all("rect") if rect.get("class") == "tile"]
    assert not [rect for rect in whole.all("rect") if rect.get("class") == "tile"]


def test_low_confidence_is_explained_in_plain_words() -> None:
    words = parsed(report_on([ok_image(flag="low", reasons=list(IMAGE_REASONS))])).words
    for sentence in IMAGE_REASONS.values():
        assert sentence in words


def test_a_reason_without_a_sentence_is_shown_as_it_is() -> None:
    assert "brand_new" in parsed(report_on([ok_image(flag="low", reasons=["brand_new"])])).words


def test_a_failed_image_is_listed_with_its_reason_and_what_to_do() -> None:
    words = parsed(report_on([failed_image(reason="outside_root", message="leads away")])).words
    assert "leads away" in words
    assert FAILURE_MENDS["outside_root"] in words
    assert (
        failure_mend("never_heard_of")
        in parsed(report_on([failed_image(reason="never_heard_of")])).words
    )


def test_relevance_beside_the_cells_is_pointed_out() -> None:
    image = ok_image()
    assert image.explanations is not None
    aside = image.explanations.lime.model_copy(update={"inside_white_cells": 0.2})
    wrong = image.model_copy(
        update={"explanations": image.explanations.model_copy(update={"lime": aside})}
    )
    assert "Beside the cells." in parsed(report_on([wrong])).words
    assert "Beside the cells." not in parsed(report_on([image])).words


def test_a_synthetic_report_says_so_at_its_head() -> None:
    words = parsed(report_on([ok_image(synthetic=True)])).words
    assert words.index("Synthetic images.") < words.index("Call")
    assert "Synthetic images." not in parsed(report_on([ok_image()])).words


def test_lost_pictures_are_said_to_be_missing() -> None:
    page = Page(report_page(report_on([ok_image()]), no_picture, None))
    assert page.all("image") == []
    assert "The picture of the field is not stored." in page.words
    # Five layers, and the map.
    assert page.words.count("The picture is not stored.") == 6


def test_bytes_that_are_no_picture_are_not_embedded() -> None:
    html = report_page(report_on([ok_image()]), lambda _source, _name: b"<svg onload=x>", None)
    assert "data:" not in html.split("</head>")[1]


def test_a_reference_picture_is_in_the_page_once_however_often_it_is_a_neighbour() -> None:
    asked: list[str] = []

    def references(neighbour_id: str) -> bytes | None:
        asked.append(neighbour_id)
        return png() if neighbour_id == "benign-0002" else None

    page = Page(report_page(report_on(series(4)), no_picture, references))
    assert sorted(set(asked)) == [f"benign-{n:04}" for n in range(5)]
    assert len(page.all("image")) == 1
    assert [use["href"] for use in page.all("use")] == ["#reference-1"] * 4


def test_the_most_suspicious_images_are_named_for_a_first_look() -> None:
    report = report_on([*series(9), ok_image("z.jpg", label="pro_b"), ok_image("zz.jpg")])
    assert "Look at these first: image 10." in parsed(report).words
    assert "Look at these first" not in parsed(report_on(series(9))).words


@pytest.mark.parametrize("count", [0, 1, 60])
def test_the_page_works_for_any_number_of_images(count: int) -> None:
    page = parsed(report_on(series(count)))
    assert len([s for s in page.all("section") if s.get("class") == "image"]) == count


def test_the_same_report_gives_the_same_page(usual: PatientReport) -> None:
    assert report_page(usual, every_picture, None) == report_page(usual, every_picture, None)


def test_every_way_a_field_becomes_input_has_words() -> None:
    methods = Geometry.model_fields["method"].annotation.__args__  # type: ignore[union-attr]  # a Literal
    assert set(GEOMETRY_METHODS) == set(methods)


def reasons_of_failure() -> set[str]:
    """Every reason that the source code gives for a failed image."""
    found = set()
    for package in ("pipeline", "worker"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    found |= {
                        argument.value
                        for argument in [
                            *(node.args[:1] if node.func.id == "BadInputError" else []),
                            *(k.value for k in node.keywords if k.arg == "reason"),
                        ]
                        if isinstance(argument, ast.Constant)
                    }
    return found


def test_every_failure_comes_with_something_to_do() -> None:
    assert {"truncated", "outside_root", "internal_error"} <= reasons_of_failure()
    assert reasons_of_failure() - set(FAILURE_MENDS) == set()


def test_every_reason_against_an_image_has_a_sentence() -> None:
    described = " ".join(
        record.model_fields["reasons"].description or "" for record in (Quality, Confidence)
    )
    codes = set(re.findall(r"[a-z]+(?:_[a-z]+)+|blurred|dark|bright|blank|background", described))
    assert codes == set(IMAGE_REASONS)


# --- inert --------------------------------------------------------------------------------------


def hostile_report(text: str) -> PatientReport:
    image = ok_image(f"{text}/1.jpg", flag="low", reasons=[text])
    assert image.confidence is not None
    neighbours = [n.model_copy(update={"id": text}) for n in image.confidence.neighbours]
    confidence = image.confidence.model_copy(update={"neighbours": neighbours})
    report = report_on(
        [
            image.model_copy(update={"confidence": confidence}),
            failed_image(f"{text}/2.jpg", reason=text, message=text),
        ],
        patient=text,
    )
    model = report.model.model_copy(update={"name": text, "tested": text})
    return report.model_copy(update={"model": model, "software": {text: text}})


def assert_inert(html: str) -> None:
    """No script, no request, no element that could make one."""
    html.encode("utf-8")
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "iframe",
        "object",
        "embed",
        "form",
        "link",
        "base",
        "foreignobject",
    }
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            if target is not None and tag != "a":
                assert target.startswith(("data:image/", "#reference-", "#tile-", "#cells-"))
            elif target is not None:
                assert target.startswith("#image-")


@pytest.mark.parametrize("text", [HOSTILE, "javascript:alert(1)", "{{ 7 * 7 }}", "</style><b>"])
def test_hostile_names_and_messages_stay_text(text: str) -> None:
    html = report_page(hostile_report(text), every_picture, lambda _: png())
    assert_inert(html)
    assert " ".join(visible(text).split()) in Page(html).words


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), min_size=1, max_size=30))
def test_no_text_whatever_breaks_out(text: str) -> None:
    harmless = Page(report_page(hostile_report("x"), every_picture, lambda _: png()))
    page = Page(report_page(hostile_report(text), every_picture, lambda _: png()))

    def structure(of: Page) -> list[str]:
        return [tag for tag, attributes in of.elements if tag != "span"]

    assert structure(page) == structure(harmless)


def test_hidden_characters_are_visible() -> None:
    html = report_page(report_on([ok_image("a\nb\u202ec.jpg")]), no_picture, None)
    body = html.split("<body>")[1]
    assert '<span class="hidden-character">\\n</span>' in body
    assert "\u202e" not in html
    assert "\\u202E" in body


def test_the_policy_allows_nothing_but_the_pages_own_style_and_pictures(
    usual: PatientReport,
) -> None:
    html = report_page(usual, every_picture, None)
    (policy,) = [
        meta["content"] or ""
        for meta in Page(html).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|https?:", style)


def test_a_patients_name_cannot_leave_the_style_sheet() -> None:
    html = report_page(report_on([], patient='"; } </style><b>'), no_picture, None)
    style = html.split("<style>")[1].split("</style>")[0]
    first = style.splitlines()[0]
    assert re.fullmatch(r'@page \{ @top-left \{ content: "[A-Za-z0-9 _\\-]*"; \} \}', first)


# --- accessible ---------------------------------------------------------------------------------


def test_pictures_have_words(usual: PatientReport) -> None:
    page = Page(report_page(usual, every_picture, lambda _: png()))
    assert page.all("svg")
    for svg in page.all("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg["aria-label"])


def test_tables_have_headers_and_the_page_a_language(usual: PatientReport) -> None:
    page = parsed(usual)
    assert page.all("html") == [{"lang": "en-GB"}]
    assert all(header.get("scope") in {"row", "col", "rowgroup"} for header in page.all("th"))
    assert len(page.all("h1")) == 1


def test_links_lead_to_images_of_the_page(usual: PatientReport) -> None:
    page = parsed(usual)
    anchors = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(anchors) == len(set(anchors))
    links = [link["href"] or "" for link in page.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(anchors)


def test_colours_of_text_have_the_contrast_that_wcag_asks_for() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    html = report_page(report_on([]), no_picture, None)
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", html))
    for name in ("ink", "quiet", "link", "malignant", "mixed", "benign", "none"):
        for background in ("#ffffff", "#fff9ec", colours["wash"]):
            light, dark = luminance(background), luminance(colours[name])
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, background)


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.5, "50%"),
        (0.877, "87.7%"),
        (1e-5, "< 0.1%"),
        (0.9999, "> 99.9%"),
    ],
)
def test_certainty_is_never_rounded_into_being(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_missing_number_is_a_dash() -> None:
    assert number(None) == "–"
    assert number(0.41234) == "0.412"


def test_an_image_without_geometry_still_has_its_section() -> None:
    bare: ImageResult = ok_image().model_copy(
        update={"geometry": None, "quality": None, "explanations": None}
    )
    assert "No explanation was computed" in parsed(report_on([bare])).words
