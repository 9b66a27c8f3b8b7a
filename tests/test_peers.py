"""The table of the benchmark of peers holds together, and the batches that its adapters make are whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks import several_vectors
from benchmarks.peers import adapters
from benchmarks.peers.adapters.batches import BATCH_SIZE, by_length, by_tokens
from benchmarks.peers.contenders import CONTENDERS, PREPARED, REFERENCE, SOURCE
from benchmarks.peers.environments import ENVIRONMENTS
from benchmarks.recipes.table import RECIPES
from stcompile.artifact.target import Target

ADAPTERS = {file.stem for file in Path(adapters.__path__[0]).glob("*.py")}


@pytest.mark.parametrize("name", CONTENDERS)
def test_what_a_contender_names_is_there(name: str) -> None:
    contender = CONTENDERS[name]
    assert contender.environment in ENVIRONMENTS
    assert contender.adapter in ADAPTERS
    if contender.is_ours:
        assert Target.parse(contender.model).precision == contender.precision
    else:
        assert contender.model in (SOURCE, *PREPARED)


@pytest.mark.parametrize("name", PREPARED)
def test_what_a_prepared_model_names_is_there_and_somebody_reads_it(name: str) -> None:
    prepared = PREPARED[name]
    assert prepared.environment in ENVIRONMENTS
    assert prepared.adapter in ADAPTERS
    assert prepared.of in (SOURCE, *PREPARED)
    readers = [contender.model for contender in CONTENDERS.values()] + [other.of for other in PREPARED.values()]
    assert name in readers


def test_every_environment_has_a_contender() -> None:
    used = {item.environment for item in CONTENDERS.values()} | {item.environment for item in PREPARED.values()}
    used |= {environment for peers in several_vectors.PEERS.values() for environment, *_ in peers.values()}
    used |= {item.environment for item in RECIPES.values()}
    assert used == set(ENVIRONMENTS)
    assert REFERENCE in CONTENDERS


def test_batches_by_length_hold_each_text_once_shortest_first() -> None:
    lengths = random.Random(0).choices(range(1, 300), k=100)
    batches = list(by_length(lengths))
    places = [place for batch in batches for place in batch]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths)
    assert {len(batch) for batch in batches[:-1]} == {BATCH_SIZE}


@pytest.mark.parametrize(("tokens", "texts"), [(1, 1), (64, 8), (128, 64), (10_000, 7)])
def test_batches_by_tokens_keep_both_limits_but_for_a_text_that_is_longer(tokens: int, texts: int) -> None:
    lengths = random.Random(tokens).choices(range(1, 300), k=100)
    batches = list(by_tokens(lengths, tokens, texts))
    places = [place for batch in batches for place in batch]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths)
    for batch, after in zip(batches, [*batches[1:], None], strict=True):
        total = sum(lengths[place] for place in batch)
        assert total <= tokens or len(batch) == 1
        assert len(batch) <= texts
        # None is closed early: one text more would break a limit.
        assert after is None or len(batch) == texts or total + lengths[after[0]] > tokens


def test_no_texts_are_no_batches() -> None:
    assert list(by_tokens([], 64, 8)) == []
