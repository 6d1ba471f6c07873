"""Approximations of elementary functions with proved errors; see docs/numbers.md, Functions."""

from mpcc.approximations.functions import FUNCTIONS as FUNCTIONS
from mpcc.approximations.functions import Function as Function
from mpcc.approximations.functions import Tails as Tails
from mpcc.approximations.series import Series as Series
from mpcc.approximations.series import certify as certify
from mpcc.approximations.series import entries as entries
from mpcc.approximations.series import series as series
from mpcc.approximations.series import tail_series as tail_series
