"""States that livepatches change and pass on (Documentation/livepatch/system-state.rst)."""

from harness.run.api.livepatch import Livepatches


def test_state_is_handed_on(livepatches: Livepatches) -> None:
    """A cumulative patch finds the state of the one before it, version and data, and has its own; there is none
    before the first one, and none of another id (klp_get_prev_state, klp_get_state)."""
    with livepatches.in_effect("klp_state_one", number=23) as one:
        assert one.read("before") == "none"
        assert one.read("now").splitlines() == ["version 1, number 23", "another state: none"]
        with livepatches.in_effect("klp_state_two", version=2, replace=1, number=99) as two:
            one.wait_gone()
            assert two.read("before") == "version 1, number 23"
            assert two.read("now").splitlines() == ["version 2, number 23", "another state: none"]


def test_state_of_the_latest(livepatches: Livepatches) -> None:
    """A patch on top of another one finds its state too, the same version being good enough."""
    with (
        livepatches.in_effect("klp_state_one", version=3, number=23) as one,
        livepatches.in_effect("klp_state_two", version=3) as two,
    ):
        assert two.read("before") == "version 3, number 23"
        assert one.enabled


def test_incompatible_patches_are_refused(livepatches: Livepatches) -> None:
    """A patch that knows an older version of the state only is refused, cumulative or not; so is a cumulative one
    that knows nothing of it, but not one on top that does not touch it (system-state.rst, "Compatibility")."""
    with livepatches.in_effect("klp_state_one", version=2) as one:
        assert livepatches.refused("klp_state_two", version=1) == "Invalid parameters"
        assert livepatches.refused("klp_state_two", version=1, replace=1) == "Invalid parameters"
        assert livepatches.refused("klp_state_two", version=0, replace=1) == "Invalid parameters"
        assert one.enabled
        with livepatches.in_effect("klp_state_two", version=0) as two:
            assert two.read("now").splitlines() == ["none", "another state: none"]
            assert one.enabled
