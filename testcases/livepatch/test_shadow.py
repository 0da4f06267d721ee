"""Shadow variables: data attached to an object that has no room for it (Documentation/livepatch/shadow-vars.rst)."""

from collections.abc import Iterator

import pytest

from harness.run.api.modules import Module, Modules

_IDS = (1, 2, 3)


@pytest.fixture
def shadow(modules: Modules) -> Iterator[Module]:
    """The module klp_shadow; the variables that a test leaves are freed."""
    with modules.load("klp_shadow") as module:
        yield module
        for number in _IDS:
            module.ask("call", f"drop_all {number}")


def test_attached_and_found(shadow: Module) -> None:
    """A variable is found by object and id, both; before it is attached there is none; without a constructor all of it
    is zero (klp_shadow_alloc, klp_shadow_get)."""
    assert shadow.ask("call", "get 7000 1") == "none"
    assert shadow.ask("call", "alloc 7000 1 42") == "ctor(7000, 42) 42"
    assert shadow.ask("call", "get 7000 1") == "42"
    assert shadow.ask("call", "get 7000 2") == "none"
    assert shadow.ask("call", "get 7008 1") == "none"
    assert shadow.ask("call", "alloc 7000 2 43") == "ctor(7000, 43) 43"
    assert shadow.ask("call", "alloc 7008 1 44") == "ctor(7008, 44) 44"
    assert [shadow.ask("call", f"get {which}") for which in ("7000 1", "7000 2", "7008 1")] == ["42", "43", "44"]
    assert shadow.ask("call", "plain 7016 1") == "0"


def test_get_or_alloc(shadow: Module) -> None:
    """klp_shadow_get_or_alloc() attaches where there is none, and finds what there is without constructing again."""
    assert shadow.ask("call", "get_or_alloc 7000 1 42") == "ctor(7000, 42) 42"
    assert shadow.ask("call", "get_or_alloc 7000 1 43") == "42"
    assert shadow.ask("call", "get 7000 1") == "42"


def test_constructor_fails(shadow: Module) -> None:
    """What could not be constructed is not attached (commit e91c2518a5d2)."""
    assert shadow.ask("call", "alloc 7000 1 0") == "ctor(7000, 0) none"
    assert shadow.ask("call", "get 7000 1") == "none"
    assert shadow.ask("call", "get_or_alloc 7000 1 0") == "ctor(7000, 0) none"
    assert shadow.ask("call", "get_or_alloc 7000 1 5") == "ctor(7000, 5) 5"


def test_free(shadow: Module) -> None:
    """klp_shadow_free() destructs the one variable, once; where there is none it does nothing."""
    shadow.ask("call", "alloc 7000 1 42")
    shadow.ask("call", "alloc 7000 2 43")
    shadow.ask("call", "alloc 7008 1 44")
    assert shadow.ask("call", "free 7000 1") == "dtor(7000, 42)"
    assert shadow.ask("call", "free 7000 1") == ""
    assert [shadow.ask("call", f"get {which}") for which in ("7000 1", "7000 2", "7008 1")] == ["none", "43", "44"]


def test_free_all(shadow: Module) -> None:
    """klp_shadow_free_all() destructs the variables of this id, whatever their object, and leaves other ids."""
    for obj, number in ((7000, 42), (7008, 43), (9000, 44)):
        shadow.ask("call", f"alloc {obj} 1 {number}")
        shadow.ask("call", f"alloc {obj} 2 {number + 100}")
    freed = shadow.ask("call", "free_all 1")
    assert sorted(freed.replace(") ", ")\n").splitlines()) == ["dtor(7000, 42)", "dtor(7008, 43)", "dtor(9000, 44)"]
    assert [shadow.ask("call", f"get {obj} 1") for obj in (7000, 7008, 9000)] == ["none"] * 3
    assert [shadow.ask("call", f"get {obj} 2") for obj in (7000, 7008, 9000)] == ["142", "143", "144"]


def test_many(shadow: Module) -> None:
    """Thousands of variables, more than the table has lists, keep apart: each is found with its own number."""
    assert shadow.ask("call", "many 100000 9000") == "0 wrong"


def test_outlives_the_livepatch(modules: Modules, shadow: Module) -> None:
    """A variable stays when the module that attached it goes: the next livepatch finds it (shadow-vars.rst)."""
    shadow.ask("call", "alloc 7000 1 42")
    shadow.remove()
    shadow.insert()
    assert shadow.ask("call", "get 7000 1") == "42"
