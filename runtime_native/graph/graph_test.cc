// Programs and reports of others: bodies are decoded once, what bytes unfold to is bounded, a plan
// is made in time, and the driver believes no report.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <thread>

#include "graph/cluster.h"
#include "graph/graphdef.h"
#include "graph/plan.h"
#include "graph/program.h"
#include "graph/report.h"
#include "kernels/limits.h"
#include "net/blame.h"
#include "net/tests/network.h"

namespace mpcc::graph {
namespace {

using net::testing::contains;
using net::testing::error_of;
using namespace std::chrono_literals;

RawAttr text(std::string value) {
  RawAttr a;
  a.kind = RawAttr::Kind::text;
  a.text = std::move(value);
  return a;
}
RawAttr number(std::int64_t value, RawAttr::Kind kind = RawAttr::Kind::integer) {
  RawAttr a;
  a.kind = kind;
  a.integer = value;
  return a;
}
RawAttr list(std::vector<std::int64_t> integers, std::vector<std::string> texts = {}) {
  RawAttr a;
  a.kind = RawAttr::Kind::list;
  a.integers = std::move(integers);
  a.texts = std::move(texts);
  return a;
}

std::string numbered(char letter, std::size_t n) {
  std::string name(1, letter);
  return name.append(std::to_string(n));
}
std::string bits(std::size_t lanes, std::size_t planes, const std::string& place = "P0") {
  std::string type("bits<");
  return type.append(std::to_string(lanes))
      .append("x")
      .append(std::to_string(planes))
      .append(">@")
      .append(place);
}

constexpr std::int64_t kUint8 = 4;  // what a node says of bits

// A program that grows node by node.
struct Writer {
  Writer() {
    RawNode header{"program", "MpccProgram", "", {}, {{"_attrs", text("{}")}}};
    graph.nodes.push_back(std::move(header));
    graph.producer = 2000;
  }

  static std::string device(const std::string& place) {
    const bool party = place[0] == 'P';
    std::string name("/job:");
    return name.append(party ? "party" : place)
        .append("/replica:0/task:")
        .append(1, party ? place[1] : '0')
        .append("/device:CPU:0");
  }

  // The number of the new node.
  std::size_t add(const std::string& op, const std::string& place, std::vector<std::string> inputs,
                  std::vector<std::pair<std::string, RawAttr>> attrs,
                  const std::vector<std::string>& types, std::int64_t dtype = kUint8) {
    const std::size_t n = graph.nodes.size() - 1;
    attrs.emplace_back("_types", list({}, types));
    attrs.emplace_back("T", number(dtype, RawAttr::Kind::type));
    graph.nodes.push_back(
        {numbered('n', n), op, device(place), std::move(inputs), std::move(attrs)});
    return n;
  }
  std::size_t draw(std::int64_t stream, const std::string& place, std::size_t lanes,
                   std::size_t planes = 8) {
    return add("MpccDrawBits", place, {},
               {{"key", text("P0+P1")},
                {"stream", number(stream)},
                {"phase", text("online")},
                {"place", text(place)},
                {"lanes", number(static_cast<std::int64_t>(lanes))},
                {"planes", number(static_cast<std::int64_t>(planes))}},
               {bits(lanes, planes, place)});
  }
  std::size_t transfer(std::size_t of, const std::string& to, std::size_t lanes) {
    return add("MpccTransfer", to, {numbered('n', of)}, {{"to", text(to)}, {"step", text("step")}},
               {bits(lanes, 8, to)});
  }
  // Regions one after another, all with one body that turns `planes` planes around.
  void fuse(std::size_t planes, std::size_t times) {
    RawFunction f;
    f.name = "fused_0";
    f.inputs = {{"a0", kUint8}};
    f.outputs = {{"r0", kUint8}};
    std::vector<std::int64_t> indices(planes);
    for (std::size_t i = 0; i < planes; ++i)
      indices[i] = static_cast<std::int64_t>((i + 1) % planes);
    f.nodes.push_back({"b0",
                       "MpccPlanes",
                       "",
                       {"a0"},
                       {{"indices", list(std::move(indices))},
                        {"_types", list({}, {bits(1, planes)})},
                        {"T", number(kUint8, RawAttr::Kind::type)}}});
    f.results = {{"r0", "b0:out:0"}};
    graph.functions = {std::move(f)};
    RawAttr name;
    name.kind = RawAttr::Kind::function;
    name.text = "fused_0";
    std::size_t last = draw(1, "P0", 1, planes);
    for (std::size_t i = 0; i < times; ++i)
      last = add("MpccFused", "P0", {numbered('n', last)}, {{"f", name}}, {bits(1, planes)});
  }

