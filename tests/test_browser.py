"""The report in a real browser: no error, no request, all text, for every reader."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from innerloop.cli import main
from making import explanation_of_made_runs, make_run

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
EXPLANATION = explanation_of_made_runs()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None and not os.environ.get("CI"),
        reason="no Chromium on this machine: install it to test the page",
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = [make_run(folder, method) for method in ("fomaml", "maml", "mamlpp", "transfer")]
    runs.append(make_run(folder, "fomaml", 1, name="<img src=x onerror=alert(1)>"))
    paths = [str(run.path) for run in runs]
    options = ["--assignment", "--out", str(folder), "--explanation", str(EXPLANATION)]
    assert main(["report", *paths, *options]) == 0
    return folder / "report.html"


def opened(browser: Any, report: Path, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
    """A page, and what went wrong on it: errors, dialogs, and requests that leave the file."""
    page, wrong = browser.new_page(viewport={"width": width, "height": 900}, **options), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on(
        "request",
        lambda request: wrong.append(request.url) if request.url != report.as_uri() else None,
    )
    page.goto(report.as_uri())
    return page, [text for text in wrong if not text.startswith("data:")]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_errors_or_requests_and_fits(
    browser, report, tmp_path, width, scheme
):
    page, wrong = opened(browser, report, width, color_scheme=scheme)
    page.screenshot(path=tmp_path / "page.png", full_page=True)

    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert "FO-MAML is above the bar of 80 %" in page.inner_text("main")
    assert page.locator("figure svg").count() == page.locator("figure figcaption").count() > 15
    page.close()


def test_a_name_that_looks_like_a_tag_is_text(browser, report):
    page, wrong = opened(browser, report)

    assert "<img src=x onerror=alert(1)>" in page.inner_text("main")
    assert page.locator("img").count() == 0 and wrong == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, report, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, _ = opened(browser, report, color_scheme=scheme)
    found = Axe().run(page).response["violations"]

    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    page.close()


def test_a_pointer_and_keys_show_values_and_buttons_switch_series(browser, report):
    page, _ = opened(browser, report)
    figure = page.locator("#figure-validation-fomaml")
    figure.scroll_into_view_if_needed()
    box = figure.locator("g.series").first.bounding_box()
    page.mouse.move(box["x"] + box["width"], box["y"] + 2)
    value = figure.locator(".value")

    assert "after 5 inner steps: query accuracy, % 98, outer step 30" in value.inner_text()
    figure.locator(".picture").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert value.inner_text() == "after 5 inner steps: query accuracy, % 90, outer step 10"
    button = figure.get_by_role("button", name="after 5 inner steps")
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert figure.locator('g.series[data-series="after 5 inner steps"]').first.is_hidden()
    button.press("Enter")
    assert figure.locator('g.series[data-series="after 5 inner steps"]').first.is_visible()
    page.close()


def test_without_its_script_the_page_is_complete(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())

    assert page.locator("figure svg").count() > 15 and page.locator(".switches").count() == 0
    context.close()


def test_no_words_of_a_figure_overlap(browser, report):
    page, _ = opened(browser, report)
    overlapping = page.evaluate(
        """() => [...document.querySelectorAll("figure")].flatMap((figure) => {
          const boxes = [...figure.querySelectorAll("svg text")]
            .map((text) => [text, text.getBoundingClientRect()]);
          return boxes.flatMap(([a, p], index) => boxes.slice(index + 1)
            .filter(([b, q]) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2
                             && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3)
            .map(([b, q]) => `${figure.id}: ${a.textContent} | ${b.textContent}`));
        })"""
    )

    assert overlapping == []
    page.close()
