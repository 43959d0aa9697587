"""The page in a real browser: hover, click, drag, zoom, sort, comment, run a study, go back."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from kadanoff.atlas import papers
from kadanoff.atlas.identity import Record
from kadanoff.atlas.store import Store
from tests.needs import needs

pytestmark = pytest.mark.browser
HOME = "/papers/roberts2021"
BANTA = '.node[data-id="banta2023"]'


def visit(page: Any, address: str, path: str = "/") -> None:
    page.goto(address + path)
    page.wait_for_selector("body[data-ready]", state="attached")


def centre(page: Any, selector: str) -> tuple[float, float]:
    box = page.locator(f"{selector} .shape").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def colour(page: Any, selector: str) -> tuple[int, int, int]:
    """What is painted where the paper's invisible link lies."""
    x, y = centre(page, selector)
    red, green, blue = page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector("#canvas canvas");
          const box = canvas.getBoundingClientRect();
          const k = canvas.width / box.width;
          const at = [(x - box.x) * k, (y - box.y) * k];
          return [...canvas.getContext("2d").getImageData(...at, 1, 1).data];
        }""",
        [x, y],
    )[:3]
    return red, green, blue


def place(page: Any, selector: str) -> list[float]:
    """Where a paper stands on the map, whatever the zoom."""
    style = page.locator(selector).evaluate("e => e.style.transform")
    return [float(v) for v in re.findall(r"-?[\d.]+", style)]


def test_a_newcomer_sees_the_essay_among_its_neighbours(page: Any, address: str) -> None:
    visit(page, address)
    assert page.url == address + HOME
    assert page.locator("h1").inner_text() == "Why is AI hard and Physics simple?"
    assert page.get_by_role("link", name="arXiv:2104.00008").is_visible()
    # the essay, its 82 references and the 8 works known to cite it
    assert page.locator(".node").count() == 91
    assert page.locator("#shown").inner_text() == "91 papers"
    page.wait_for_timeout(150)
    # the current paper dark grey, what cites it green, what it references blue
    red, green, blue = colour(page, ".node.current")
    assert max(red, green, blue) < 110
    assert max(red, green, blue) - min(red, green, blue) < 15
    red, green, blue = colour(page, BANTA)
    assert green > max(red, blue)
    red, green, blue = colour(page, '.node[data-id="pdlt2021"]')
    assert blue > max(red, green)
    rows = page.locator("#papers tbody tr:visible")
    assert rows.count() == 25
    page.get_by_role("button", name="Show all 90").click()
    assert rows.count() == 90
    assert page.url.endswith("?rows=all")
    said = page.locator('tr[data-id="li2022lazy"]').inner_text()
    assert "Lazy Neuron" in said
    assert "Parsimonious Learners" in said


def test_hover_shows_the_title_in_graph_and_table(page: Any, address: str) -> None:
    visit(page, address)
    page.locator(f"{BANTA} .shape").hover()
    assert "Structures of Neural Network Effective Theories" in page.locator("#tip").inner_text()
    assert "hot" in page.locator('tr[data-id="banta2023"]').get_attribute("class")
    assert "no citing work known here" in page.locator("#tip").inner_text()
    assert "nearness 0." in page.locator("#tip").inner_text()
    # the neighbourhood lights up: what has nothing to do with it fades
    faded = colour(page, '.node[data-id="lake2017"]')
    page.mouse.move(5, 5)
    page.wait_for_timeout(60)
    assert page.locator("#tip").is_hidden()
    assert sum(colour(page, '.node[data-id="lake2017"]')) < sum(faded)
    page.get_by_role("button", name="Show all 90").click()
    page.locator('tr[data-id="wigner1960"]').hover()
    page.wait_for_timeout(60)
    assert colour(page, '.node[data-id="lake2017"]') == faded


def test_click_opens_details_and_back_and_forward_work(page: Any, address: str) -> None:
    visit(page, address)
    page.locator(f"{BANTA} .shape").click()
    page.wait_for_selector("#card:not([hidden])")
    assert page.url.endswith("?show=banta2023")
    assert "Ian Banta" in page.locator("#card").inner_text()
    page.locator("#card").get_by_role("link", name="View paper").click()
    page.wait_for_url("**/papers/banta2023")
    page.wait_for_selector("body[data-ready]", state="attached")
    assert page.locator("h1").inner_text().startswith("Structures")
    page.go_back()
    page.wait_for_selector("#card:not([hidden])")
    assert page.url.endswith("?show=banta2023")
    page.go_back()
    page.wait_for_selector("#card[hidden]", state="attached")
    assert page.url == address + HOME
    page.go_forward()
    page.wait_for_selector("#card:not([hidden])")
    page.keyboard.press("Escape")
    page.wait_for_selector("#card[hidden]", state="attached")


def test_drag_moves_a_paper_and_the_place_is_kept(page: Any, address: str) -> None:
    visit(page, address)
    x, y = centre(page, BANTA)
    still = centre(page, '.node[data-id="wigner1960"]')
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 25, y - 30, steps=4)
    page.mouse.move(x + 60, y - 70, steps=4)
    with page.expect_response("**/layout"):
        page.mouse.up()
    moved = centre(page, BANTA)
    assert abs(moved[0] - x - 60) < 4
    assert abs(moved[1] - y + 70) < 4
    # a drag is no click
    assert page.url.startswith(address + HOME)
    assert "show=" not in page.url
    page.wait_for_timeout(600)
    other = centre(page, '.node[data-id="wigner1960"]')
    assert abs(other[0] - still[0]) + abs(other[1] - still[1]) < 6
    where = place(page, BANTA)
    visit(page, address)
    assert place(page, BANTA) == pytest.approx(where, abs=0.2)
    old = page.locator(BANTA).evaluate("e => e.style.transform")
    page.get_by_role("button", name="Put papers back").click()
    page.wait_for_function(
        "old => ![old, undefined].includes("
        "document.querySelector('[data-id=banta2023].node')?.style.transform)",
        arg=old,
    )


def test_zoom_by_button_wheel_and_key(page: Any, address: str) -> None:
    visit(page, address)

    def scale() -> float:
        page.wait_for_timeout(320)
        return float(page.evaluate("document.querySelector('#canvas').__zoom.k"))

    start = scale()
    page.get_by_role("button", name="Zoom in").click()
    closer = scale()
    assert closer > 1.2 * start
    # what one looks at is in the address, and there again after a reload
    assert "view=" in page.url
    page.reload()
    page.wait_for_selector("body[data-ready]", state="attached")
    assert scale() == pytest.approx(closer, rel=0.02)
    page.get_by_role("button", name="Zoom out").click()
    assert scale() == pytest.approx(start, rel=0.02)
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.wheel(0, -400)
    assert scale() > 1.2 * start
    page.get_by_role("button", name="Fit the graph").click()
    assert scale() == pytest.approx(start, rel=0.02)
    page.wait_for_function("() => !location.search.includes('view=')")
    page.locator(".node.current").focus()
    page.keyboard.press("+")
    assert scale() > 1.2 * start
    zoom, area = page.locator(".zoom").bounding_box(), page.locator("#map").bounding_box()
    assert area["x"] + area["width"] - zoom["x"] - zoom["width"] < 40
    assert area["y"] + area["height"] - zoom["y"] - zoom["height"] < 40


def test_the_graph_by_keyboard(page: Any, address: str) -> None:
    visit(page, address)
    page.keyboard.press("g")
    assert page.evaluate("document.activeElement.dataset.id") == "roberts2021"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    first = page.evaluate("document.activeElement.dataset.id")
    assert page.locator(f'.node.cites[data-id="{first}"]').count() == 1
    assert page.locator("#tip").is_visible()
    name = page.locator(f'.node[data-id="{first}"]').get_attribute("aria-label")
    assert ", cites this paper, " in name
    page.keyboard.press("Enter")
    page.wait_for_selector("#card:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "card-title"
    page.keyboard.press("Escape")
    page.wait_for_selector("#card[hidden]", state="attached")
    assert page.evaluate("document.activeElement.dataset.id") == first
    # one tab stop only
    assert page.locator('.node[tabindex="0"]').count() == 1


def test_sort_filter_and_export(page: Any, address: str) -> None:
    visit(page, address, f"{HOME}?rows=all")
    years = page.locator("#papers tbody tr:visible .y")

    def known() -> list[int]:
        return [int(v) for v in years.all_inner_texts() if v]

    page.get_by_role("button", name="Year").click()
    found = known()
    assert found == sorted(found)
    page.get_by_role("button", name="Year").click()
    assert known() == sorted(found, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Year")
    page.reload()
    page.wait_for_selector("body[data-ready]", state="attached")
    assert "sort=-year" in page.url
    assert known() == sorted(found, reverse=True)
    page.get_by_label("Sort the table").select_option("-cited")
    cited = [
        int(v)
        for v in page.locator("#papers tbody tr:visible").evaluate_all(
            "rows => rows.map((row) => row.dataset.cited)"
        )
    ]
    assert cited == sorted(cited, reverse=True)
    page.get_by_label("Filter the table").fill("tenenb 2011")
    assert page.locator("#papers tbody tr:visible").count() == 1
    page.get_by_label("Filter the table").fill("no such")
    assert page.locator("#none").is_visible()
    page.get_by_label("Filter the table").fill("")
    page.get_by_role("button", name="Referenced").click()
    assert page.locator("#papers tbody tr:visible").count() == 82
    # the map shows the same
    assert page.locator(".node:visible").count() == 83
    with page.expect_download() as waiting:
        page.get_by_role("link", name="BibTeX").click()
    assert waiting.value.suggested_filename == "roberts2021-connected.bib"
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("link", name="View Paper: The Principles of Deep Learning Theory").click()
    page.wait_for_url("**/papers/pdlt2021")


def test_comment_reply_edit_delete_and_hostile_text(page: Any, address: str) -> None:
    fired: list[str] = []
    page.on("dialog", lambda d: (fired.append(d.message), d.dismiss()))
    visit(page, address, "/papers/pdlt2021")
    page.get_by_label("Your comment").fill(
        "The ratio $r = L/n$ **matters**.\n\n<img src=x onerror=alert(1)>"
        "<script>alert(2)</script> [x](javascript:alert(3))"
    )
    page.get_by_label("Your name").fill("Ada")
    page.locator("#write [type=submit]").click()
    page.wait_for_selector(".comment")
    said = page.locator(".comment .prose").first
    assert said.locator("math mi").first.text_content() == "r"
    assert said.locator("strong").inner_text() == "matters"
    assert said.locator("img, script, a").count() == 0
    page.get_by_role("button", name="Reply").click()
    page.get_by_label("Your reply").fill("Indeed.")
    page.locator(".comment form [type=submit]").click()
    page.wait_for_selector(".replies .comment")
    page.locator(".replies").get_by_role("button", name="Edit").click()
    page.get_by_label("Edit your comment").fill("Indeed so.")
    page.locator(".comment form [type=submit]").click()
    page.wait_for_selector(".replies .edited")
    page.reload()
    assert page.locator(".replies .prose").inner_text() == "Indeed so."
    assert page.locator(".replies .who b").inner_text() == "Ada"
    button = page.locator(".replies").get_by_role("button", name="Delete")
    button.click()
    page.get_by_role("button", name="Really delete?").click()
    page.wait_for_selector(".replies", state="detached")
    assert fired == []


def test_two_windows_and_a_draft(page: Any, address: str) -> None:
    visit(page, address, "/papers/lake2017")
    page.get_by_label("Your comment").fill("First")
    page.reload()
    # a reload does not lose what was being written
    assert page.get_by_label("Your comment").input_value() == "First"
    page.locator("#write [type=submit]").click()
    page.wait_for_selector(".comment")
    other = page.context.new_page()
    visit(other, address, "/papers/lake2017")
    for window, text in ((page, "From one"), (other, "From two")):
        window.get_by_role("button", name="Edit").click()
        window.get_by_label("Edit your comment").fill(text)
    page.locator(".comment form [type=submit]").click()
    page.wait_for_selector(".edited")
    other.locator(".comment form [type=submit]").click()
    other.wait_for_selector(".theirs")
    assert other.locator(".theirs").inner_text() == "From one"
    assert other.get_by_label("Edit your comment").input_value() == "From two"
    other.locator(".comment form [type=submit]").click()
    other.wait_for_function(
        "() => document.querySelector('.comment .prose')?.textContent.includes('From two')"
    )


def test_run_a_study_reload_cancel_and_see_its_claims(page: Any, address: str) -> None:
    visit(page, address)
    page.get_by_role("button", name="Run the study").click()
    page.wait_for_selector("[data-status=running]")
    page.wait_for_function("() => document.querySelector('#studies progress')?.value > 0")
    page.reload()
    page.wait_for_selector("[data-status=running]")
    page.get_by_role("button", name="Cancel").last.click()
    page.wait_for_selector("[data-status=cancelled]")
    page.get_by_role("button", name="Run the study").click()
    page.wait_for_selector("[data-status=done]")
    claims = page.locator(".claims tbody tr")
    assert claims.locator(".verdict").all_inner_texts() == ["holds", "fails"]
    assert "2.01(2)" in claims.first.inner_text()
    # the figure to begin with is as wide as the text, no thumbnail
    picture = page.locator(".lead-in img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.lead-in img').naturalWidth > 0")
    assert picture.bounding_box()["width"] > 600


def test_search_reading_list_and_theme(page: Any, address: str) -> None:
    visit(page, address)
    page.keyboard.press("/")
    page.keyboard.type("parsimon author:kumar")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=parsimon*")
    page.get_by_role("link", name="The Lazy Neuron Phenomenon").click()
    page.wait_for_selector("body[data-ready]", state="attached")
    with page.expect_response("**/api/reading/**"):
        page.locator(".about [data-reading]").select_option("reading")
    page.get_by_role("navigation").get_by_role("link", name="My list").click()
    page.wait_for_url("**/reading")
    assert page.locator(".results > li").count() == 1
    assert page.locator(".results [data-reading]").input_value() == "reading"
    page.get_by_label("Reading status").get_by_role("link", name="To read").click()
    page.wait_for_url("**/reading?status=to-read")
    assert page.locator(".results > li").count() == 0
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_nearby_papers_are_shown_on_demand(page: Any, address: str) -> None:
    visit(page, address, "/papers/banta2023")
    few = page.locator(".node").count()
    page.get_by_role("checkbox", name="nearby, not cited").check()
    page.wait_for_function("n => document.querySelectorAll('.node').length > n", arg=few)
    assert page.locator(".node.near").count() == page.locator("tr[data-kind=near]:visible").count()
    page.reload()
    page.wait_for_selector(".node.near", state="attached")
    assert page.get_by_role("checkbox", name="nearby, not cited").is_checked()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS = [
    pytest.param({}, id="light"),
    pytest.param({**PHONE, "color_scheme": "dark"}, id="phone-dark"),
    pytest.param({"color_scheme": "dark"}, id="dark", marks=pytest.mark.slow),
    pytest.param(PHONE, id="phone", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("page", LOOKS, indirect=True)
def test_axe_finds_no_violation(page: Any, address: str) -> None:
    axe = needs("axe_playwright_python.sync_playwright", "test")
    paths = (HOME, "/papers/banta2023?show=roberts2021", "/search?q=physics", "/reading", "/import")
    for path in (*paths, "/connect?paper=li2022lazy&paper=pdlt2021", "/studies"):
        visit(page, address, path)
        page.wait_for_timeout(200)
        found = axe.Axe().run(page).response["violations"]
        told = [(v["id"], [n["html"][:90] for n in v["nodes"]]) for v in found]
        assert told == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_a_thousand_nodes_stay_smooth(page: Any, address: str, store: Store) -> None:
    with store.write() as db:
        middle = papers.save(db, Record("A central paper", ["Ada Central"], 2015, key="central"))
        ids = []
        for i in range(1000):
            ids.append(
                papers.save(db, Record(f"Neighbour {i} of it", [f"A Name{i}"], 2000 + i % 25))
            )
            papers.cite(db, *((ids[-1], middle) if i % 2 else (middle, ids[-1])))
        for i in range(999):
            papers.cite(db, ids[i + 1], ids[i])
    visit(page, address, "/papers/central")
    # the most relevant first, the rest counted, and shown when asked for
    assert page.locator(".node").count() == 501
    assert page.locator("#shown").inner_text() == "501 of 1,001 shown"
    page.get_by_role("button", name="Show more").click()
    page.wait_for_function("() => document.querySelectorAll('.node').length === 1001")
    assert "more=1" in page.url
    assert page.locator("#shown").inner_text() == "1,001 papers"
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    frames = page.evaluate_handle(
        """() => {
          const real = window.requestAnimationFrame.bind(window);
          window.costs = [];
          window.requestAnimationFrame = (draw) => real((now) => {
            const start = performance.now();
            draw(now);
            window.costs.push(performance.now() - start);
          });
          const times = [];
          const tick = (now) => { times.push(now); requestAnimationFrame(tick); };
          requestAnimationFrame(tick);
          return times;
        }"""
    )
    for step in range(30):
        page.mouse.move(box["x"] + 5 + 4 * step, box["y"] + 5 + 2 * step)
    page.mouse.up()
    times = frames.evaluate("t => t")
    # sixty pictures a second leave 16 ms for each; drawing all of it takes a part of that
    costs = sorted(page.evaluate("window.costs"))
    assert costs[len(costs) // 2] < 16
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    # a software-rendered browser on a shared machine: the middle frame, not the worst
    assert gaps[len(gaps) // 2] < 200
    # dragging a node among a thousand: it ends where it is let go, and nothing else is taken along
    k = page.evaluate(
        """() => [...document.querySelectorAll(".node")].findIndex((node) => {
          const box = node.getBoundingClientRect();
          const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return node.contains(top) && box.x > 100 && box.right < innerWidth - 200;
        })"""
    )
    node, other = page.locator(".node").nth(k), page.locator(".node").nth((k + 500) % 1001)
    start, still = node.bounding_box(), other.bounding_box()
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 31):
        page.mouse.move(x + 2 * step, y + step)
    page.mouse.up()
    end = node.bounding_box()
    moved = end["x"] - start["x"], end["y"] - start["y"]
    assert abs(moved[0] - 60) < 15
    assert abs(moved[1] - 30) < 15
    assert abs(other.bounding_box()["x"] - still["x"]) < 15
