// The texts inside a program: strings, numbers and JSON in the one form that the compiler writes
// (mpcc/emit/graphdef.py). Another form of the same value is refused.
#pragma once

#include <string>
#include <string_view>

#include "kernels/op.h"

namespace mpcc::graph {

// Well-formed UTF-8: shortest forms, no surrogates, at most U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

// Python's repr of a float: the shortest digits that give the same binary64.
std::string float_repr(double value);

// Throw Error("E-graph") for other text than its value's form, Error("E-graph-limit") for nesting
// and lists beyond the limits.
double parse_float(const std::string& text);
Nested parse_nested(const std::string& text);
// The module's attributes: one object of integers, finite numbers, booleans, strings and lists of
// them. The engine needs none of them; it refuses what the compiler's reader refuses.
void check_module_attributes(const std::string& text);

}  // namespace mpcc::graph
