"""Programs whose names and constants try to become markup or code."""

from mpcc.cost import predict, profile
from mpcc.ir.ops.party import DIALECT
from mpcc.ir.ops.secure import DIALECT as SECURE
from mpcc.ir.ops.tensor import DIALECT as TENSOR
from mpcc.ir.text import parse_module

#: Of each, the page must show the text; none may act.
HOSTILE = (
    "</script><script>document.title='hacked'</script>",
    "<img src=x onerror=document.title='hacked'>",
    "\"' onload=document.title='hacked' x='",
    "{{ 7*7 }}{% raw %}",
    "-->]]><!--",
    "\u202egnp.exe",
    "שלום/abc",
    "&lt;b&gt; &#60;",
    "\u2028\u2029\x00\x1b[31m",
)

MANIFEST = {
    "protocol": "rep3",
    "mpcc": "0.1.0",
    "program_sha256": "ab" * 32,
    "places": ["P0", "P1", "P2"],
    "phi": {"ring": 64, "policy": "observed", "ranges": [[0, 3]]},
    "inputs": [{"name": "<x>", "shape": [2, 2], "owner": "client", "lo": -1.0, "hi": 1.0}],
    "outputs": [{"name": "y", "shape": [], "owner": "client"}],
}


def _layer(n, name, value):
    """Text of a layer that negates, sends and adds; the next value's number, and its lines."""
    loc = f'loc("{name}")'
    return [
        f"    %{n} = party.neg(%{value}) : ring64<8>@P0 {loc}",
        f'    %{n + 1} = party.transfer(%{n}) {{to = "P1", step = "{name}/truncate/x"}}'
        f" : ring64<8>@P1 {loc}",
        f"    %{n + 2} = party.neg(%{n + 1}) : ring64<8>@P1 {loc}",
        f'    %{n + 3} = party.transfer(%{n + 2}) {{to = "P0", step = "{name}/select/x"}}'
        f" : ring64<8>@P0 {loc}",
    ]


def chain(names):
    """A party program with one layer after the other."""
    lines = [
        "module party {",
        "  func @main() {",
        '    %0 = party.input() {name = "x", shape = [8], place = "client"} : clear<8xf32>@client',
        "    %1 = party.encode(%0) {frac = 8, lo = -1.0, hi = 1.0} : ring64<8>@client",
        '    %2 = party.transfer(%1) {to = "P0", step = "x_0/share/a"} : ring64<8>@P0 loc("x_0")',
    ]
    value = 2
    for name in names:
        made = _layer(value + 1, name, value)
        lines += made
        value += len(made)
    lines += ["  }", "}"]
    module = parse_module("\n".join(lines) + "\n", {"party": DIALECT})
    return module


def renamed(module, names):
    """The same module with other labels, in their order: the text format could not hold them."""
    for op in module.main.ops:
        if op.loc in names:
            new = names[op.loc]
            if "step" in op.attrs:
                op.attrs["step"] = op.attrs["step"].replace(op.loc, new.replace("/", ""))
            op.loc = new
    return module


def hostile():
    """A party program whose layers have the hostile names."""
    plain = [f"layer_{i}" for i in range(len(HOSTILE))]
    return renamed(chain(plain), dict(zip(plain, HOSTILE, strict=True)))


def report(module, network="lan"):
    """Its cost, with a manifest."""
    return predict(module, profile(network), MANIFEST, "honest majority & <three>")


def secure():
    """A small program of the secure level with two comparisons alike and a truncation."""
    text = """\
module secure {range_policy = "observed"} {
  func @main() {
    %0 = secure.input() {INPUT} : secure<8, z64, f18, k20, client> loc("x_0")
    %1 = secure.truncate(%0) {amount = 8, width = 13} : secure<8, z64, f10, k13, client> loc("a")
    %2 = secure.negative(%1) : bit<8, client> loc("layer_0")
    %3 = secure.negative(%1) : bit<8, client> loc("layer_0")
  }
}
"""
    port = 'name = "x", owner = "client", shape = [8], frac = 18, width = 20, lo = -2.0, hi = 2.0'
    dialects = {"secure": SECURE, "tensor": TENSOR}
    return parse_module(text.replace("INPUT", port), dialects)
