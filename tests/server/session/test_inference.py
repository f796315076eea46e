"""The inference thread: answers in order, several windows in one call where they wait."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clmer_model.prediction import Prediction
from clmer_server.session.inference import MAX_BATCH, InferenceThread, Job, Predict
from clmer_streaming.types import Window
from tests.support.session_parts import WINDOW, predict_certain

Answer = tuple[int, Prediction | Exception | None]


class Desk:
    """Submits numbered windows and collects what comes back."""

    def __init__(self, inference: InferenceThread) -> None:
        self.inference = inference
        self.answers: queue.Queue[Answer] = queue.Queue()

    def submit(self, index: int, *, skip: bool = False, alone: bool = False) -> None:
        window = dataclasses.replace(WINDOW, index=index)

        def back(answer: Prediction | Exception | None) -> None:
            self.answers.put((index, answer))

        self.inference.submit(Job(window, done=back, failed=back, skip=skip, alone=alone))

    def collect(self, n: int) -> list[Answer]:
        return [self.answers.get(timeout=10) for _ in range(n)]


@contextmanager
def running(predict: Predict) -> Iterator[Desk]:
    inference = InferenceThread(predict)
    inference.start()
    yield Desk(inference)
    inference.stop(timeout_s=10)


class Gate:
    """A model that answers nothing until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, windows: Sequence[Window]) -> list[Prediction]:
        self.entered.set()
        self.opened.wait(timeout=10)
        return predict_certain(windows)


def batches(answers: list[Answer]) -> list[int]:
    return [answer.batch for _, answer in answers if isinstance(answer, Prediction)]


def test_what_waits_is_answered_in_one_call() -> None:
    """Behind a slow first window, ten more come as eight and two."""
    gate = Gate()
    with running(gate) as desk:
        desk.submit(0)
        gate.entered.wait(timeout=10)
        for index in range(1, 11):
            desk.submit(index)
        gate.opened.set()
        answers = desk.collect(11)
    assert [index for index, _ in answers] == list(range(11))
    assert batches(answers) == [1, *[MAX_BATCH] * 8, 2, 2]


def test_a_window_that_must_be_alone_shares_no_call() -> None:
    """So that a replay gives the same bits at any speed."""
    gate = Gate()
    with running(gate) as desk:
        desk.submit(0)
        gate.entered.wait(timeout=10)
        for index in range(1, 5):
            desk.submit(index, alone=index in (2, 3))
        gate.opened.set()
        answers = dict(desk.collect(5))
    assert [answer.batch for _, answer in sorted(answers.items()) if isinstance(answer, Prediction)] == [1, 2, 1, 1, 2]


def test_live_windows_of_all_sessions_share_a_call_and_a_replay_takes_turns_with_them() -> None:
    """Behind a queue of four replayed windows, a live one waits for one of them at most, and none waits for ever."""
    gate = Gate()
    with running(gate) as desk:
        desk.submit(0, alone=True)
        gate.entered.wait(timeout=10)
        for index in (1, 2, 3, 4):
            desk.submit(index, alone=True)
        for index in range(10, 20):
            desk.submit(index)
        gate.opened.set()
        answers = desk.collect(15)
    assert [index for index, _ in answers] == [0, *range(10, 18), 1, 18, 19, 2, 3, 4]
    assert batches(answers)[1:9] == [MAX_BATCH] * 8


def test_a_window_that_the_model_cannot_answer_fails_alone() -> None:
    """The windows of other sessions in its call are asked once more without it."""
    gate = Gate()

    def fails_at_two(windows: Sequence[Window]) -> Sequence[Prediction]:
        if any(window.index == 2 for window in windows):
            raise MemoryError("no room")
        return gate(windows)

    with running(fails_at_two) as desk:
        desk.submit(0)
        gate.entered.wait(timeout=10)
        for index in (1, 2, 3):
            desk.submit(index)
        desk.submit(4, skip=True)
        gate.opened.set()
        answers = dict(desk.collect(5))
    assert isinstance(answers[2], MemoryError)
    assert all(isinstance(answers[index], Prediction) for index in (0, 1, 3))
    assert answers[4] is None


def test_a_skipped_window_is_answered_in_its_turn_without_the_model() -> None:
    """It must not overtake those that wait for the model."""
    with running(predict_certain) as desk:
        desk.submit(0)
        desk.submit(1, skip=True)
        desk.submit(2)
        answers = desk.collect(3)
    assert [(index, answer is None) for index, answer in answers] == [(0, False), (1, True), (2, False)]


def test_an_error_of_the_model_is_handed_to_its_jobs_and_the_thread_goes_on() -> None:
    """Other sessions share the thread."""

    def fails_at_first(windows: Sequence[Window]) -> list[Prediction]:
        if windows[0].index == 0:
            raise MemoryError("no room")
        return predict_certain(windows)

    with running(fails_at_first) as desk:
        desk.submit(0, alone=True)
        desk.submit(1, alone=True)
        (_, failure), (_, answer) = desk.collect(2)
    assert isinstance(failure, MemoryError)
    assert isinstance(answer, Prediction)
