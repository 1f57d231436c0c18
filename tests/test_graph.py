"""The graph and its passes."""

from __future__ import annotations

import networkx as nx
import pytest
import zoo

import pdeloom as loom
from pdeloom.compiler import ops
from pdeloom.compiler.graph import Builder, verify
from pdeloom.compiler.passes import PIPELINE, optimise


def kinds(graph):
    return [op.kind for _, op in graph.nodes(data="op")]


@pytest.mark.parametrize("name", zoo.EQUATIONS)
@pytest.mark.parametrize("order", [2, 4])
def test_every_stage_is_a_verified_digraph(name, order):
    net = zoo.network(name, order=order)
    for _, graph in net.compiled.stages:
        assert isinstance(graph, nx.DiGraph)
        verify(graph)
    assert set(kinds(net.graph)) <= {"input", "stencil", "adjoint stencil", "flux", "combination"}


@pytest.mark.parametrize(("name", "count"), [("perona-malik 2d", 1), ("perona-malik 3d", 1)])
def test_the_diffusivity_is_computed_once(name, count):
    """Built once per component, left once by common subexpressions."""
    net = zoo.network(name)

    def diffusivities(graph):
        return sum(op.kind == "flux" and op.label == "g" for _, op in graph.nodes(data="op"))

    assert diffusivities(net.compiled.stages[0][1]) == zoo.dimension(name)
    assert diffusivities(net.graph) == count


def test_the_sum_is_flat():
    graph = zoo.network("perona-malik 3d").graph
    new_state = graph.nodes[graph.graph["outputs"][0]]
    assert isinstance(new_state["op"], ops.Combination)
    assert len(new_state["args"]) == 4
    assert not any(isinstance(graph.nodes[a]["op"], ops.Combination) for a in new_state["args"])


def test_dead_code_goes():
    net = zoo.network("heat 1d")
    builder = Builder(net.compiled.system.axes)
    u = net.compiled.system.state(builder)
    f = net.compiled.system.right_hand_side(builder)
    f(2 * u)  # nobody reads it
    graph = builder.finish((u + 0.1 * f(u)).name)
    assert len(optimise(graph)[-1][1]) == len(net.graph) < len(graph)


def test_verification_finds_a_value_off_its_place():
    graph = zoo.network("heat 1d").graph.copy()
    name = next(n for n, op in graph.nodes(data="op") if op.kind == "stencil")
    graph.nodes[name]["place"] = ops.Place((0,), graph.nodes[name]["place"].parity)
    with pytest.raises(AssertionError, match="not where its op puts it"):
        verify(graph)


def test_verification_finds_a_missing_edge():
    graph = zoo.network("heat 1d").graph.copy()
    graph.remove_edge(*next(iter(graph.edges)))
    with pytest.raises(AssertionError, match="edges into"):
        verify(graph)


def test_dump_after_any_pass():
    net = zoo.network("perona-malik 2d")
    for stage in ("built", *(name for name, _ in PIPELINE)):
        assert net.dump(after=stage).splitlines()[-1].startswith("→ ")
    with pytest.raises(loom.DeclarationError, match="dead-code"):
        net.dump(after="dead-cod")


def test_the_graph_knows_no_grid_size():
    small = zoo.network("perona-malik 2d")
    shapes = [loom.Grid(0.5, shape=shape) for shape in ((16, 16), (4096, 4096))]
    sources = {
        loom.compile(zoo.pde("perona-malik 2d"), grid=g, scheme=small.scheme, unstable="allow").source for g in shapes
    }
    assert sources == {small.source}
