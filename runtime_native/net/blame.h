// Who failed and at which step, as a stable part of an error's text, so that it survives being
// passed on from endpoint to endpoint and can be found by programs:
//
//   E-net-timeout: nothing from P1 for 10 s [P0 waiting for ... {party=P1, step=run 3, message 17}]
//
// The party is the endpoint that the failure is about, which need not be the one that says so.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace mpcc::net {

struct Blame {
  std::string party;
  std::string step;
};

// " {party=P1, step=...}": the end of a where. Braces in the arguments become parentheses.
std::string blame_text(std::string_view party, std::string_view step);

// The text without its blames.
std::string without_blame(std::string text);

// The first one in the text of an error: the cause, where an error was passed on.
std::optional<Blame> find_blame(const Error& error);

// The error with a blame at its end, unless it has one.
Error blamed(const Error& error, std::string_view party, std::string_view step);

}  // namespace mpcc::net
