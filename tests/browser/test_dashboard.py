"""The dashboard in a real browser: it lives, it keeps its policy, everybody can use it.

Playwright's async API in a fixture of ours: its own plugin and pytest-asyncio do not share a loop.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright, expect

from support.eventually import eventually
from support.web_world import World, web_world

pytestmark = pytest.mark.asyncio(loop_scope="module")
MISSING = "No Chromium here. Get it with: apt-get install -y chromium"
WATCH = """
document.addEventListener("securitypolicyviolation",
    e => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with web_world(tmp_path_factory.mktemp("web")) as made:
        await made.tiers.staff("add")
        await made.ready()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Watched:
    """A page, and what it complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def sound(self) -> None:
        """No complaint, nothing serious for assistive technology, no sideways scroll."""
        assert not self.complaints
        found = await Axe().run(self.page)
        serious = [
            (violation["id"], violation["nodes"][0]["html"])
            for violation in found.response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        assert not serious
        assert await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "it scrolls sideways"
        )


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Any, world: World) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(base_url=world.url, viewport={"width": 1440, "height": 900})
    await context.add_init_script(WATCH)
    yield context
    await context.close()


async def opened(context: BrowserContext, path: str) -> Watched:
    watched = Watched(await context.new_page())
    await watched.page.goto(path)
    await expect(watched.page.locator("#age")).to_have_attribute("data-age", "live", timeout=10_000)
    return watched


async def test_the_overview_lives(context: BrowserContext, world: World) -> None:
    watched = await opened(context, "/ui/")
    page, tiers = watched.page, world.tiers
    await expect(page.locator("#verdict")).to_have_text("Ready for work")
    await expect(page.locator("#live-latest")).to_contain_text("No task yet")
    await expect(page.locator("#live-workers")).to_contain_text("w-1")
    await page.evaluate("window.here = true")

    await world.submit({"task_id": "first", "task_type": "add", "payload": {"a": 2}})
    ref = tiers.ids["first"]
    row = page.locator(f"#t-{ref}")
    await expect(row).to_contain_text("ready")
    await tiers.place(ref)
    await tiers.start(ref)
    await expect(row).to_contain_text("running")
    await tiers.succeed(ref, result=b"5")
    await expect(row).to_contain_text("completed")
    await expect(page.locator("#verdict")).to_have_text("Everything flows")
    assert await page.evaluate("window.here"), "the page was loaded again"
    await watched.sound()


async def test_a_task_page_tells_what_happened_and_why(context: BrowserContext, world: World) -> None:
    tiers = world.tiers
    await world.submit({"task_id": "mail", "task_type": "add", "retries": 1, "payload": {"to": "<b>x</b>"}})
    ref = tiers.ids["mail"]
    await tiers.place(ref)
    watched = await opened(context, "/ui/tasks/mail")
    page = watched.page
    await tiers.err(ref, charged=1, due_s=60)
    await expect(page.locator("#live-because")).to_contain_text("Failed 1 of 2 times; runs again at")
    await expect(page.locator("#live-head")).to_contain_text("retrying")
    await expect(page.locator("#live-attempts")).to_contain_text("ValueError: smtp 421")
    await page.locator("#live-content summary").click()
    await expect(page.locator("#live-content")).to_contain_text('"<b>x</b>"')
    await tiers.err(ref, charged=2, last=True)
    await expect(page.locator("#live-error")).to_contain_text("Traceback")
    await expect(page.locator("#live-content details")).to_have_attribute(
        "open", ""
    )  # a live update leaves it so
    await watched.sound()

    await page.get_by_role("button", name="Retry").click()
    await expect(page.locator("#live-head")).to_contain_text("ready")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#live-because")).to_contain_text("It was cancelled")
    await page.goto("/ui/tasks?q=mail")
    assert page.url.endswith("/ui/tasks/mail")
    await page.goto("/ui/tasks?q=nobody")
    await expect(page.locator("main")).to_contain_text("There is no task nobody.")


async def test_rows_never_move_and_new_ones_wait(context: BrowserContext, world: World) -> None:
    await world.submit([{"task_type": "add"} for _ in range(60)])
    watched = await opened(context, "/ui/tasks")
    page = watched.page
    first = page.locator("#live-list tbody tr").first
    shown = await first.get_attribute("id")
    await world.submit([{"task_type": "add"} for _ in range(3)])
    await expect(page.locator(".e-fresh")).to_have_text("3 new, show them")
    assert await first.get_attribute("id") == shown
    await watched.sound()
    await page.locator(".e-fresh").click()
    await expect(first).not_to_have_attribute("id", shown or "")
    await page.get_by_role("link", name="Older").click()
    await expect(page.locator(".e-foot")).to_contain_text("51 to")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/ui/", "/ui/tasks", "/ui/tasks/failed", "/ui/tasks/odd"])
async def test_a_phone_in_both_themes(context: BrowserContext, world: World, path: str, theme: str) -> None:
    await _troubles(world)
    await context.add_cookies([{"name": "echelon-theme", "value": theme, "url": world.url}])
    watched = await opened(context, path)
    await watched.page.set_viewport_size({"width": 390, "height": 800})
    await expect(watched.page.locator("html")).to_have_attribute("data-bs-theme", theme)
    await watched.sound()
    if folder := os.environ.get("SHOTS"):
        name = f"{theme}{path.replace('/', '-')}.png"
        await watched.page.screenshot(path=Path(folder) / name, full_page=True)


async def _troubles(world: World) -> None:
    """One task that failed, one that nobody can run."""
    tiers = world.tiers
    if "failed" in tiers.ids:
        return
    await world.submit({"task_id": "failed", "task_type": "add", "tags": ["receipt"]})
    await tiers.place(tiers.ids["failed"])
    await tiers.err(tiers.ids["failed"], charged=1)
    await tiers.err(tiers.ids["failed"], charged=2, last=True)
    await world.submit({"task_id": "odd", "task_type": "no.such", "dependencies": ["failed"]})
    await world.until("failed", status="failed")


async def test_it_is_used_without_a_mouse(context: BrowserContext) -> None:
    watched = await opened(context, "/ui/")
    page = watched.page
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "e-skip"
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.id") == "find"
    await page.keyboard.press("Escape")
    await page.locator("#main").focus()
    await page.keyboard.press("r")
    await expect(page.locator("#age")).to_contain_text("Paused")
    await page.keyboard.press("r")
    await expect(page.locator("#age")).to_contain_text("Live")
    theme = await page.locator("html").get_attribute("data-bs-theme")
    await page.get_by_role("button", name="Change theme").press("Enter")
    await expect(page.locator("html")).not_to_have_attribute("data-bs-theme", theme or "")
    await page.keyboard.press("?")
    await expect(page.locator("#keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("g")
    await page.keyboard.press("t")
    await page.wait_for_url("**/ui/tasks")
    await expect(page.locator("html")).not_to_have_attribute("data-bs-theme", theme or "")


async def test_a_page_outlives_the_node_and_knows_its_age(context: BrowserContext, world: World) -> None:
    watched = await opened(context, "/ui/")
    page = watched.page
    await world.stop(9)
    await expect(page.locator("#age")).to_contain_text("Reconnecting", timeout=10_000)
    await world.start()
    await expect(page.locator("#age")).to_have_attribute("data-age", "live", timeout=15_000)
    await world.submit({"task_id": "after-all", "task_type": "add"})
    fresh = page.locator(".e-fresh")

    async def told() -> bool:
        return await fresh.count() > 0 or "after-all" in await page.locator("#live-latest").inner_text()

    await eventually(told, 10)