  Program load() const {
    const std::string bytes = write_graphdef(graph);
    return load_program(std::as_bytes(std::span(bytes)));
  }

  RawGraph graph;
};

TEST_CASE("uses of a body share it") {
  Writer w;
  w.fuse(100, 3);
  const Program program = w.load();
  REQUIRE(program.ops.size() == 4);
  CHECK(program.ops[1].body->ops.size() == 1);
  CHECK(program.ops[1].body == program.ops[2].body);
  CHECK(program.ops[1].body == program.ops[3].body);
}

TEST_CASE("a few bytes that stand for very much are refused before they are unfolded") {
  // The body has a few more items than planes.
  constexpr std::size_t kMostUses = kMaxItems / kMaxPlanes - 1;
  Writer most;
  most.fuse(kMaxPlanes, kMostUses);
  CHECK(most.load().ops.size() == kMostUses + 1);
  Writer more;
  more.fuse(kMaxPlanes, kMostUses + 1);
  const Error error = error_of([&] { more.load(); });
  CHECK(error.code() == "E-graph-limit");
  CHECK(contains(error.message(), "items of the program"));

  // Lists of empty strings, two bytes each.
  Writer strings;
  for (std::size_t i = 0; i <= kMaxItems / kMaxList; ++i)
    strings.add("MpccAdd", "P0", {}, {}, std::vector<std::string>(kMaxList));
  CHECK(contains(error_of([&] { strings.load(); }).message(), "items of the program"));

  // Nested attributes, whose items stand in a string.
  Writer nested;
  std::string brackets = "[[0]";
  for (std::size_t i = 0; i < kMaxList / 2; ++i) brackets += ",[0]";
  for (std::size_t i = 0; i <= kMaxItems / kMaxList; ++i)
    nested.add("MpccAnf", "P0", {}, {{"terms", text(brackets + "]")}}, {"bits<1x1>@P0"});
  CHECK(contains(error_of([&] { nested.load(); }).message(), "items of the program"));
}

TEST_CASE("a plan of values that leave holes everywhere: none overlaps while it lives") {
  // Values of many sizes, of which every second one ends before the others do.
  const auto lanes = [](std::size_t i) { return 600 + 64 * (i * 37 % 700); };
  Writer w;
  std::vector<std::size_t> held;
  for (std::size_t i = 0; i < 1500; ++i) {
    const std::size_t there = w.draw(static_cast<std::int64_t>(i) + 1, "P1", lanes(i));
    const std::size_t here = w.transfer(there, "P0", lanes(i));
    held.push_back(w.add("MpccNot", "P0", {numbered('n', here)}, {}, {bits(lanes(i), 8)}));
  }
  for (const std::size_t first : {0U, 1U})
    for (std::size_t i = first; i < held.size(); i += 2)
      (void)w.add("MpccNot", "P0", {numbered('n', held[i])}, {}, {bits(lanes(i), 8)});
  const Program program = w.load();
  const Plan plan = make_plan(program, default_endpoints(), 0);
  struct Interval {
    std::size_t begin, end;
    std::uint32_t value;
  };
  std::vector<Interval> alive;
  std::size_t most = 0;
  for (const Action& a : plan.online.actions) {
    for (const std::uint32_t v : program.ops[a.op].results) {
      if (a.kind != Action::Kind::compute) continue;
      REQUIRE(plan.home[v] == Home::arena);
      const Interval added{plan.offset[v], plan.offset[v] + program.values[v].bytes(), v};
      CHECK(added.end <= plan.online.arena_bytes);
      CHECK(std::ranges::none_of(alive, [&](const Interval& other) {
        return added.begin < other.end && other.begin < added.end;
      }));
      alive.push_back(added);
    }
    most = std::max(most, alive.size());
    for (const std::uint32_t v : a.ends)
      std::erase_if(alive, [v](const Interval& i) { return i.value == v; });
  }
  CHECK(most > 700);
}

// Two messages of P0 to P1 in a run.
Program sending_program() {
  Writer w;
  for (const std::int64_t stream : {1, 2}) (void)w.transfer(w.draw(stream, "P0", 1), "P1", 1);
  return w.load();
}

TEST_CASE("a report says what the program says, or is refused") {
  const Program program = sending_program();
  const auto read = [&](const std::string& json, Place place = Place::P0) {
    return read_report(std::as_bytes(std::span(json)), program, {place}, true);
  };
  const auto report = [](const std::string& sent, const std::string& messages,
                         const std::string& rounds, const std::string& rss = "1",
                         const std::string& wire = "2") {
    return R"({"bytes_sent":{)" + sent + R"(},"messages":)" + messages + R"(,"rounds":)" + rounds +
           R"(,"rss":)" + rss + R"(,"wire":)" + wire + R"(,"seconds":1.5})";
  };
  const std::string sent = R"("0->1":16)";
  const PhaseReport good = read(report(sent, "2", "1"));
  CHECK(good.bytes_sent == std::map<std::string, std::uint64_t>{{"0->1", 16}});
  CHECK(good.messages == 2);
  CHECK(good.rounds == 1);
  CHECK(good.rss_bytes == 1);
  CHECK(good.wire_bytes == 2);
  CHECK(read(report("", "0", "0"), Place::P1).messages == 0);
  for (const std::string& bad : {
           std::string(),
           std::string("[]"),
           std::string("{}"),
           report(sent, "2", "4294967295"),
           report(sent, "2", "1e300"),
           report(sent, "2", "-1"),
           report(sent, "2", "true"),
           report(sent, "2.0", "1"),
           report(sent, "3", "1"),
           report(R"("0->1":18446744073709551615)", "2", "1"),
           report(R"("0->1":17)", "2", "1"),
           report(R"("0->1":0)", "2", "1"),
           report(sent + R"(,"\u001b[2J":0)", "2", "1"),
           report(sent + R"(,"1->0":0)", "2", "1"),
           report(R"("\u001b[2J":16)", "2", "1"),
           report(sent, "2", "1", "1e300"),
           report(sent, "2", "1", "18446744073709551615"),
           report(sent, "2", "1", "1", "18446744073709551615"),
           report(sent, "2", "1", "1", "\"2\""),
           report(sent, "2", "1").substr(0, 40),
       }) {
    INFO(bad);
    CHECK(error_of([&] { read(bad); }).code() == "E-net-frame");
  }
}

TEST_CASE("the driver names whose report it refuses, and tells the others") {
  Writer w;
  const std::size_t x =
      w.add("MpccInput", "client", {},
            {{"name", text("x")}, {"shape", list({4})}, {"place", text("client")}},
            {"clear<4xf32>@client"}, 1);
  (void)w.add("MpccOutput", "client", {numbered('n', x)}, {{"name", text("y")}}, {}, 1);
  const Program program = w.load();
  const std::string good = R"({"bytes_sent":{},"messages":0,"rounds":0,"rss":1,"wire":1})";
  const std::string bad = R"({"bytes_sent":{},"messages":0,"rounds":4294967295,"rss":1,"wire":1})";
  auto network = net::make_in_memory_network(default_endpoints(), net::testing::test_options());
  std::vector<Error> heard(3, Error("", ""));
  std::vector<std::thread> parties;
  for (std::uint32_t i = 0; i < 3; ++i)
    parties.emplace_back([&, i] {
      heard[i] = error_of([&] {
        network[i]->expect(0, {});
        const std::string& said = i == 1 ? bad : good;
        network[i]->send_control(3, net::FrameKind::go, 0, std::as_bytes(std::span(said)));
        network[i]->wait_ready(1);
      });
    });
  Engine driver(program, *network[3], {});
  const Error error = error_of([&] { driver.setup({}); });
  for (auto& t : parties) t.join();
  CHECK(error.code() == "E-net-frame");
  for (const Error& e : {error, heard[0], heard[2]}) {
    INFO(std::string(e.what()));
    const auto blame = net::find_blame(e);
    REQUIRE(blame);
    CHECK(blame->party == "P1");
    CHECK(blame->step == "run 0, report");
  }
}

}  // namespace
}  // namespace mpcc::graph
