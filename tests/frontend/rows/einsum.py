"""Einsum."""

from tests.frontend.rows.table import Row, weights


def einsum(equation: str, *shapes: tuple[int, ...], weight: bool = False) -> Row:
    inputs = {chr(97 + i): s for i, s in enumerate(shapes)}
    constants = {"w": weights(*inputs.popitem()[1])} if weight else {}
    return Row(f"einsum {equation}", "Einsum", inputs, constants, {"equation": equation}, (12,))


ROWS = [
    einsum("ij->ji", (2, 3)),
    einsum("ij->", (2, 3)),
    einsum("ij->j", (2, 3)),
    einsum("ii->i", (3, 3)),
    einsum("ii", (3, 3)),
    einsum("i,i->", (4,), (4,)),
    einsum("i,j->ij", (2,), (3,)),
    einsum("ij,jk->ik", (2, 3), (3, 4)),
    einsum("ij,jk", (2, 3), (3, 4), weight=True),
    einsum("ij,ij->ij", (2, 3), (2, 3)),
    einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    einsum("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4)),
    einsum("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    einsum("...ij,jk->...ik", (2, 3, 4), (4, 5), weight=True),
    einsum("ij,kj,k->ik", (2, 3), (4, 3), (4,)),
    einsum("bc,bd->cd", (4, 2), (4, 3)),
    einsum("ijk,il->kl", (2, 3, 4), (2, 5)),
]
