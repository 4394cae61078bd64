"""The pages of the dashboard."""

from __future__ import annotations

from litestar import get
from litestar.response import Redirect

from echelon_web.live import live
from echelon_web.pages.overview.page import overview
from echelon_web.pages.task import page as task
from echelon_web.pages.tasks.page import task_list


@get("/", status_code=307)
async def home() -> Redirect:
    return Redirect("/ui/", status_code=307)


HANDLERS = (
    home, overview, task_list, task.task_page, task.cancel, task.retry, task.payload, task.result, live
)  # fmt: skip
