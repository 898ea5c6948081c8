"""Query → candidates: one thread per source asks for pages as they are needed, and reports what was kept.

All queries advance together, page by page, so that a crawl stopped halfway is balanced. Pages are asked for only
while fewer candidates wait than will be needed soon: a page costs a call of an hourly quota.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from lhq.crawl.frontier import Frontier, OpenQuery
from lhq.errors import FetchError, KeyMissing, LhqError, SourceError
from lhq.http import Client
from lhq.records import Candidate, Query
from lhq.sources import Page, Source

LOCAL_HOST = "file"
MOST_AHEAD = 2000
QUERY_FAILURES = 3
# A service that answered before is waited for about an hour; one that never answered is for the user to check.
SOURCE_FAILURES = 12
OUTAGE_LONGEST_S = 600.0


class Demand(Protocol):
    """The searcher's view of the crawl."""

    def need(self) -> int:
        """How many more photos the crawl may still keep."""
        ...

    def poke(self) -> None:
        """Candidates were added, or the searcher has ended."""
        ...


class Searcher:
    """The thread of one source.

    Args:
        removed_ids: photos that were taken down: they are not offered again.
    """

    def __init__(
        self,
        source: Source,
        queries: Sequence[Query],
        frontier: Frontier,
        client: Client,
        demand: Demand,
        removed_ids: frozenset[str] = frozenset(),
    ) -> None:
        self.source = source
        self.problem: LhqError | None = None
        self.crash: BaseException | None = None
        self.has_pages = True
        self._removed_ids = removed_ids
        queries = source.queries(queries)
        self._texts = frozenset(query.text for query in queries)
        self._frontier, self._client = frontier, client
        self._demand = demand
        self._failures: dict[int, int] = {}
        self._num_failures = 0
        self._has_answered = False
        self._wake = threading.Event()
        self._is_final = False
        self.thread = threading.Thread(target=self._run, name=f"search {source.name}", daemon=True)
        frontier.add_queries(source.name, queries, source.settings.per_query)

    def wake(self) -> None:
        """Check again whether pages or reports are needed."""
        self._wake.set()

    def finish(self) -> None:
        """No more pages: report what is due, then end."""
        self._is_final = True
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._client.is_stopped():
                has_worked = self._step()
                if not has_worked:
                    if self._is_final:
                        return
                    self._wake.wait(1.0)
                    self._wake.clear()
        except FetchError as error:
            if error.reason != "stopped":
                self.crash = error
        except LhqError as error:
            self.problem = error
        except BaseException as error:
            self.crash = error
        finally:
            self.has_pages = False
            self._demand.poke()

    def _step(self) -> bool:
        """Do one page or one report; False where neither is needed now."""
        is_page_due = self.has_pages and not self._is_final and self._wants_page()
        if is_page_due:
            query = self._frontier.next_query(self.source.name, self._texts)
            if query is None:
                self.has_pages = False
                self._demand.poke()
            else:
                self._page(query)
                return True
        return self._report()

    def _wants_page(self) -> bool:
        """Fewer candidates wait than may be needed: some will fail, some were already found by other queries."""
        need = self._demand.need()
        enough = min(MOST_AHEAD, int(need * 1.25) + 10)
        return need > 0 and self._frontier.num_waiting(self.source.name, enough) < enough

    def _page(self, open_query: OpenQuery) -> None:
        room = self.source.settings.per_query - open_query.num_offered
        if room <= 0:
            self._frontier.add_page(open_query, Page((), None), [], is_full=True)
            return
        try:
            page = self.source.search(open_query.query, open_query.cursor)
        except KeyMissing as error:
            self._frontier.fail_query(open_query.number, error.message, is_final=False)
            raise
        except SourceError as error:
            self._failed(open_query, error)
            return
        self._num_failures = 0
        self._has_answered = True
        self._failures.pop(open_query.number, None)
        pairs = [pair for candidate in page.candidates if (pair := self._placed(candidate))]
        num_unusable = len(page.candidates) - len(pairs)
        if num_unusable:
            page = replace(page, skipped=(*page.skipped, ("unusable", num_unusable)))
        self._frontier.add_page(open_query, page, pairs[:room], is_full=len(pairs) > room)
        self._demand.poke()

    def _failed(self, open_query: OpenQuery, error: SourceError) -> None:
        """A page that failed: wait, longer each time. A query rests after three failures of its own; the
        source gives up when it never answered, or after an hour of failures in a row."""
        self._num_failures += 1
        is_outage = self._num_failures > QUERY_FAILURES
        if not is_outage:
            self._failures[open_query.number] = self._failures.get(open_query.number, 0) + 1
        is_final = self._failures.get(open_query.number, 0) >= QUERY_FAILURES and not is_outage
        self._frontier.fail_query(open_query.number, error.message, is_final=is_final)
        if not self._has_answered or self._num_failures >= SOURCE_FAILURES:
            raise error
        if is_final:
            self.problem = error
        else:
            delay_s = self._client.settings.retry_delay_s * 3.0 ** (self._num_failures - 1)
            self._client.wait(min(OUTAGE_LONGEST_S, delay_s))

    def _placed(self, candidate: Candidate) -> tuple[Candidate, str] | None:
        """The candidate with its host, or None where it was taken down or its URL could never be fetched."""
        if candidate.id in self._removed_ids:
            return None
        if self.source.is_local:
            return candidate, LOCAL_HOST
        try:
            return candidate, self._client.host_of(candidate.url).name
        except FetchError:
            return None

    def _report(self) -> bool:
        """Tell the source of one kept photo; False where nothing is due."""
        if not self.source.reports_use:
            return False
        due = self._frontier.reports_due(self.source.name, 1)
        if not due:
            return False
        number, url = due[0]
        try:
            self.source.report_use(url)
        except SourceError as error:
            # A photo deleted at the service must not block the reports of others.
            self._num_failures += 1
            if self._num_failures >= SOURCE_FAILURES:
                raise
            self._frontier.reported(number, error=error.message)
            return True
        self._num_failures = 0
        self._frontier.reported(number)
        return True
