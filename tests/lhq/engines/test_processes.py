"""Work in a process of its own: whatever ends that process is told, and nothing else is lost."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from lhq.engines.isolated import isolated
from lhq.errors import ImageError
from lhq.images import MAX_PIXELS, set_max_pixels
from lhq.measures.prefetch import Fit, Prefetcher
from lhq.processes import Died, HelperProcess, without_main
from lhq.records import Photo
from lhq.report.pictures import small, small_by_helper
from tests.lhq.filter.reckless import Killer
from tests.lhq.making import scene

Run = Callable[[str], "str | Died"]


def work(what: str) -> str:
    faulthandler.disable()  # pytest's, which would print where
    if what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
    if what.startswith("exit"):
        os._exit(int(what.removeprefix("exit")))
    if what == "memory":
        raise MemoryError
    if what == "endless":
        ctypes.CDLL(None).sleep(60)  # in C: no handler of Python's would be called
    if what == "refused":
        raise ImageError("no picture", hint="fetch it again", reason="corrupt")
    return f"{what} by {os.getpid()}"


@pytest.fixture(params=["a helper", "a fork"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    if request.param == "a fork":
        yield lambda what: isolated(partial(work, what), 1)
        return
    with HelperProcess(work, limit_s=1) as helper:
        yield helper


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("SIGSEGV", "SIGSEGV"),
        ("SIGABRT", "SIGABRT"),
        ("SIGBUS", "SIGBUS"),
        ("SIGKILL", "SIGKILL (no memory?)"),
        ("exit7", "exit code 7"),
        ("exit0", "exit code 0"),
        ("memory", "MemoryError"),
        ("endless", "SIGALRM (took too long)"),
    ],
)
def test_each_way_to_die_is_told_and_the_next_work_is_done(run: Run, what: str, how: str) -> None:
    assert run(what) == Died(how)
    done = run("done")
    assert isinstance(done, str)
    assert done.startswith("done by ")
    assert done != f"done by {os.getpid()}"
    with pytest.raises(ImageError, match="no picture"):
        run("refused")


def test_a_photo_that_kills_its_decoder_costs_itself_of_a_batch_and_of_a_page() -> None:
    whole = [Photo(f"x:{number}", scene(number, 96, 64), 96, 64) for number in range(5)]
    photos = [*whole[:2], Photo("x:killer", Killer(b"x"), 96, 64), *whole[2:]]
    batches = list(Prefetcher(Fit(32, 64), ahead=3, num_threads=2).batches(photos, lambda: 2))
    assert sorted(row for batch in batches for row in batch.rows if batch.images) == [0, 1, 3, 4, 5]
    (error,) = [error for batch in batches for error in batch.errors]
    assert (error.reason, error.message) == ("crashed", "the process that decoded it died of SIGSEGV")
    with HelperProcess(small) as helper:
        with pytest.raises(ImageError, match="died of SIGSEGV"):
            small_by_helper(Killer(b"x"), 64, helper)
        assert small_by_helper(whole[0].data, 48, helper).size == (48, 32)


def test_a_helper_obeys_the_limit_on_pixels_of_the_process_that_asks() -> None:
    photo = Photo("x:1", scene(1, 96, 64), 96, 64)
    set_max_pixels(96 * 64 - 1)
    try:
        ((error,),) = [batch.errors for batch in Prefetcher(Fit(32, 64), ahead=1).batches([photo], lambda: 1)]
    finally:
        set_max_pixels(MAX_PIXELS)
    assert error.reason == "too-many-pixels"


def test_threads_that_start_helpers_at_once_leave_the_running_script_in_its_place() -> None:
    main, both = sys.modules["__main__"], threading.Barrier(2)

    def start() -> None:
        both.wait()
        with without_main(print):
            assert sys.modules["__main__"] is not main
            time.sleep(0.05)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.modules["__main__"] is main
