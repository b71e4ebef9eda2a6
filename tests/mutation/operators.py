# SPDX-License-Identifier: MIT
"""Changes that cosmic-ray does not make itself: a statement left out, an entry of a table left out."""

import parso
from cosmic_ray.operators.operator import Example, Operator

_ASSIGNS_TO_PART = ("atom_expr", "power")  # a.b or a[b]; a plain name left out is only a NameError


def _can_go(statement):
    if statement.type in ("raise_stmt", "atom_expr", "power"):
        return True
    if statement.type == "return_stmt":
        return statement.children[1].get_code(include_prefix=False) != "None"
    if statement.type != "expr_stmt":
        return False
    return (
        statement.children[0].type in _ASSIGNS_TO_PART
        or statement.children[1].type == "operator"
        and (statement.children[1].value not in ("=", ":"))
    )


class LeaveOutStatement(Operator):
    """A call, raise, or assignment to a part of something becomes `pass`; a return returns None."""

    def mutation_positions(self, node):
        if node.type == "simple_stmt" and _can_go(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node, index):
        statement = node.children[0]
        instead = "return None" if statement.type == "return_stmt" else "pass"
        node.children[0] = parso.parse(statement.get_first_leaf().prefix + instead)
        return node

    @classmethod
    def examples(cls):
        return (
            Example("f(x)", "pass"),
            Example("self.x = 1", "pass"),
            Example("def f(x):\n    return x", "def f(x):\n    return None"),
        )


def _entries(node):
    # Groups of children, each an entry with its comma.
    group = []
    for child in node.children:
        group.append(child)
        if child.type == "operator" and child.value == ",":
            yield group
            group = []
    if group:
        yield group


class LeaveOutEntry(Operator):
    """An entry of a table at a module's or class's level: a tuple's, list's, set's or dict's."""

    def mutation_positions(self, node):
        if node.type in ("testlist_comp", "dictorsetmaker") and len(groups := list(_entries(node))) > 2:
            if parso.python.tree.search_ancestor(node, "funcdef", "lambdef") is None:
                for group in groups:
                    yield group[0].start_pos, group[-1].end_pos

    def mutate(self, node, index):
        groups = list(_entries(node))
        del groups[index]
        node.children = [child for group in groups for child in group]
        return node

    @classmethod
    def examples(cls):
        return (Example("x = (1, 2, 3)", "x = ( 2, 3)"),)


PROVIDED = {operator.__name__: operator for operator in (LeaveOutStatement, LeaveOutEntry)}
