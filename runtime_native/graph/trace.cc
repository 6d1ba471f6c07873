#include "graph/trace.h"

#include <nlohmann/json.hpp>

namespace mpcc::graph {
namespace {

double microseconds(Trace::Clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

const char* category(Action::Kind kind) {
  switch (kind) {
    case Action::Kind::receive:
      return "wait";
    case Action::Kind::send:
      return "send";
    case Action::Kind::compute:
    case Action::Kind::alias:
      break;
  }
  return "compute";
}

}  // namespace

void Trace::put(Event event) {
  if (events_.size() == kMostEvents) {
    ++left_out_;
    return;
  }
  event.end = Clock::now();
  events_.push_back(event);
}

void Trace::add(const Action& action, std::uint64_t run, Clock::time_point begin,
                std::uint64_t bytes) {
  put({.kind = action.kind,
       .op = action.op,
       .peer = action.peer,
       .run = run,
       .bytes = bytes,
       .begin = begin,
       .end = {}});
}

void Trace::add(const char* name, std::uint64_t run, Clock::time_point begin) {
  put({.name = name, .run = run, .begin = begin, .end = {}});
}

std::string Trace::json(const Program& program, const std::vector<std::string>& endpoints,
                        std::uint32_t self) const {
  using Json = nlohmann::json;
  Json events = Json::array();
  events.push_back({{"ph", "M"},
                    {"name", "process_name"},
                    {"pid", self},
                    {"tid", 0},
                    {"args", {{"name", endpoints.at(self)}}}});
  for (const Event& e : events_) {
    Json event = {{"ph", "X"},
                  {"pid", self},
                  {"tid", 0},
                  {"ts", microseconds(e.begin.time_since_epoch())},
                  {"dur", microseconds(e.end - e.begin)}};
    Json args = {{"run", e.run}};
    if (e.name != nullptr) {
      event["cat"] = "control";
      event["name"] = e.name;
    } else {
      const Op& op = program.ops[e.op];
      event["cat"] = category(e.kind);
      args["op"] = e.op;
      args["bytes"] = e.bytes;
      if (e.kind == Action::Kind::compute) {
        event["name"] = op.label.empty() ? std::string(spec_of(op.code).name)
                                         : std::string(spec_of(op.code).name) + " " + op.label;
        if (op.body) args["ops"] = op.body->ops.size();
      } else {
        const Message& m = program.messages[program.message_of_op[e.op]];
        event["name"] = m.step.empty() ? "message " + std::to_string(m.id) : m.step;
        args["peer"] = endpoints.at(e.peer);
        args["round"] = m.depth;
      }
    }
    event["args"] = std::move(args);
    events.push_back(std::move(event));
  }
  const Json root = {{"displayTimeUnit", "ms"},
                     {"otherData", {{"events_left_out", left_out_}}},
                     {"traceEvents", std::move(events)}};
  // Names come from a program, which need not be UTF-8.
  return root.dump(-1, ' ', true, Json::error_handler_t::replace);
}

}  // namespace mpcc::graph
