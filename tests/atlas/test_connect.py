"""What lies between papers."""

from __future__ import annotations

from kadanoff.atlas import connect, papers
from kadanoff.atlas.identity import Record
from kadanoff.atlas.store import Store


def test_a_chain_of_citations_in_either_direction(store: Store) -> None:
    with store.write() as db:
        ids = {
            n: papers.save(db, Record(f"Paper {n} of many", [f"Au {n}"], 2000)) for n in "abcdefg"
        }
        # a -> b -> c, a -> d -> c, and e, which both a and c cite
        for src, dst in ("ab", "bc", "ad", "dc", "ae", "fe", "fc"):
            papers.cite(db, ids[src], ids[dst])
        ways = connect.chains(db, ids["a"], ids["c"])
        names = {v: k for k, v in ids.items()}
        said = [names[w[0].left] + "".join(names[s.right] for s in w) for w in ways]
        assert sorted(said) == ["abc", "adc"]
        assert all(step.forward for way in ways for step in way)
        back = connect.chains(db, ids["c"], ids["a"])
        assert {step.forward for way in back for step in way} == {False}
        # only by turning round: a cites e, which f cites
        (crooked,) = connect.chains(db, ids["a"], ids["f"])[:1]
        assert [step.forward for step in crooked] == [True, False]
        assert connect.chains(db, ids["a"], ids["g"]) == []


def test_common_works_are_those_linked_with_most_first(store: Store) -> None:
    with store.write() as db:
        ids = {
            n: papers.save(db, Record(f"Paper {n} of many", [f"Au {n}"], 2000)) for n in "abcxyz"
        }
        for src, dst in ("ax", "bx", "cx", "ay", "by", "za", "zb", "az"):
            papers.cite(db, ids[src], ids[dst])
        found = connect.common(db, [ids[n] for n in "abc"])
    assert [item.id for item in found] == [ids["x"], ids["y"], ids["z"]]
    assert found[0].cited_by == (ids["a"], ids["b"], ids["c"])
    assert found[2].cites == (ids["a"], ids["b"])


def test_the_lazy_neurons_and_the_book_are_connected_by_the_essay(store: Store) -> None:
    with store.read() as db:
        ways = connect.chains(db, "li2022lazy", "pdlt2021")
        shared = {item.id for item in connect.common(db, ["li2022lazy", "pdlt2021"])}
    assert [[step.right for step in way] for way in ways] == [["roberts2021", "pdlt2021"]]
    assert "roberts2021" in shared
