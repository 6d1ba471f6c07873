"""Who computes what before anything is shared: a minimum cut of the tensor graph.

:mod:`.cut` chooses, :mod:`.split` carries it out. Both see the architecture and who owns what,
never a value.
"""

from mpcc.passes.partition.cut import Choice as Choice
from mpcc.passes.partition.cut import alone as alone
from mpcc.passes.partition.cut import choose as choose
from mpcc.passes.partition.split import ANY_RANGE as ANY_RANGE
from mpcc.passes.partition.split import LocalInput as LocalInput
from mpcc.passes.partition.split import Partitioned as Partitioned
from mpcc.passes.partition.split import partition as partition
from mpcc.passes.partition.split import prepare_formats as prepare_formats
